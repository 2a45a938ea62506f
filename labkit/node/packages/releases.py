"""Releases of containerd beside the node's first one: those that are here, those that can be had, and how they are brought.

A newer one comes as the first ones do, as a package of another release of the distribution: apt's signatures checked, unpacked
beside the system. One that no suite has comes from a release file of containerd's own, with its checksum. They lie beside each
other in the cache, each in a directory of its own; the node's runc serves them all.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from labkit.node.packages import suites, versions
from labkit.node.packages.apt import Apt, ProgramsError, apt_usable
from labkit.node.packages.programs import BINARY_DIRECTORIES, Programs, find_programs
from labkit.node.packages.unpack import (
    Unpacked,
    fetch,
    filled,
    load,
    one_at_a_time,
    require_checksum,
    verified,
    write_record,
)
from labkit.util.progress import Progress, quiet
from labkit.util.showable import last_line

PACKAGE = "containerd"
FILES = ("containerd", "containerd-shim-runc-v2", "ctr")
LARGEST = 1 << 29
"""Bytes of a program. Those of today have a tenth of that; a few bytes of an archive can unpack to any number."""
WHERE = "https://github.com/containerd/containerd/releases"


@dataclass(frozen=True)
class Release:
    """One containerd that is here. `version` is upstream's, "1.7.24"; `package` the distribution's, "1.7.24~ds1-6"."""

    version: str
    package: str
    containerd: Path
    shim: Path
    ctr: Path
    library_path: str
    default: bool = False

    def programs(self, base: Programs) -> Programs:
        """The node's programs with this containerd, its shim and its ctr in place of their own."""
        libraries = os.pathsep.join(filter(None, (self.library_path, base.library_path)))
        return replace(base, containerd=self.containerd, shim=self.shim, ctr=self.ctr, library_path=libraries)


@dataclass(frozen=True)
class Offer:
    """One containerd that can be fetched: its version, the package's, and the suite that has it."""

    version: str
    package: str
    suite: str


def here(cache: Path) -> tuple[Release, ...]:
    """Every containerd that can run now, the oldest first; the node's first one is `default`."""
    directories = [*_place(cache).glob("[0-9]*"), *_place(cache).glob("file-*")]
    found = list({r.version: r for directory in directories if (r := _load(directory))}.values())
    base = find_programs(cache)
    if PACKAGE not in base.missing and "containerd-shim-runc-v2" not in base.missing:
        package = base.versions.get(PACKAGE, "")
        own = Release(versions.upstream(package), package, base.containerd, base.shim, base.ctr, base.library_path, default=True)
        found = [own, *(r for r in found if r.version != own.version)]
    return tuple(sorted(found, key=lambda r: versions.order(r.version)))


def find(cache: Path, wanted: str) -> Release | None:
    """The newest one here that `wanted` means ("1.7", "1.7.24", "2", "2.x", "default"); None where none is."""
    return pick(here(cache), wanted)


def pick(found: Sequence[Release], wanted: str) -> Release | None:
    """The newest of `found`, which are sorted, that `wanted` means; None where none is."""
    meant = [r for r in found if (r.default if wanted == "default" else versions.means(wanted, r.version))]
    return meant[-1] if meant else None


def offers(cache: Path, progress: Progress = quiet) -> tuple[Offer, ...]:
    """What the other suites of this machine's distribution have, the oldest first. Asks their mirrors. Raises ProgramsError."""
    found, trouble = _asked(cache, None, progress)
    if not found and trouble:
        raise trouble
    return tuple(sorted({offer.version: offer for offer in reversed(found)}.values(), key=lambda o: versions.order(o.version)))


def ensure(cache: Path, wanted: str, progress: Progress = quiet) -> Release:
    """The containerd that `wanted` means, fetched first where it is not here. Idempotent; without network when it is here.

    `wanted` is a version or the beginning of one: "1.7", "1.7.24", "2", "2.x", "default". Raises ProgramsError; a package that is
    cut short or not the one that was signed is refused and changes nothing; an interrupt is undone.
    """
    if not (wanted == "default" or re.fullmatch(r"v?\d+(\.(\d+|x)){0,2}([-~.]?(rc|beta|alpha)[.\d]*)?", wanted)):
        raise ProgramsError(f"{wanted!r} is no version of containerd.", "Say for example 1.7, 1.7.24 or 2.")
    if found := find(cache, wanted):
        return found
    asked, trouble = _asked(cache, wanted, progress)
    for offer in asked:
        if versions.means(wanted, offer.version):
            dest = _place(cache) / offer.version
            sources = _sources_file(cache, offer.suite)
            fetch([PACKAGE], dest=dest, sources=sources, state=sources.with_suffix(".apt"), progress=progress)
            if release := _load(dest):
                return release
            raise ProgramsError(f"The package {PACKAGE} {offer.package} lacks one of {', '.join(FILES)}.", instead(wanted))
    if trouble:
        raise trouble
    known = ", ".join(f"{o.version} ({o.suite})" for o in asked) or "none"
    raise ProgramsError(f"There is no containerd {wanted} here, and of the other suites' ({known}) none is it.", instead(wanted))


