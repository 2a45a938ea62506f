"""Find bind mounts of namespaces that only mount namespaces other than the node's have.

A mount table can be long, and each Pod has one. listmount(2) (Linux 6.8; of another mount namespace since 6.11) tells the ids of
the mounts in one, and an id is never used again: while the ids are the same, no mount has come. Older kernels' tables are read
whole.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys
from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

from labkit.kernel.files import read_text
from labkit.kernel.model import Mount, Process
from labkit.kernel.parse import nsfs_mounts, parse_mountinfo, parse_namespace_link

Pin = tuple[str, int, str]
"""(type, inode, path) of a bind mount of a namespace."""

# The kernel's include/uapi/linux/mount.h, nsfs.h and magic.h. Newer system calls have one number on every architecture.
_STATMOUNT, _LISTMOUNT = 457, 458
_REQUEST = Struct("=IIQQQ")  # struct mnt_id_req: size, spare, mnt_id, param, mnt_ns_id
_LSMT_ROOT = 2**64 - 1
_SB_BASIC, _MNT_ROOT, _MNT_POINT = 1, 8, 16
_ANSWER = Struct("=24xQ72xII400x")  # struct statmount: sb_magic; where mnt_root and mnt_point are in the text that follows
_NSFS_MAGIC = 0x6E736673
_NS_GET_MNTNS_ID = 0x8008B705
_MANY = 4096
_PATH_MAX = 4096

_libc = ctypes.CDLL(None, use_errno=True)


class PinReader:
    """Looks for the mounts again and again."""

    def __init__(self, proc: str) -> None:
        self._proc = proc
        self._tables: dict[int, _Table] = {}

    def read(self, processes: Iterable[Process], own: int | None, mounts: Iterable[Mount]) -> list[Pin]:
        """Each through the /proc/PID/root of a process in the mount namespace. own: the node's mount namespace; mounts: those in
        it, which are left out, as is what the reader may not see."""
        members: dict[int, list[int]] = {}
        for process in processes:
            if (namespace := process.namespaces.get("mnt", own)) != own and namespace is not None:
                members.setdefault(namespace, []).append(process.pid)
        before, tables = self._tables, {}
        # A mount namespace begins as a copy of another, so the same mount is met again and again.
        met, pins = set(nsfs_mounts(mounts)), []
        for namespace, pids in members.items():
            for pid in pids:
                try:
                    tables[namespace], found = self._look(pid, before.get(namespace))
                except OSError:
                    # It ended, or may not be asked. Another process may be in the same mount namespace and still be there.
                    continue
                for type, inode, path in found:
                    if (type, inode, path) not in met:
                        met.add((type, inode, path))
                        pins.append((type, inode, f"{self._proc}/{pid}/root{path}"))
                break
        self._tables = tables
        return pins

    def _look(self, pid: int, before: _Table | None) -> tuple[_Table, list[Pin]]:
        directory = f"{self._proc}/{pid}"
        id, mounts = listmount(f"{directory}/ns/mnt")
        if not mounts:
            # The kernel writes mountstats in little more than half the time of mountinfo.
            seen = " with fstype nsfs" in read_text(f"{directory}/mountstats")
            return _Table(b"", ()), _from_mountinfo(directory) if seen else []
        if before is None or mounts != before.mounts:
            old, known = (set(ids(before.mounts)), before.pins) if before else (set[int](), ())
            room = ctypes.create_string_buffer(_ANSWER.size)
            pins = [each for each in ids(mounts) if each in known or (each not in old and _is_nsfs(id, each, room))]
            before = _Table(mounts, tuple(pins))
        # A process with another root directory sees other paths than those from the root of its mount namespace.
        if before.pins and os.readlink(f"{directory}/root") != "/":
            return before, _from_mountinfo(directory)
        # The path is asked for each time: it changes when a mount below it is moved.
        return before, [pin for each in before.pins if (pin := _pin(id, each))]


class _Table(NamedTuple):
    """What listmount tells of a mount namespace, b"" where it cannot be had, and the ids of those that are of a namespace."""

    mounts: bytes
    pins: tuple[int, ...]


def listmount(namespace: str) -> tuple[int, bytes]:
    """The id of the mount namespace at a path of /proc, and for `ids` the mounts in it: b"" where the kernel does not tell, or
    not this user. Raises OSError where there is no such namespace."""
    number = bytearray(8)
    descriptor = os.open(namespace, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, _NS_GET_MNTNS_ID, number)
    except OSError:
        return 0, b""
    finally:
        os.close(descriptor)
    id = int.from_bytes(number, sys.byteorder)
    found = b""
    some = (ctypes.c_uint64 * _MANY)()
    while True:
        request = _REQUEST.pack(_REQUEST.size, 0, _LSMT_ROOT, ids(found)[-1] if found else 0, id)
        count = _libc.syscall(_LISTMOUNT, request, some, _MANY, 0)
        if count < 0:
            return 0, b""
        found += memoryview(some).cast("B")[: 8 * count]
        if count < _MANY:
            return id, found


def ids(mounts: bytes) -> memoryview:
    """The ids of mounts, ascending."""
    return memoryview(mounts).cast("Q")


def _from_mountinfo(directory: str) -> list[Pin]:
    lines = [line for line in read_text(f"{directory}/mountinfo").split("\n") if " nsfs " in line]
    return nsfs_mounts(parse_mountinfo("\n".join(lines)))


def _is_nsfs(namespace: int, mount: int, answer: ctypes.Array[ctypes.c_char]) -> bool:
    """answer: room for a struct statmount, one for all, since there are thousands of mounts."""
    request = _REQUEST.pack(_REQUEST.size, 0, mount, _SB_BASIC, namespace)
    return not _libc.syscall(_STATMOUNT, request, answer, len(answer), 0) and _ANSWER.unpack_from(answer)[0] == _NSFS_MAGIC


def _pin(namespace: int, mount: int) -> Pin | None:
    """None where it has gone, or cannot be reached from the root of its mount namespace."""
    answer = _statmount(namespace, mount, _MNT_ROOT | _MNT_POINT)
    if answer is None:
        return None
    _, *places = _ANSWER.unpack_from(answer)
    root, path = (answer[_ANSWER.size + place :].partition(b"\0")[0].decode(errors="surrogateescape") for place in places)
    return (*parse_namespace_link(root), path) if path else None


def _statmount(namespace: int, mount: int, mask: int) -> bytes | None:
    answer = ctypes.create_string_buffer(_ANSWER.size + 2 * _PATH_MAX)
    request = _REQUEST.pack(_REQUEST.size, 0, mount, mask, namespace)
    return None if _libc.syscall(_STATMOUNT, request, answer, len(answer), 0) else answer.raw
