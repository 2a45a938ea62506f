"""Read /proc/PID of every process, with as few system calls as that needs.

The directory of a process is opened first and its files relative to it: such a descriptor stands for that one process, so a pid
that is used again in the middle cannot mix two processes up.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from labkit.kernel.cgroup_moves import Generation
from labkit.kernel.files import OPEN, Kept, read_bytes, read_text
from labkit.kernel.model import NAMESPACE_TYPES, Process
from labkit.kernel.parse import Stat, parse_cgroup, parse_cmdline, parse_namespace_link, parse_ns_pids, parse_stat

_LINKS = tuple(f"ns/{type}" for type in NAMESPACE_TYPES)
_CPUCLOCK_SCHED = 2
"""The kernel's include/linux/posix-timers.h: with the pid, the clock of a process's CPU time."""
_NOT_COUNTED = b"0 0 0\n"
"""/proc/PID/schedstat where the kernel's counters are switched off."""
Held = tuple[str, int, int, int]
"""(type, inode, pid, fd): a namespace, and the open file descriptor that holds it."""


class ProcReader:
    """Reads every process under `proc`, again and again; what most of them share is parsed once.

    A process that has not run since it was last read cannot have changed itself, so its state, arguments, credentials and
    namespaces are taken from that time. /proc/PID/schedstat (CONFIG_SCHED_INFO; the kernel counts each time that the main thread
    gets a CPU) tells whether it has run. What others can change while it sleeps is looked at each time: its parent, the name of
    its program's file, what other threads of it may write over, and its cgroups, unless the kernel's count of moves (see
    `labkit.kernel.cgroup_moves`) is as before. Where there is no schedstat, all is read each time.
    """

    def __init__(self, proc: str) -> None:
        self._proc = proc
        self._known: dict[int, _Known] = {}
        self._cgroups: dict[str, Mapping[str, str]] = {}
        self._pid_namespace: int | None = None
        self._moves = Generation(proc)
        self._moved: object = None
        self._stayed = False
        self._lock = threading.Lock()

    def read(self, fds: bool, programs: bool = True) -> tuple[list[Process], list[Held]]:
        """The processes, ascending by pid, and with `fds` what their open files hold. Left out without an error: what ends while
        it is read, and what the reader may not see at all (hidepid, man 5 proc). programs: whether the name of a sleeping
        process's program is looked at again. Raises OSError only where `proc` cannot be listed."""
        with self._lock:
            self._look(programs)
            processes = [known.process for known in self._known.values()]
            return processes, [each for known in self._known.values() for each in self._held(known)] if fds else []

    def _look(self, programs: bool) -> None:
        self._pid_namespace = own_namespace(self._proc, "pid") if _numbers_are_own(self._proc) else None
        before = self._known
        # Before any cgroup is read: a move that comes later makes the next count another one.
        moved = self._moves.now()
        self._stayed = moved is not None and moved == self._moved
        pids = sorted(int(name) for name in os.listdir(self._proc) if name.isdigit())
        found = {}
        for pid in pids:
            known = before.get(pid)
            if known is not None and self._unchanged(known, programs):
                found[pid] = known
            elif (now := self._read(pid, known)) is not None:
                found[pid] = now
        for pid, known in found.items():
            if known is before.get(pid) and _lost_its_parent(known, before, found):
                found[pid] = self._read(pid, known) or known
        used = {known.cgroup: known.process.cgroups for known in found.values()}
        self._known, self._cgroups, self._moved = found, used, moved

    def _unchanged(self, known: _Known, programs: bool) -> bool:
        process, kept = known.process, known.kept
        if not known.ran or process.state in "RZ":
            return False
        try:
            return (
                kept.read("schedstat") == known.ran
                and (self._stayed or _read_record(f"{self._proc}/{process.pid}/cgroup") == known.cgroup)
                and (not programs or known.kernel_thread or _exe(f"{self._proc}/{process.pid}/exe") == process.exe)
                and (process.threads == 1 or _same_to_other_threads(process, kept))
            )
        except OSError:
            return False

    def _read(self, pid: int, before: _Known | None) -> _Known | None:
        """The process, as one and the same object if it has run and is as before."""
        try:
            directory = os.open(f"{self._proc}/{pid}", os.O_PATH | os.O_DIRECTORY)
        except OSError:
            return None
        try:
            return self._process(directory, before)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return None
        finally:
            os.close(directory)

    def _process(self, directory: int, before: _Known | None) -> _Known:
        # Before all else: whatever the process does from now on, it runs again for it.
        ran = _ran(directory)
        namespaces = _namespaces(directory)
        # After them, so that a process which has given its namespaces up is known to be a zombie.
        stat = parse_stat(_read_record("stat", directory))
        if before and before.process.start_ns != stat.start_ns:
            before = None
        if stat.state == "Z" and stat.threads > 1 and (thread := _living_thread(directory, stat.pid)) is not None:
            try:
                return self._details(directory, stat, ran, _namespaces(thread), before, thread)
            finally:
                os.close(thread)
        return self._details(directory, stat, ran, namespaces, before)

    def _details(
        self, main: int, stat: Stat, ran: bytes, namespaces: Mapping[str, int], before: _Known | None, thread: int | None = None
    ) -> _Known:
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
        if before:
            ns_pids = before.process.ns_pids  # a process keeps its numbers as long as it lives
        elif namespaces.get("pid", 0) == self._pid_namespace:
            ns_pids = (pid,)
        else:
            ns_pids = parse_ns_pids(_read_record("status", main))
        # Last, because either succeeds only while the process exists: then all that was read before was there to be read.
        if before and self._stayed and stat.state not in "ZX":
            os.stat("cgroup", dir_fd=directory)
            cgroup = before.cgroup
        else:
            cgroup = _read_record("cgroup", directory)
        cgroups = self._cgroups.get(cgroup)
        if cgroups is None:
            cgroups = self._cgroups[cgroup] = MappingProxyType(parse_cgroup(cgroup))
        uid, gid = owner.st_uid, owner.st_gid
        process = Process(
            pid, stat.ppid, stat.comm, cmdline, stat.state, stat.start_ns, uid, gid, ns_pids, namespaces, cgroups, exe,
            stat.threads,
        )
        if before is None:
            return _Known(ran, cgroup, stat.kernel_thread, process, Kept(f"{self._proc}/{pid}"))
        before.kept.seen = None
        return _Known(ran, cgroup, stat.kernel_thread, before.process if process == before.process else process, before.kept)

    def _held(self, known: _Known) -> Sequence[Held]:
        """The namespaces that open files of a process hold."""
        process, kept = known.process, known.kept
        if known.kernel_thread:
            return ()
        directory = f"{self._proc}/{process.pid}/fd"
        seen = self._files_seen(known, directory)
        if seen is None or seen != kept.files_seen:
            own = self._pid_namespace is not None and process.pid == os.getpid()
            kept.files_seen, kept.held = seen, tuple(_held(process.pid, directory, OPEN if own else ()))
        return kept.held

    def _files_seen(self, known: _Known, directory: str) -> object | None:
        """Equal to an earlier answer where a process has the same files open as then; None where that cannot be told.

        Only a process that runs opens or closes its files. Its main thread is counted by schedstat, all of its threads by its CPU
        clock (man 3 clock_getcpuclockid), to which a thread that is running now adds at the next tick. How many files are open is
        the size of the directory since Linux 6.2, which tells what such a thread has opened, and a child that shares the files.
        """
        process = known.process
        if not known.ran or process.state in "RZ" or self._pid_namespace is None:
            return None
        try:
            clock = time.clock_gettime_ns(~process.pid << 3 | _CPUCLOCK_SCHED)
            count = os.stat(directory).st_size
        except OSError:
            return None
        return (known.ran, clock, count) if count else None


