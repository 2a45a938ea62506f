"""The machine's Python: the distribution's own, with what the lab's kubelet needs, compiled beforehand.

The interpreter comes as packages do, the libraries as wheels of the very versions that run here, chosen by pip for that Python.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import labkit
from labkit.node.machine.root_files import libraries
from labkit.node.machine.tools import place
from labkit.node.packages.apt import Apt, ProgramsError
from labkit.node.packages.unpack import fetch, load
from labkit.util.progress import Progress
from labkit.util.showable import last_line

if TYPE_CHECKING:
    from labkit.node.machine.packages import Parts

PACKAGE = "python3-minimal"
"""It only depends on the interpreter's own packages, whose names have its version."""
ROOMS = ("kubelet", "podspec", "cri", "kernel", "util", "__init__.py")
"""Of labkit: what `python -m labkit.kubelet` imports."""
LIBRARIES = ("grpcio", "protobuf", "pyyaml", "tornado")
OWN = "inside-the-node"
DIRECTORY = "usr/lib/labkit"
"""In the machine: for PYTHONPATH."""
OLDEST_GLIBC = 5
LOADED = """
import os, sys
import labkit.kubelet.__main__
for module in list(sys.modules.values()):
    file = getattr(module, "__file__", None) or ""
    if file.endswith(".so"):
        print(os.path.relpath(file))
"""


@dataclass(frozen=True)
class Python:
    """`root`: its packages, unpacked; `wheels`: the libraries, with what they need; `version`: "3.11"; `versions`: of packages
    and wheels."""

    root: Path
    wheels: tuple[Path, ...]
    version: str
    versions: Mapping[str, str]

    @property
    def program(self) -> Path:
        return self.root / f"usr/bin/python{self.version}"

    @property
    def library(self) -> str:
        return f"usr/lib/python{self.version}"


def ensure_python(cache: Path, progress: Progress) -> Python:
    """Brought where it is missing. Raises ProgramsError."""
    where = place(cache, "python")
    unpacked = load(where, (PACKAGE,))
    if unpacked is None:
        progress("fetching the distribution's Python")
        apt = Apt(where.parent / "apt")
        names = apt.with_lists(lambda: packages(apt), progress)
        unpacked = fetch((PACKAGE, *names), dest=where, progress=progress)
    version = next(name for name in unpacked.versions if name.startswith("libpython3") and name.endswith("-stdlib"))
    version = version.removeprefix("libpython").removesuffix("-stdlib")
    files = wheels(where.with_name(f"{where.name}-wheels"), version, progress)
    versions = dict(path.name.split("-")[:2] for path in files)
    return Python(unpacked.root, files, version, {**unpacked.versions, **versions})


def packages(apt: Apt) -> list[str]:
    """The interpreter's and its library's. Raises ProgramsError."""
    program = next(name for package in apt.plan([PACKAGE]) for name in package.depends if name.startswith("python3."))
    library = f"lib{program.removesuffix('-minimal')}"
    return [program, f"{library}-minimal", f"{library}-stdlib"]


def wheels(directory: Path, version: str, progress: Progress) -> tuple[Path, ...]:
    """Files of the libraries as they are installed here, for that Python. Raises ProgramsError."""
    wanted = [f"{name}=={importlib.metadata.version(name)}" for name in LIBRARIES]
    note = directory / "wanted"
    if not note.exists() or note.read_text().split() != [version, *wanted]:
        progress(f"fetching {', '.join(LIBRARIES)} for Python {version}")
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as scratch:
            new = Path(scratch, "new")
            download(wanted, version, new)
            (new / "wanted").write_text(" ".join([version, *wanted]))
            shutil.rmtree(directory, ignore_errors=True)
            new.rename(directory)
    return tuple(sorted(directory.glob("*.whl")))


def download(wanted: Sequence[str], version: str, directory: Path) -> None:
    glibc = int(os.confstr("CS_GNU_LIBC_VERSION").split(".")[-1])  # type: ignore[union-attr]  # runs_here: it is Linux
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(glibc, OLDEST_GLIBC - 1, -1)]
    platforms += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--python-version", version,
         *(f"--platform={name}" for name in platforms), "--dest", directory, *wanted],
        stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace", check=False,
    )
    if done.returncode:
        why = last_line(done.stderr).removeprefix("ERROR: ")
        raise ProgramsError(f"pip could not fetch libraries for the machine: {why}.", "Check that pip works here, and try again.")