def from_file(cache: Path, file: Path, sha256: str = "", progress: Progress = quiet) -> Release:
    """Unpack a release file of containerd's own (containerd-VERSION-linux-ARCH.tar.gz: bin/containerd, its shim, ctr).

    Its SHA-256 is required: `sha256`, else from FILE.sha256sum beside it. Raises ProgramsError, and nothing is changed then.
    """
    expected = require_checksum(file, sha256, ".sha256sum", f"Download it from the same page, {WHERE}.")
    progress(f"checking {file.name}")
    dest = _place(cache) / f"file-{expected[:12]}"
    with verified(file, expected, dest.parent) as data, one_at_a_time(dest.parent, progress):
        if not _load(dest):
            with filled(dest) as partial:
                progress(f"unpacking {file.name}")
                root = partial / "unpacked" / "root"
                _extract(file.name, data, root)
                write_record(partial / "unpacked", [PACKAGE], {PACKAGE: _says(root / "bin" / "containerd", file.name)})
    release = _load(dest)
    assert release is not None
    return release


def instead(wanted: str) -> str:
    """What to do for a version that no suite has."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return (
        "`labkit fetch containerd` lists the versions. For any other release download"
        f" containerd-VERSION-linux-{machine}.tar.gz and its .sha256sum from {WHERE},"
        " then `labkit fetch containerd --from FILE`."
    )


def _asked(cache: Path, wanted: str | None, progress: Progress) -> tuple[list[Offer], ProgramsError | None]:
    """Suites asked one after the other, until one has `wanted`; what each has, and the first thing that went wrong."""
    if not apt_usable():
        return [], ProgramsError("This machine has no apt-get to fetch packages with.", instead(wanted or ""))
    found: list[Offer] = []
    trouble = None
    for suite in suites.others(suites.read_os_release()):
        try:
            package = _candidate(cache, suite, progress)
        except ProgramsError as error:
            trouble = trouble or (None if "does not have a Release file" in error.happened else error)
            continue
        found.append(Offer(versions.upstream(package), package, suite))
        if wanted and versions.means(wanted, found[-1].version):
            break
    return found, trouble


def _candidate(cache: Path, suite: str, progress: Progress) -> str:
    sources = _sources_file(cache, suite)
    with one_at_a_time(_place(cache), progress):
        apt = Apt(sources.with_suffix(".apt"), sources)
        plan = apt.with_lists(lambda: apt.plan([PACKAGE]), lambda text: progress(f"{suite}: {text}"))
        return next(p.version for p in plan if p.name == PACKAGE)


def _sources_file(cache: Path, suite: str) -> Path:
    text = suites.sources(suite, suites.read_os_release())
    if not text:
        raise ProgramsError("No package source of this machine has its own release, so no mirror is known.", instead(""))
    file = _place(cache) / f"{suite}.sources"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    except OSError as error:
        reason = f"labkit cannot write {file} ({error.strerror})."
        raise ProgramsError(reason, "Set LABKIT_HOME to a directory that can be written.") from None
    return file


def _place(cache: Path) -> Path:
    release = suites.read_os_release()
    system = f"{release.get('ID', 'linux')}-{release.get('VERSION_ID') or release.get('VERSION_CODENAME') or 'rolling'}"
    return cache / "containerd" / f"{system}-{platform.machine()}"


def _load(directory: Path) -> Release | None:
    unpacked = load(directory, [PACKAGE])
    return _release(unpacked) if unpacked else None


def _release(unpacked: Unpacked) -> Release | None:
    binaries = [unpacked.root / directory for directory in BINARY_DIRECTORIES]
    paths = [next((d / name for d in binaries if os.access(d / name, os.X_OK)), None) for name in FILES]
    if None in paths:
        return None
    containerd, shim, ctr = (path for path in paths if path)
    package = unpacked.versions[PACKAGE]
    return Release(versions.upstream(package), package, containerd, shim, ctr, os.pathsep.join(map(str, unpacked.library_path)))


def _extract(file: str, data: BinaryIO, root: Path) -> None:
    """The three programs and nothing else, as files of root's that are not set-uid, whatever the archive says."""
    (root / "bin").mkdir(parents=True)
    try:
        with tarfile.open(fileobj=data) as archive:
            for name in FILES:
                program = archive.extractfile(_member(archive.getmembers(), name, file))
                assert program is not None
                target = root / "bin" / name
                with program, target.open("wb") as out:
                    shutil.copyfileobj(program, out, 1 << 20)
                target.chmod(0o755)
    except (tarfile.TarError, EOFError) as error:
        raise ProgramsError(f"{file} is no release file of containerd ({error}).", f"Download one from {WHERE}.") from None


def _member(members: Sequence[tarfile.TarInfo], name: str, file: str) -> tarfile.TarInfo:
    for member in members:
        if member.isfile() and member.name.removeprefix("./") == f"bin/{name}" and member.size <= LARGEST:
            return member
    raise ProgramsError(f"{file} has no bin/{name}, so it is no release file of containerd.", f"Download one from {WHERE}.")


def _says(program: Path, file: str) -> str:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except OSError as error:
        raise ProgramsError(f"The containerd in {file} does not run here ({error.strerror}).", instead("")) from None
    match = re.search(r"\bv?(\d+\.\d+\.\d+\S*)", done.stdout)
    if not match:
        words = last_line(done.stderr)
        raise ProgramsError(f"The containerd in {file} does not run here: {words}.", instead(""))
    return versions.upstream(match[1])