def _held(pid: int, path: str, without: Collection[int]) -> Iterator[Held]:
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        for name in os.listdir(directory):
            if without and int(name) in without:
                continue
            try:
                link = os.readlink(name, dir_fd=directory)
            except OSError:
                # Closed since.
                continue
            if link[-1] == "]" and link.partition(":[")[0] in NAMESPACE_TYPES:
                yield (*parse_namespace_link(link), pid, int(name))
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
    of that file. kept: its files that stay open."""

    ran: bytes
    cgroup: str
    kernel_thread: bool
    process: Process
    kept: Kept


def _same_to_other_threads(process: Process, kept: Kept) -> bool:
    """Whether the other threads have changed nothing of the process, and are as many."""
    # Of the directory of threads the kernel counts one link for each, and two more. The same is in stat, which takes longer.
    seen = kept.read("comm"), kept.read("cmdline"), kept.stat("task").st_nlink
    if seen != kept.seen:
        comm, cmdline, links = _decoded(seen[0]).removesuffix("\n"), parse_cmdline(_decoded(seen[1])), seen[2]
        if (comm, links - 2, cmdline) != (process.comm, process.threads, process.cmdline):
            return False
        kept.seen = seen
    return True


def _lost_its_parent(known: _Known, before: Mapping[int, _Known], now: Mapping[int, _Known]) -> bool:
    """Whether a process may have another parent since `before`: by the end of its parent, which it sleeps through."""
    ppid = known.process.ppid
    if not ppid:  # of another pid namespace, where its end cannot be seen
        return known.process.pid != 1
    if ppid not in before or ppid not in now or now[ppid].process.state in "ZX":
        return True
    return now[ppid].process.start_ns != before[ppid].process.start_ns


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
    return _decoded(read_bytes(name, directory))


def _decoded(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _ran(directory: int) -> bytes:
    try:
        ran = read_bytes("schedstat", directory)
    except OSError:
        return b""
    return b"" if ran == _NOT_COUNTED else ran


def _exe(path: str, directory: int | None = None) -> str:
    try:
        return os.readlink(path, dir_fd=directory)
    except OSError:
        return ""
