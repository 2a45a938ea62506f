"""The versions of containerd for a virtual machine: its own, with which it was built, and those that are here beside it."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from labkit.node.machine import build, guest, root_files
from labkit.node.machine.packages import LINKERS
from labkit.node.packages import releases, versions
from labkit.node.packages.apt import ProgramsError
from labkit.node.packages.releases import Release
from labkit.node.state import status
from labkit.node.vm.vm_home import MachinePaths
from labkit.util.progress import Progress

PROGRAMS = ("containerd", "containerd-shim-runc-v2")


def own(places: MachinePaths) -> Release:
    """That of the image which runs, or would run. Its paths are the machine's. Raises ProgramsError."""
    package = status.read(places.home).get("containerd")
    if package is None:
        image = build.find(places.lab.cache)
        if image is None:
            raise ProgramsError("The virtual machine is not built.", "Run `labkit up --node vm`.")
        package = image.versions["containerd"]
    containerd, shim, ctr = (Path("/usr/bin", name) for name in (*PROGRAMS, "ctr"))
    return Release(versions.upstream(package), package, containerd, shim, ctr, "", default=True)


def here(places: MachinePaths) -> tuple[Release, ...]:
    """Every version that the machine can run now, the oldest first."""
    first = own(places)
    others = [r for r in releases.here(places.lab.cache) if not r.default and r.version != first.version]
    return tuple(sorted([first, *others], key=lambda r: versions.order(r.version)))


def ensure(places: MachinePaths, wanted: str, progress: Progress) -> Release:
    """As `releases.ensure`, for this machine. Raises ProgramsError."""
    return releases.pick(here(places), wanted) or releases.ensure(places.lab.cache, wanted, progress)


def directory(release: Release) -> Path:
    """Where it lies in the machine, when it does."""
    return guest.RELEASES / release.version


def packed(release: Release) -> bytes:
    """A tar of its programs, and of the libraries that came with it. Raises OSError, ProgramsError."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, path in sorted(contents(release)):
            entry = tar.gettarinfo(path, name)
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mode = 0o755
            with path.open("rb") as file:
                tar.addfile(entry, file)
    return data.getvalue()


def contents(release: Release) -> Iterator[tuple[str, Path]]:
    yield "bin/containerd", release.containerd
    yield "bin/containerd-shim-runc-v2", release.shim
    brought = [Path(directory).resolve() for directory in release.library_path.split(os.pathsep) if directory]
    if brought:
        linker = next(Path("/", where) for where in LINKERS if Path("/", where).exists())
        needed = root_files.libraries([release.containerd, release.shim], linker, release.library_path)
        for target, source in needed.items():
            if source.resolve().parent in brought:
                yield f"lib/{Path(target).name}", source.resolve()
