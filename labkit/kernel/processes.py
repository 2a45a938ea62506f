"""Read /proc/PID of every process once, with as few system calls as that needs.

The directory of a process is opened first and its files relative to it: such a descriptor stands for that one process, so a pid
that is used again in the middle cannot mix two processes up.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from labkit.kernel.model import NAMESPACE_TYPES, Mount, Process
from labkit.kernel.parse import (
    nsfs_mounts,
    parse_cgroup,
    parse_cmdline,
    parse_mountinfo,
    parse_namespace_link,
    parse_ns_pids,
    parse_stat,
)

# Type, link, and where the number begins in its text, "net:[4026531840]".
_LINKS = tuple((type, f"ns/{type}".encode(), len(type) + 2) for type in NAMESPACE_TYPES)
_READ_SIZE = 65536
Held = tuple[str, int, int, int]
"""(type, inode, pid, fd): a namespace, and the open file descriptor that holds it."""


class ProcReader:
    """Reads every process under `proc` in one pass; what most of them share is read or parsed once.

    fds: whether to look at open files too. mounts: the node's own, so that pins tells of others only.
    After read(), `held` has what open files hold, and `pins` (type, inode, path) the bind mounts of namespaces that only mount
    namespaces other than the node's have, each through /proc/PID/root.
    """

    def __init__(self, proc: str, fds: bool, mounts: Iterable[Mount]) -> None:
        self.held: list[Held] = []
        self.pins: list[tuple[str, int, str]] = []
        self._proc = proc
        self._fds = fds
        self._pid_namespace = _own_namespace(proc, "pid") if _numbers_are_own(proc) else None
        self._mount_namespaces = {_own_namespace(proc, "mnt")}
        self._pinned = set(nsfs_mounts(mounts))
        self._cgroups: dict[str, Mapping[str, str]] = {}

    def read(self) -> list[Process]:
        """Ascending by pid. Left out without an error: what ends while it is read, and what the reader may not see at all
        (hidepid, man 5 proc). Raises OSError only where `proc` cannot be listed."""
        processes = []
        for pid in sorted(int(name) for name in os.listdir(self._proc) if name.isdigit()):
            try:
                directory = os.open(f"{self._proc}/{pid}", os.O_PATH | os.O_DIRECTORY)
            except OSError:
                continue
            try:
                processes.append(self._process(directory))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            finally:
                os.close(directory)
        return processes

    def _process(self, directory: int) -> Process:
        namespaces = _namespaces(directory)
        # After them, so that a process which has given its namespaces up is known to be a zombie.
        stat = parse_stat(_read_record("stat", directory))
        pid = stat.pid
        cmdline: tuple[str, ...] = ()
        exe = ""
        held: list[Held] = []
        if not stat.kernel_thread:
            cmdline = parse_cmdline(_read_record("cmdline", directory))
            exe = _exe(directory)
            if self._fds:
                held = _held(self._proc, pid, directory)
        # The owner of the directory, unlike that of the files in it, is always the effective user (the kernel's task_dump_owner).
        # That spares status, the most expensive of the files, wherever there is no other pid to be learnt from it.
        owner = os.fstat(directory)
        at_home = namespaces.get("pid", 0) == self._pid_namespace
        ns_pids = (pid,) if at_home else parse_ns_pids(_read_record("status", directory))
        # Last, because it succeeds only while the process exists: then all that was read before was there to be read.
        cgroups = self._cgroup(_read_record("cgroup", directory))
        self.held += held
        self._look_for_pins(namespaces.get("mnt"), pid, directory)
        uid, gid = owner.st_uid, owner.st_gid
        return Process(pid, stat.ppid, stat.comm, cmdline, stat.state, stat.start_ns, uid, gid, ns_pids, namespaces, cgroups, exe)

    def _look_for_pins(self, mount_namespace: int | None, pid: int, directory: int) -> None:
        if mount_namespace is None or mount_namespace in self._mount_namespaces:
            return
        try:
            # The kernel writes mountstats in little more than half the time, enough to see that there is nothing to see.
            text = read_text("mountstats", directory)
            text = read_text("mountinfo", directory) if " with fstype nsfs" in text else ""
        except OSError:
            # It ended. Another process may be in the same mount namespace and still be there to ask.
            return
        self._mount_namespaces.add(mount_namespace)
        lines = "\n".join(line for line in text.split("\n") if " nsfs " in line)
        for type, inode, path in nsfs_mounts(parse_mountinfo(lines)):
            # A mount namespace begins as a copy of another, so the same mount is met again and again.
            if (type, inode, path) not in self._pinned:
                self._pinned.add((type, inode, path))
                self.pins.append((type, inode, f"/proc/{pid}/root{path}"))

    def _cgroup(self, text: str) -> Mapping[str, str]:
        cgroups = self._cgroups.get(text)
        if cgroups is None:
            cgroups = self._cgroups[text] = MappingProxyType(parse_cgroup(text))
        return cgroups


def read_text(path: str, directory: int | None = None) -> str:
    """A whole file, however many reads the kernel hands it out in. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY, dir_fd=directory)
    try:
        chunks = []
        while chunk := os.read(descriptor, _READ_SIZE):
            chunks.append(chunk)
    finally:
        os.close(descriptor)
    return b"".join(chunks).decode(errors="surrogateescape")


def _own_namespace(proc: str, type: str) -> int | None:
    try:
        return parse_namespace_link(os.readlink(f"{proc}/self/ns/{type}"))[1]
    except OSError:
        return None


def _numbers_are_own(proc: str) -> bool:
    """Whether the pids under `proc` are those of the reader's own pid namespace."""
    try:
        return len(parse_ns_pids(read_text(f"{proc}/self/status"))) == 1
    except OSError:
        return False


def _namespaces(directory: int) -> dict[str, int]:
    namespaces = {}
    for type, link, start in _LINKS:
        try:
            namespaces[type] = int(os.readlink(link, dir_fd=directory)[start:-1])
        except OSError:
            continue
    return namespaces


def _read_record(name: str, directory: int) -> str:
    # These files are one record each: the kernel hands a record out whole when there is room for it.
    descriptor = os.open(name, os.O_RDONLY, dir_fd=directory)
    try:
        data = os.read(descriptor, _READ_SIZE)
        while len(data) % _READ_SIZE == 0 and (more := os.read(descriptor, _READ_SIZE)):
            data += more
    finally:
        os.close(descriptor)
    return data.decode(errors="surrogateescape")


def _exe(directory: int) -> str:
    try:
        return os.readlink("exe", dir_fd=directory)
    except OSError:
        return ""


def _held(proc: str, pid: int, directory: int) -> list[Held]:
    held = []
    try:
        names = os.listdir(f"{proc}/{pid}/fd")
    except OSError:
        return []
    for name in names:
        try:
            link = os.readlink(f"fd/{name}", dir_fd=directory)
        except OSError:
            # Closed since, as the one that listed them is.
            continue
        if link[-1] == "]" and link.partition(":[")[0] in NAMESPACE_TYPES:
            held.append((*parse_namespace_link(link), pid, int(name)))
    return held