def lay_out(root: Path, python: Python, parts: Parts) -> list[Path]:
    """The standard library, the libraries and labkit's rooms below `root`, compiled; the files among them that the dynamic linker
    has to do with. Raises ProgramsError or OSError.

    Of the modules that are shared objects those stay that the kubelet loads, and those that need no library besides.
    """
    shutil.copytree(python.root / python.library, root / python.library, symlinks=True)
    target = root / DIRECTORY
    for wheel in python.wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)
    source = Path(labkit.__file__).parent
    for name in ROOMS:
        (target / "labkit").mkdir(exist_ok=True)
        if (source / name).is_dir():
            # what root's Python compiled here may be readable by root alone
            shutil.copytree(source / name, target / "labkit" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source / name, target / "labkit" / name)
    note = target / f"{OWN.replace('-', '_')}-{own_version()}.dist-info/METADATA"
    note.parent.mkdir()
    note.write_text(f"Metadata-Version: 2.1\nName: {OWN}\nVersion: {own_version()}\n")
    compile_all(root, python, parts)
    for path in (*target.rglob("*"), *(root / python.library).rglob("*.pyc")):
        if path.is_file():
            path.chmod(0o644)  # whatever the umask of this process is: a disk is the same whoever builds it
    loaded = run(root, python, parts, "-c", LOADED).splitlines()
    known = set(libraries([root / name for name in loaded], parts.linker, parts.library_path))
    shared = [path for where in (python.library, DIRECTORY) for path in sorted((root / where).rglob("*.so"))]
    kept = []
    for path in shared:
        path.chmod(0o755)
        if str(path.relative_to(root)) in loaded or known >= needs(path, parts):
            kept.append(path)
        else:
            path.unlink()
    return kept


def needs(path: Path, parts: Parts) -> set[str]:
    """What else the dynamic linker would load with it; something that nobody has where a library is not here."""
    try:
        return set(libraries([path], parts.linker, parts.library_path))
    except ProgramsError:
        return {""}


def compile_all(root: Path, python: Python, parts: Parts) -> None:
    """Compiled files in place of the sources, by that very Python: in emulation compiling takes seconds."""
    places = [root / python.library, root / DIRECTORY]
    for cached in [path for where in places for path in where.rglob("__pycache__")]:
        shutil.rmtree(cached)
    run(root, python, parts, "-m", "compileall", "-q", "-b", "-j1", "--invalidation-mode", "unchecked-hash", "-s", str(root),
        "-p", "/", *map(str, places))
    for path in [path for where in places for path in where.rglob("*")]:
        if path.suffix in (".py", ".pyi") and path.is_file():
            path.unlink()


def run(root: Path, python: Python, parts: Parts, *arguments: str) -> str:
    """Run the machine's Python here, on what is laid out; its standard output. Raises ProgramsError."""
    done = subprocess.run(
        [parts.linker, "--library-path", parts.library_path, python.program, "-S", *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace", check=False, cwd=root,
        env={"PYTHONHOME": str(root / "usr"), "PYTHONPATH": str(root / DIRECTORY), "PYTHONHASHSEED": "0",
             "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"},
    )
    if done.returncode:
        why = last_line(done.stdout + done.stderr)
        raise ProgramsError(f"Python {python.version} does not run for the machine: {why}.", "Try `labkit vm build` again.")
    return done.stdout


def own_version() -> str:
    try:
        return importlib.metadata.version(OWN)
    except importlib.metadata.PackageNotFoundError:
        return "0.0.0"


def sources() -> list[Path]:
    """Every file of labkit's own that goes into the machine: a change of one makes another machine."""
    base = Path(labkit.__file__).parent
    files = (path for name in ROOMS for path in ([base / name] if name.endswith(".py") else (base / name).rglob("*.*")))
    return sorted(path for path in files if path.suffix in (".py", ".binpb"))
