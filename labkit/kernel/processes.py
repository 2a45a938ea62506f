"""Read /proc/PID of every process, with as few system calls as that needs.

The directory of a process is opened first and its files relative to it: such a descriptor stands for that one process, so a pid
that is used again in the middle cannot mix two processes up.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from labkit.kernel.model import NAMESPACE_TYPES, Process
from labkit.kernel.parse import Stat, parse_cgroup, parse_cmdline, parse_namespace_link, parse_ns_pids, parse_stat

_LINKS = tuple(f"ns/{type}" for type in NAMESPACE_TYPES)
_READ_SIZE = 65536
_NOT_COUNTED = b"0 0 0\n"
"""/proc/PID/schedstat where the kernel's counters are switched off."""
Held = tuple[str, int, int, int]
"""(type, inode, pid, fd): a namespace, and the open file descriptor that holds it."""


class ProcReader:
    """Reads every process under `proc`, again and again; what most of them share is parsed once.

    A process that has not run since it was last read cannot have changed itself, so its state, arguments, credentials and
    namespaces are taken from that time. /proc/PID/schedstat (CONFIG_SCHED_INFO; the kernel counts each time that the main thread
    gets a CPU) tells whether it has run. What others can change while it sleeps is read each time: its cgroups, its parent, the
    name of its program's file, and what other threads of it may write over. Where there is no schedstat, all is read each time.
    """

    def __init__(self, proc: str) -> None:
        self._proc = proc
        self._known: dict[int, _Known] = {}
        self._cgroups: dict[str, Mapping[str, str]] = {}
        self._pid_namespace: int | None = None

    def read(self, fds: bool) -> tuple[list[Process], list[Held]]:
        """The processes, ascending by pid, and with `fds` what their open files hold. Left out without an error: what ends while
        it is read, and what the reader may not see at all (hidepid, man 5 proc). Raises OSError only where `proc` cannot be
        listed."""
        self._pid_namespace = own_namespace(self._proc, "pid") if _numbers_are_own(self._proc) else None
        before = self._known
        pids = sorted(int(name) for name in os.listdir(self._proc) if name.isdigit())
        found = {pid: known for pid in pids if (known := self._unchanged(before.get(pid)) or self._read(pid, before.get(pid)))}
        for pid, known in found.items():
            if known is before.get(pid) and _lost_its_parent(known, before, found):
                found[pid] = self._read(pid, known) or known
        used = {known.cgroup: known.process.cgroups for known in found.values()}
        self._known, self._cgroups = found, used
        processes = [known.process for known in found.values()]
        return processes, [each for known in found.values() for each in self._held(known)] if fds else []

    def _unchanged(self, known: _Known | None) -> _Known | None:
        if known is None or not known.ran or known.process.state in "RZ":
            return None
        directory = f"{self._proc}/{known.process.pid}/"
        try:
            same = _read_bytes(directory + "schedstat") == known.ran and _read_record(directory + "cgroup") == known.cgroup
            same = same and (known.kernel_thread or _exe(directory + "exe") == known.process.exe)
            return known if same and (known.process.threads == 1 or _same_to_other_threads(directory, known.process)) else None
        except OSError:
            return None

    def _read(self, pid: int, before: _Known | None) -> _Known | None:
        """The process, as one and the same object if it has run and is as before."""
        try:
            directory = os.open(f"{self._proc}/{pid}", os.O_PATH | os.O_DIRECTORY)
        except OSError:
            return None
        try:
            known = self._process(directory)
            return known._replace(process=before.process) if before and before.process == known.process else known
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return None
        finally:
            os.close(directory)

    def _process(self, directory: int) -> _Known:
        # Before all else: whatever the process does from now on, it runs again for it.
        ran = _ran(directory)
        namespaces = _namespaces(directory)
        # After them, so that a process which has given its namespaces up is known to be a zombie.
        stat = parse_stat(_read_record("stat", directory))
        if stat.state == "Z" and stat.threads > 1 and (thread := _living_thread(directory, stat.pid)) is not None:
            try:
                return self._details(directory, stat, ran, _namespaces(thread), thread)
            finally:
                os.close(thread)
        return self._details(directory, stat, ran, namespaces)

    def _details(self, main: int, stat: Stat, ran: bytes, namespaces: Mapping[str, int], thread: int | None = None) -> _Known:
        """All else of the process whose directory `main` is, from that of another `thread` where its main one has ended."""
        pid, directory = stat.pid, main if thread is None else thread
        cmdline: tuple[str, ...] = ()
        exe = ""
        if not stat.kernel_thread:
            cmdline = parse_cmdline(_read_record("cmdline", directory))
            exe = _exe("exe", directory)
        # The owner of the directory, unlike that of the files in it, is always the effective user (the kernel's task_dump_owner).
        # That spares status, the most expensive of the files, wherever there is no other pid to be learnt from it.
        owner = os.fstat(directory)
        at_home = namespaces.get("pid", 0) == self._pid_namespace
        ns_pids = (pid,) if at_home else parse_ns_pids(_read_record("status", main))
        # Last, because it succeeds only while the process exists: then all that was read before was there to be read.
        cgroup = _read_record("cgroup", directory)
        cgroups = self._cgroups.get(cgroup)
        if cgroups is None:
            cgroups = self._cgroups[cgroup] = MappingProxyType(parse_cgroup(cgroup))
        uid, gid = owner.st_uid, owner.st_gid
        return _Known(
            ran,
            cgroup,
            stat.kernel_thread,
            Process(pid, stat.ppid, stat.comm, cmdline, stat.state, stat.start_ns, uid, gid, ns_pids, namespaces, cgroups, exe,
                    stat.threads),
        )  # fmt: skip

    def _held(self, known: _Known) -> Iterator[Held]:
        """The namespaces that open files of a process hold."""
        if known.kernel_thread:
            return
        try:
            directory = os.open(f"{self._proc}/{known.process.pid}/fd", os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return
        try:
            for name in os.listdir(directory):
                try:
                    link = os.readlink(name, dir_fd=directory)
                except OSError:
                    # Closed since.
                    continue
                if link[-1] == "]" and link.partition(":[")[0] in NAMESPACE_TYPES:
                    yield (*parse_namespace_link(link), known.process.pid, int(name))
        except OSError:  # it has ended
            return
        finally:
            os.close(directory)


def _living_thread(directory: int, pid: int) -> int | None:
    """The open directory of the oldest thread of a process whose main thread has ended; None where the others have, too."""
    for name in sorted(os.listdir(f"/proc/self/fd/{directory}/task"), key=int):
        if int(name) != pid:
            with contextlib.suppress(OSError):
                return os.open(f"task/{name}", os.O_PATH | os.O_DIRECTORY, dir_fd=directory)
    return None


class _Known(NamedTuple):
    """A process as it was read. ran: the text of its schedstat before that, b"" where the kernel does not count. cgroup: the text
    of that file."""

    ran: bytes
    cgroup: str
    kernel_thread: bool
    process: Process


def _same_to_other_threads(directory: str, process: Process) -> bool:
    """Whether the other threads have changed nothing of the process, and are as many."""
    stat = parse_stat(_read_record(directory + "stat"))
    cmdline = parse_cmdline(_read_record(directory + "cmdline"))
    return (stat.comm, stat.threads, cmdline) == (process.comm, process.threads, process.cmdline)


def _lost_its_parent(known: _Known, before: Mapping[int, _Known], now: Mapping[int, _Known]) -> bool:
    """Whether a process may have another parent since `before`: by the end of its parent, which it sleeps through."""
    ppid = known.process.ppid
    if not ppid:  # of another pid namespace, where its end cannot be seen
        return known.process.pid != 1
    if ppid not in before or ppid not in now or now[ppid].process.state in "ZX":
        return True
    return now[ppid].process.start_ns != before[ppid].process.start_ns


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


def own_namespace(proc: str, type: str) -> int | None:
    """The inode of this process's namespace of a type; None where `proc` is another pid namespace's."""
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


def _namespaces(directory: int) -> Mapping[str, int]:
    links = []
    for name in _LINKS:
        try:
            links.append(os.readlink(name, dir_fd=directory))
        except OSError:
            continue
    return _parsed(tuple(links))


@lru_cache(maxsize=4096)
def _parsed(links: tuple[str, ...]) -> Mapping[str, int]:
    """One mapping for all processes that are in the same namespaces, as most are."""
    return dict(map(parse_namespace_link, links))


def _read_record(name: str, directory: int | None = None) -> str:
    return _read_bytes(name, directory).decode(errors="surrogateescape")


def _read_bytes(name: str, directory: int | None = None) -> bytes:
    # These files are one record each: the kernel hands a record out whole when there is room for it.
    descriptor = os.open(name, os.O_RDONLY, dir_fd=directory)
    try:
        data = os.read(descriptor, _READ_SIZE)
        while data and len(data) % _READ_SIZE == 0 and (more := os.read(descriptor, _READ_SIZE)):
            data += more
    finally:
        os.close(descriptor)
    return data


def _ran(directory: int) -> bytes:
    try:
        ran = _read_bytes("schedstat", directory)
    except OSError:
        return b""
    return b"" if ran == _NOT_COUNTED else ran


def _exe(path: str, directory: int | None = None) -> str:
    try:
        return os.readlink(path, dir_fd=directory)
    except OSError:
        return ""
