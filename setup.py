"""Puts notebooks/ into the package when a wheel is built: in a checkout they are beside it. All else is in pyproject.toml."""

import os
import shutil
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

IGNORED = shutil.ignore_patterns(".*", "__pycache__")


class BuildWithNotebooks(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "labkit", "notebooks")
            shutil.rmtree(target, ignore_errors=True)  # build/ may have those of another version
            shutil.copytree("notebooks", target, ignore=IGNORED)


class SdistWithLinks(sdist):
    """Setuptools leaves out symbolic links that lead nowhere here: those of a root file system that tests use."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        for link in (path for path in Path("tests").rglob("*") if path.is_symlink() and not path.exists()):
            target = Path(base_dir, link)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(os.readlink(link))


class WithData(Distribution):
    """An editable installation has the data files too: setuptools asks for them by a name that its own class lacks."""

    def has_data(self) -> bool:
        return bool(self.has_data_files())


setup(distclass=WithData, cmdclass={"build_py": BuildWithNotebooks, "sdist": SdistWithLinks})
