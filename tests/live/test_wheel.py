"""The packages that would be published: complete, and enough to take the course."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import CI, ROOT

REQUIRES = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
EXECUTE = """
import sys, nbformat, nbclient
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": "."}}).execute()
outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
print(*(output.text for output in outputs if output.output_type == "stream"))
"""


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Every file that git knows here."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in listed.split("\0") if name and os.path.lexists(ROOT / name)}


@pytest.fixture(scope="module")
def built(known: set[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An sdist, and a wheel that was built from it, of the files that git knows."""
    tree, tools, out = (tmp_path_factory.mktemp(name) for name in ("tree", "tools", "out"))
    for name in known:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name, follow_symlinks=False)
    subprocess.run([sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--target", tools, *REQUIRES], check=True)

    def build(what: str, place: Path) -> Path:
        text = f"import setuptools.build_meta as backend; print('built', backend.build_{what}({str(out)!r}))"
        done = subprocess.run([sys.executable, "-c", text], cwd=place, capture_output=True, text=True, check=True,
                              env={**os.environ, "PYTHONPATH": str(tools)})
        return out / done.stdout.splitlines()[-1].removeprefix("built ")

    sdist = build("sdist", tree)
    unpacked = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["tar", "-xf", sdist, "--strip-components=1"], cwd=unpacked, check=True)
    return sdist, build("wheel", unpacked)


def test_the_sdist_has_every_file_that_git_knows(built: tuple[Path, Path], known: set[str]) -> None:
    with tarfile.open(built[0]) as archive:
        files = {member.name.partition("/")[2] for member in archive.getmembers() if not member.isdir()}
    made = {name for name in files if name in ("PKG-INFO", "setup.cfg") or name.startswith("inside_the_node.egg-info/")}
    assert files - made == known


def test_the_wheel_has_every_file_of_the_package_and_the_notebooks(built: tuple[Path, Path], known: set[str]) -> None:
    with zipfile.ZipFile(built[1]) as archive:
        files = {name for name in archive.namelist() if name.startswith("labkit/")}
        data = {name.partition(".data/")[2] for name in archive.namelist()} - {""}
    package = {name for name in known if name.startswith("labkit/")}
    notebooks = {f"labkit/{name}" for name in known if name.startswith("notebooks/")}
    assert files == package | notebooks
    assert data == {"data/etc/jupyter/jupyter_server_config.d/inside-the-node.json"}


@pytest.fixture
def home() -> Iterator[Path]:
    """A home for a node, with the programs that the tests have brought."""
    if os.geteuid() != 0 and not CI:
        pytest.skip("needs root; CI runs it")
    with tempfile.TemporaryDirectory(prefix="lk-", dir="/tmp") as base:
        yield Path(base)


def test_a_wheel_is_the_course(built: tuple[Path, Path], home: Path, programs: Path, tmp_path: Path) -> None:
    (home / "cache").symlink_to(programs)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environ = {**clean, "LABKIT_HOME": str(home), "LABKIT_NODE": "containerd", "IPYTHONDIR": str(tmp_path / "ipython")}

    def run(program: str, *arguments: str | Path, cwd: Path = tmp_path) -> str:
        command = [tmp_path / "fresh/bin" / program, *arguments]
        done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, f"{program} {arguments}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    subprocess.run([sys.executable, "-m", "venv", tmp_path / "fresh"], check=True)
    run("python", "-m", "pip", "install", "-qq", "--no-compile", "-c", ROOT / "constraints.txt", built[1])
    assert str(tmp_path / "fresh") in run("python", "-c", "import labkit; print(labkit.__file__)")
    made = json.loads(run("labkit", "course", "mine", "--json"))
    assert made["directory"] == str(tmp_path / "mine") and len(made["added"]) > 8
    try:
        first = next((tmp_path / "mine").glob("00-*.ipynb"))
        assert "kind containerd" in run("python", "-c", EXECUTE, first.name, cwd=first.parent)
        run("python", "-c", "from labkit.node.remote.kind_cluster import CONFIG; CONFIG.read_text()")
    finally:
        report = json.loads(run("labkit", "clean", "--json"))
    assert report["left"] == []
    enabled = run("python", "-m", "jupyter", "server", "extension", "list")
    assert "labkit.course.jupyter" in enabled
