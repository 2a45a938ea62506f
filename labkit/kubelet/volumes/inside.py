"""Opens a path below a directory without leaving it, and mounts what was opened in another place.

A Pod that can write to a directory can replace what is in it by a link, between the check of a path and its use. So a path is
opened once, without following links, and then only its descriptor is used. openat2 (with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS)
finds the same as `open_below`, but makes no directories, and old kernels and some sandboxes do not have it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOUND = os.O_NOFOLLOW | (os.O_PATH if hasattr(os, "O_PATH") else 0)
OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
"""Numbers of system calls, the same on every architecture that the lab knows (include/uapi/asm-generic/unistd.h)."""
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE = 1, 1 << 5, 1 << 12, 1 << 14, 1 << 18, 1 << 19
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH, MOUNT_ATTR_RDONLY = 1, 4, 1
AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000


class Exchanged(ValueError):
    """A part of the path is a link, or not the name of a file."""


def parts_below(base: Path, path: Path) -> tuple[str, ...] | None:
    """The names that lead from `base` to `path` once links are followed; None where `path` leads out of `base`. Raises OSError.

    It may be out of date at once: `open_below` finds out.
    """
    start, end = Path(os.path.realpath(base)), Path(os.path.realpath(path))
    return end.relative_to(start).parts if end.is_relative_to(start) else None


def open_below(base: int, parts: Sequence[str], make: int | None = None) -> int:
    """A descriptor (O_PATH) of what lies at `parts` below the open directory `base`. Missing directories are made with mode
    `make`, if there is one. Raises OSError and Exchanged."""
    here = os.dup(base)
    try:
        for part in parts:
            there = _open_one(here, part, make)
            os.close(here)
            here = there
    except BaseException:
        os.close(here)
        raise
    return here


def _open_one(base: int, part: str, make: int | None) -> int:
    if part in ("", ".", "..") or "/" in part:
        raise Exchanged(f"{part!r} is not the name of a file")
    made = False
    if make is not None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(part, make, dir_fd=base)
            made = True
    found = os.open(part, FOUND, dir_fd=base)
    if stat.S_ISLNK(os.fstat(found).st_mode):
        os.close(found)
        raise Exchanged(f"{part!r} was exchanged for a link")
    if made:  # whatever the umask is
        os.chmod(f"/proc/self/fd/{found}", make or 0)
    return found


def mount(found: int, place: Path, *, read_only: bool = False, shared: bool = False) -> None:
    """Mount the file or directory of the descriptor `found` on `place`, which is made; an earlier mount there is removed.

    read_only: for the mounts below it too. shared: new mounts in `place` appear in the original too; else only the other way.
    The options are set before the copy is attached: unless it is shared, unmounting it never unmounts the original. Without these
    system calls (before Linux 5.12) the mounts below it are left out. Raises OSError.
    """
    unmount(place)
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    is_directory = stat.S_ISDIR(os.fstat(found).st_mode)
    if place.exists() and place.is_dir() != is_directory:
        place.unlink() if is_directory else place.rmdir()
    place.mkdir(exist_ok=True) if is_directory else place.touch()
    propagation = 0 if shared and not read_only else MS_SLAVE
    try:
        tree = _call(OPEN_TREE, found, b"", OPEN_TREE_CLONE | os.O_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE)
        try:
            wanted = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY if read_only else 0, 0, propagation, 0)
            _call(MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH | AT_RECURSIVE, wanted, ctypes.sizeof(wanted))
            _call(MOVE_MOUNT, tree, b"", AT_FDCWD, os.fsencode(place), MOVE_MOUNT_F_EMPTY_PATH)
        finally:
            os.close(tree)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):  # EPERM: a sandbox that does not know the call
            raise
        _mount(f"/proc/self/fd/{found}".encode(), place, MS_BIND)
        if propagation:
            _mount(None, place, propagation)
        if read_only:
            _mount(None, place, MS_REMOUNT | MS_BIND | MS_RDONLY)


def unmount(place: Path) -> None:
    """Unmount what is mounted on `place`, if anything is, but nothing of the original. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    target = os.fsencode(place)
    if libc.mount(None, target, None, MS_REC | MS_PRIVATE, None) == 0:  # fails where it is no mount point
        _checked(libc.umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW), f"cannot unmount {place}")


def _mount(source: bytes | None, place: Path, flags: int) -> None:
    _checked(ctypes.CDLL(None, use_errno=True).mount(source, os.fsencode(place), None, flags, None), f"cannot mount {place}")


def _call(number: int, *arguments: Any) -> int:
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    wide = (ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments)
    return _checked(syscall(ctypes.c_long(number), *wide), "cannot copy a mount")


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
