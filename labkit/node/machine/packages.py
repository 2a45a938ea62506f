"""What a virtual machine is made of and run by, from the distribution's packages, brought beside the system."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labkit.node.machine.tools import Tools, place
from labkit.node.packages.apt import Apt, ProgramsError, apt_usable
from labkit.node.packages.programs import Programs, ensure_programs
from labkit.node.packages.suites import read_os_release
from labkit.node.packages.unpack import Unpacked, fetch, load
from labkit.util.progress import Progress

KERNELS = {"debian": "linux-image-cloud-amd64", "ubuntu": "linux-image-virtual"}
"""The kernel for virtual machines, by the ID of os-release(5)."""
GUEST = ("socat", "iproute2", "coreutils", "findutils", "dash")
"""Beside the node's own programs: the door's, and what labkit asks a node with."""
GUEST_PROGRAMS = {
    "usr/bin/socat": "usr/bin/socat", "bin/ip": "sbin/ip", "bin/date": "bin/date", "usr/bin/timeout": "usr/bin/timeout",
    "usr/bin/env": "usr/bin/env", "usr/bin/find": "usr/bin/find", "bin/dash": "bin/sh", "bin/ls": "bin/ls",
}
"""Path in the packages → in the machine, where busybox' program of that name does less: its date sets a clock to the second only,
its timeout keeps the output open, its find has no -printf, its shell takes its own programs before those on PATH, and its ls
writes other columns than that of most nodes."""
LINKERS = ("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")
TOOLS = {"qemu-system-x86_64": "qemu-system-x86", "mksquashfs": "squashfs-tools", "zstd": "zstd"}


@dataclass(frozen=True)
class Parts:
    """What goes into the machine. `guest`: path in the machine → file here; `modules`: the kernel's directory of them.
    `linker`: the dynamic linker of the C library that the guest's programs find in `library_path`."""

    programs: Programs
    guest: Mapping[str, Path]
    kernel: Path
    modules: Path
    linker: Path
    library_path: str
    versions: Mapping[str, str]


def runs_here() -> str:
    """Why no virtual machine can run on this kind of machine; "" where it can."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return f"It is made for Linux on x86_64, and this is {platform.system()} on {platform.machine()}."
    return ""


def builds_here() -> str:
    """Why no virtual machine can be built on this kind of machine; "" where it can."""
    if reason := runs_here():
        return reason
    if not apt_usable() or read_os_release().get("ID") not in KERNELS:
        return "It is built of Debian's or Ubuntu's packages, and this is neither of them with apt-get."
    return ""


def find_tools(cache: Path, *, building: bool = False) -> Tools | None:
    """The programs that are here, on PATH or brought earlier; None where one is missing. Only to build one needs mksquashfs."""
    installed = {name: shutil.which(name) for name in TOOLS}
    if all(path for name, path in installed.items() if building or name != "mksquashfs"):
        qemu, mksquashfs, zstd = (Path(path or name) for name, path in installed.items())
        return Tools(qemu, mksquashfs, zstd, "", ())
    unpacked = load(place(cache, "tools"), tuple(TOOLS.values()))
    return _tools(unpacked) if unpacked else None


def ensure_tools(cache: Path, progress: Progress, *, building: bool = False) -> Tools:
    """As `find_tools`, brought first where they are missing (some 80 MB). Raises ProgramsError."""
    if tools := find_tools(cache, building=building):
        return tools
    if reason := builds_here():
        raise ProgramsError(f"qemu-system-x86_64 or zstd is missing. {reason}", "Install both, and try again.")
    progress("fetching qemu, mksquashfs and zstd")
    return _tools(fetch(tuple(TOOLS.values()), dest=place(cache, "tools"), dependencies=True, progress=progress))


def ensure_parts(cache: Path, progress: Progress) -> Parts:
    """The packages for the machine, brought where they are missing. Raises ProgramsError."""
    programs = ensure_programs(cache, progress)
    guest = fetch(GUEST, dest=place(cache, "guest"), progress=progress)
    wanted = KERNELS[read_os_release()["ID"]]
    kernel = load(place(cache, "kernel"), (wanted,)) or _bring_kernel(wanted, cache, progress)
    image = next(iter(sorted(kernel.root.glob("boot/vmlinuz-*"))), None)
    if image is None:
        raise ProgramsError(f"The packages of {wanted} have no kernel.", "Remove them from labkit's cache, and try again.")
    release = image.name.removeprefix("vmlinuz-")
    directories = [kernel.root / where / release / "kernel" for where in ("lib/modules", "usr/lib/modules")]
    return Parts(
        programs,
        {target: _file(guest.root, source) for source, target in GUEST_PROGRAMS.items()},
        image,
        next(directory for directory in directories if directory.is_dir()),
        next(root / where for root in (guest.root, Path("/")) for where in LINKERS if (root / where).exists()),
        os.pathsep.join(filter(None, [programs.library_path, *map(str, guest.library_path)])),
        {**programs.versions, **guest.versions, **kernel.versions},
    )


def _bring_kernel(wanted: str, cache: Path, progress: Progress) -> Unpacked:
    progress("fetching the kernel for virtual machines")
    apt = Apt(place(cache, "kernel").parent / "apt")
    names = apt.with_lists(lambda: kernel_packages(apt, wanted), progress)
    return fetch(names, dest=place(cache, "kernel"), progress=progress)


def kernel_packages(apt: Apt, wanted: str) -> list[str]:
    """`wanted` and what has its files: it only depends on the kernel's own package, whose name changes with each release, and
    Ubuntu's depends on that of its modules. Raises ProgramsError."""
    found = [wanted]
    for name in found:
        depends = {needed for package in apt.plan([name]) for needed in package.depends}
        found += sorted(needed for needed in depends - {*found} if needed.startswith(("linux-image-", "linux-modules-")))
    return found


def _tools(unpacked: Unpacked) -> Tools:
    root = unpacked.root
    data = tuple(root / "usr/share" / name for name in ("qemu", "seabios") if (root / "usr/share" / name).is_dir())
    library_path = os.pathsep.join(map(str, unpacked.library_path))
    return Tools(root / "usr/bin/qemu-system-x86_64", root / "usr/bin/mksquashfs", root / "usr/bin/zstd", library_path, data)


def _file(root: Path, path: str) -> Path:
    for candidate in (root / path, root / "usr" / path):
        if candidate.exists():
            return candidate
    raise ProgramsError(f"The packages {', '.join(GUEST)} have no {path}.", "labkit does not know this release yet.")


def titled(versions: Mapping[str, str], names: Sequence[str]) -> str:
    """ "containerd 1.6.20, runc 1.1.5": for people."""
    return ", ".join(f"{name} {versions[name].partition('~')[0].partition('+')[0]}" for name in names if name in versions)
