"""Debian packages unpacked into one directory of their own: complete or not there at all.

A directory is trusted only if it carries a record of what it holds and holds that and nothing else, by the SHA-256 of each file.
It is filled under another name and renamed when complete, under a lock, so neither a crash nor a second run at the same
time leaves anything half-made behind that a later run would use.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from labkit.node.packages.apt import Apt, Package, ProgramsError, disk_full, explain, run
from labkit.node.state import trust
from labkit.util.progress import Progress, quiet

RECORD = "contents.json"


@dataclass(frozen=True)
class Unpacked:
    """Packages unpacked under `root`; `versions` maps a package's name to its version.

    `library_path` are the directories to put into LD_LIBRARY_PATH, for libraries that the machine itself has not.
    """

    root: Path
    versions: dict[str, str]
    library_path: tuple[Path, ...]


def fetch(
    packages: Sequence[str],
    *,
    dest: Path,
    dependencies: bool = False,
    sources: Path | None = None,
    state: Path | None = None,
    progress: Progress = quiet,
) -> Unpacked:
    """Download `packages` (with apt's signature checks) and unpack them into `dest`; nothing of the system is changed.

    With `dependencies`, everything they depend on and that is not installed here comes along; without, only the shared
    libraries that their programs miss. `sources` (see Apt) names another suite, and `state` where its lists are kept. A `dest`
    that already holds them is used as it is, without network; anything else found there is replaced. Raises ProgramsError; an
    interrupt leaves nothing.
    """
    dest = dest.absolute()
    if found := load(dest, packages, dependencies=dependencies):
        return found
    with one_at_a_time(dest.parent, progress):
        if found := load(dest, packages, dependencies=dependencies):
            return found
        with filled(dest) as partial:
            apt = Apt(state or dest.parent / ("apt" if sources is None else f"apt-{dest.name}"), sources)
            apt.with_lists(lambda: _fill(partial, apt, packages, dependencies, progress), progress)
    if not (complete := load(dest, packages, dependencies=dependencies)):
        raise ProgramsError(f"{dest} was changed while labkit filled it.", "End whatever else writes there and try again.")
    return complete


@contextmanager
def filled(dest: Path) -> Iterator[Path]:
    """A directory whose `unpacked` becomes `dest` when the block ends well, in place of what was there; an error or an
    interrupt leaves `dest` as it was and nothing beside it. Raises ProgramsError for a full or read-only disk."""
    for stale in dest.parent.glob(f".{dest.name}.*"):
        shutil.rmtree(stale, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{dest.name}.", dir=dest.parent))
    try:
        yield partial
        if dest.exists():
            dest.rename(partial / "replaced")
        (partial / "unpacked").rename(dest)
    except OSError as error:
        raise disk_full(dest.parent) if error.errno in (errno.ENOSPC, errno.EDQUOT) else _cannot_write(dest, error) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load(dest: Path, packages: Sequence[str], *, dependencies: bool = False) -> Unpacked | None:
    """What an earlier fetch left in `dest`, if it holds all `packages` and every file is as it was."""
    try:
        record = json.loads((dest / RECORD).read_text())
        root = dest / "root"
        if not set(packages) <= set(record["packages"]) or (dependencies and not record["dependencies"]):
            return None
        if _links(root) != record["links"] or not _unchanged(dest, root, record):
            return None
        return Unpacked(root, dict(record["versions"]), tuple(root / name for name in record["library_path"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _fill(partial: Path, apt: Apt, packages: Sequence[str], dependencies: bool, progress: Progress) -> None:
    target, archives = partial / "unpacked", partial / "archives"
    for of_an_earlier_try in (target, archives):
        shutil.rmtree(of_an_earlier_try, ignore_errors=True)
    root = target / "root"
    root.mkdir(parents=True)
    plan = list(apt.plan(packages, dependencies=dependencies))
    _bring(plan, apt, partial, root, progress)
    while missing := _missing_libraries(root, library_path(root)):
        depends = {name for package in plan for name in package.depends if name.startswith("lib")}
        wanted = depends - {package.name for package in plan}
        if not wanted:
            raise ProgramsError(
                f"{', '.join(packages)} need {', '.join(sorted(missing))}, which no package that they depend on has.",
                "Install the package that has it with apt-get and try again.",
            )
        more = apt.plan(sorted(wanted))
        _bring(more, apt, partial, root, progress)
        plan += more
    write_record(target, packages, {package.name: package.version for package in plan}, dependencies=dependencies)


def write_record(target: Path, packages: Sequence[str], versions: dict[str, str], *, dependencies: bool = False) -> None:
    """Write down what lies in `target`/root, so that `load` trusts it."""
    root = target / "root"
    record: dict[str, Any] = {
        "packages": sorted(packages),
        "dependencies": dependencies,
        "versions": versions,
        "library_path": [str(directory.relative_to(root)) for directory in library_path(root)],
        "files": {},
        "links": _links(root),
    }
    for path in _regular_files(root):
        record["files"][str(path.relative_to(root))] = {"sha256": digest(path), "stamp": _stamp(path)}
    _write(target / RECORD, record)


def digest(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_checksum(file: Path, given: str, beside: str, todo: str) -> str:
    """The SHA-256 that `file` must have: the `given` one, else that in its neighbour with the suffix `beside`, as sha256sum(1)
    writes it. Raises ProgramsError where there is neither."""
    neighbour = file.with_name(f"{file.name}{beside}")
    text = given
    if not given:
        with suppress(OSError):
            text = neighbour.read_text(errors="replace")
    match = re.search(r"\b[0-9a-fA-F]{64}\b", text)
    if not match:
        lacks = f"{given} is no SHA-256" if given else f"no {neighbour.name} lies beside it, and --sha256 was not given"
        raise ProgramsError(f"There is no checksum for {file.name}: {lacks}.", todo)
    return match[0].lower()


@contextmanager
def verified(file: Path, expected: str, place: Path) -> Iterator[BinaryIO]:
    """A copy of `file`, open for reading and without a name, whose SHA-256 is `expected`: whoever can write to the file cannot
    change what was checked. It takes its space in `place`, a directory. Raises ProgramsError."""
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=place) as copy:
        found = hashlib.sha256()
        try:
            with file.open("rb") as source:
                while block := source.read(1 << 20):
                    found.update(block)
                    copy.write(block)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise disk_full(place) from None
            raise ProgramsError(f"{file} cannot be read ({error.strerror}).", "Give the path of the file.") from None
        if found.hexdigest() != expected:
            raise ProgramsError(
                f"{file.name} is not what its checksum says: {found.hexdigest()[:12]}… in place of {expected[:12]}….",
                "It was cut short or changed on its way: download it again.",
            )
        copy.seek(0)
        yield copy


def _unchanged(dest: Path, root: Path, record: dict[str, Any]) -> bool:
    """Whether `root` has the recorded files and no others. Only those are read that were touched since they were read last: no
    user can set a file's change time (man 7 inode)."""
    here = {str(path.relative_to(root)): path for path in _regular_files(root)}
    if here.keys() != record["files"].keys():
        return False
    touched = {name: _stamp(path) for name, path in here.items() if _stamp(path) != record["files"][name]["stamp"]}
    if any(digest(here[name]) != record["files"][name]["sha256"] for name in touched):
        return False
    if touched:
        for name, stamp in touched.items():
            record["files"][name]["stamp"] = stamp
        with suppress(OSError):
            _write(dest / RECORD, record)
    return True


def _stamp(path: Path) -> list[int]:
    found = path.lstat()
    return [found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns]


def _links(root: Path) -> dict[str, str]:
    found = (Path(base, name) for base, directories, names in os.walk(root) for name in (*directories, *names))
    return {str(path.relative_to(root)): os.readlink(path) for path in found if path.is_symlink()}


def _write(file: Path, record: dict[str, Any]) -> None:
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        draft.write_text(json.dumps(record, indent=1, sort_keys=True))
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def _bring(plan: Sequence[Package], apt: Apt, partial: Path, root: Path, progress: Progress) -> None:
    needed = sum(package.size + package.installed_size for package in plan)
    if shutil.disk_usage(partial).free < needed:
        raise disk_full(partial.parent, needed)
    archives = partial / "archives"
    archives.mkdir(exist_ok=True)
    for archive in apt.download(plan, archives, progress):
        progress(f"unpacking {archive.name.split('_')[0]}")
        code, output = run(["dpkg-deb", "--extract", str(archive), str(root)], {**os.environ, "LC_ALL": "C"})
        if code != 0:
            full = "No space left on device" in output
            raise disk_full(partial.parent, needed) if full else explain(output, f"unpack {archive.name}", root)
        archive.unlink()
    root.chmod(0o755)
    for path in _regular_files(root):
        if path.stat().st_mode & 0o6000:
            # No set-uid program may come to lie beside the system: dpkg-statoverride and updates would not reach it.
            path.chmod(path.stat().st_mode & 0o1777)


def library_path(root: Path) -> tuple[Path, ...]:
    """Directories below `root` that hold shared libraries: where the dynamic linker would look if `root` were / (ld.so(8)),
    and one level below, where some packages keep private ones."""
    bases = [root / "lib", root / "usr/lib", *root.glob("lib/*-linux-*"), *root.glob("usr/lib/*-linux-*")]
    private = [directory for base in bases[2:] for directory in sorted(base.glob("*")) if directory.is_dir()]
    return tuple(directory for directory in [*bases, *private] if any(directory.glob("lib*.so*")))


def _missing_libraries(root: Path, search: Sequence[Path]) -> set[str]:
    programs = [str(path) for path in _regular_files(root) if os.access(path, os.X_OK) and _is_elf(path)]
    if not programs:
        return set()
    environment = {**os.environ, "LC_ALL": "C", "LD_LIBRARY_PATH": os.pathsep.join(map(str, search))}
    _, output = run(["ldd", *programs], environment)
    if too_old := re.search(r"version `(\S+)' not found \(required by (\S+)\)", output):
        raise ProgramsError(
            f"{Path(too_old[2]).name} needs a newer C library than this machine has ({too_old[1]}).",
            "Use the packages of this machine's own release.",
        )
    return set(re.findall(r"^\s+(\S+) => not found", output, re.MULTILINE))


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _regular_files(root: Path) -> Iterator[Path]:
    for directory, _, names in os.walk(root):
        for name in sorted(names):
            path = Path(directory, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _cannot_write(dest: Path, error: OSError) -> ProgramsError:
    return ProgramsError(
        f"labkit cannot write {dest} ({error.strerror}).",
        "Make its parent directory writable, or set LABKIT_HOME to one that is.",
    )


@contextmanager
def one_at_a_time(directory: Path, progress: Progress) -> Iterator[None]:
    """Hold the directory's lock; a second labkit waits and says so. Makes the directory. Raises ProgramsError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        trust.require(directory, "Remove it, or set LABKIT_HOME to a directory that only you can write to.")
        lock = trust.append(directory / "lock")
    except OSError as error:
        raise _cannot_write(directory, error) from None
    with trust.locked(lock, lambda: progress("waiting for another labkit that fetches programs")):
        yield
