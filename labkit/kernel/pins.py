"""Find bind mounts of namespaces that only mount namespaces other than the node's have.

A mount table can be long, and each Pod has one. listmount(2) (Linux 6.8; of another mount namespace since 6.11) tells the ids of
the mounts in one, and an id is never used again: while the ids are the same, no mount has come. Since Linux 6.15 they need not be
listed again where the kernel tells of no change. Older kernels' tables are read whole.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import sys
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import NamedTuple

from labkit.kernel.files import libc, read_text
from labkit.kernel.model import Mount, Process
from labkit.kernel.mounts import MountWatch
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


class PinReader:
    """Looks for the mounts again and again. From the second look on the kernel is asked to tell what changes: it is not worth its
    price to whoever looks once."""

    def __init__(self, proc: str) -> None:
        self._proc = proc
        self._tables: dict[int, _Table] = {}
        self._looked = False
        self._watch: MountWatch | None = None

    def read(self, processes: Iterable[Process], own: int | None, mounts: Iterable[Mount]) -> list[Pin]:
        """Each through the /proc/PID/root of a process in the mount namespace. own: the node's mount namespace; mounts: those in
        it, which are left out, as is what the reader may not see."""
        members: dict[int, list[int]] = {}
        for process in processes:
            if (namespace := process.namespaces.get("mnt", own)) != own and namespace is not None:
                members.setdefault(namespace, []).append(process.pid)
        before, tables = self._before(), {}
        # A mount namespace begins as a copy of another, so the same mount is met again and again.
        met, pins = set(nsfs_mounts(mounts)), []
        for namespace, pids in members.items():
            for pid in pids:
                try:
                    tables[namespace], found = self._look(pid, namespace, before.get(namespace))
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

    def _before(self) -> dict[int, _Table]:
        """The tables as they were, of which none counts as watched where any has changed."""
        if not self._looked:
            self._looked = True
            return {}
        try:
            self._watch = self._watch or MountWatch()
            if not self._watch.changed():
                return self._tables
        except OSError:
            self._watch = None
        # Also of a mount namespace that has ended: its number may be another's by now.
        return {namespace: table._replace(watched=False) for namespace, table in self._tables.items()}

    def _look(self, pid: int, namespace: int, before: _Table | None) -> tuple[_Table, list[Pin]]:
        directory = f"{self._proc}/{pid}"
        if before is None or not before.watched:
            with _opened(f"{directory}/ns/mnt") as descriptor:
                watched = self._add(descriptor, namespace)
                id, mounts = listmount(descriptor)
            if not mounts:
                # The kernel writes mountstats in little more than half the time of mountinfo.
                seen = " with fstype nsfs" in read_text(f"{directory}/mountstats")
                return _Table(0, b"", (), False), _from_mountinfo(directory) if seen else []
            before = _table(id, mounts, watched, before)
        # A process with another root directory sees other paths than those from the root of its mount namespace.
        if before.pins and os.readlink(f"{directory}/root") != "/":
            return before, _from_mountinfo(directory)
        # The path is asked for each time: it changes when a mount below it is moved.
        return before, [pin for each in before.pins if (pin := _pin(before.id, each))]

    def _add(self, descriptor: int, namespace: int) -> bool:
        """Watch a mount namespace from now on, before its mounts are listed, if the descriptor is of that one. Whether it is."""
        with contextlib.suppress(OSError):
            if self._watch and os.fstat(descriptor).st_ino == namespace:
                self._watch.add(descriptor)
                return True
        return False


class _Table(NamedTuple):
    """What listmount tells of a mount namespace, b"" where it cannot be had, and the ids of those that are of a namespace. id: of
    the mount namespace. watched: whether the kernel tells of changes."""

    id: int
    mounts: bytes
    pins: tuple[int, ...]
    watched: bool


def _table(id: int, mounts: bytes, watched: bool, before: _Table | None) -> _Table:
    if before is not None and mounts == before.mounts:
        return before._replace(watched=watched)
    old, known = (set(ids(before.mounts)), before.pins) if before else (set[int](), ())
    room = ctypes.create_string_buffer(_ANSWER.size)
    pins = (each for each in ids(mounts) if each in known or (each not in old and _is_nsfs(id, each, room)))
    return _Table(id, mounts, tuple(pins), watched)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def listmount(namespace: int) -> tuple[int, bytes]:
    """The id of the mount namespace of which a descriptor is given, and for `ids` the mounts in it: b"" where the kernel does not
    tell, or not this user."""
    number = bytearray(8)
    try:
        fcntl.ioctl(namespace, _NS_GET_MNTNS_ID, number)
    except OSError:
        return 0, b""
    id = int.from_bytes(number, sys.byteorder)
    found = b""
    some = (ctypes.c_uint64 * _MANY)()
    while True:
        request = _REQUEST.pack(_REQUEST.size, 0, _LSMT_ROOT, ids(found)[-1] if found else 0, id)
        count = libc.syscall(_LISTMOUNT, request, some, _MANY, 0)
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
    return not libc.syscall(_STATMOUNT, request, answer, len(answer), 0) and _ANSWER.unpack_from(answer)[0] == _NSFS_MAGIC


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
    return None if libc.syscall(_STATMOUNT, request, answer, len(answer), 0) else answer.raw
