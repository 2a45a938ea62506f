"""The proc connector as an EventStream: one reader for each CPU (connector_process), whose messages become events here."""

from __future__ import annotations

import bisect
import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from labkit.kernel.events import connector_process, connector_socket
from labkit.kernel.events.connector_process import Record
from labkit.kernel.events.connector_socket import COMM, EXEC, EXIT, FORK, UID
from labkit.kernel.events.reader_process import KEPT, ReaderProcess, end, killed, receive, start, wait_readable
from labkit.kernel.events.stream import Batch, Event, EventsError, EventStream
from labkit.kernel.files import read_text
from labkit.kernel.parse import parse_cmdline, parse_namespace_link

PRECISION = "Each fork, exec and exit with the kernel's own time stamp, to the nanosecond (proc connector)."
SETTLED_NS = 40_000_000
"""What one reader tells may come so much later than what another one does. After that it is in order."""
EXEC_NS = 500_000
"""Between an exec's new memory, in which its argv is, and the exec's message lies less than this."""
EXITS_WITHIN_S = 2.0


def watch(room: int = connector_socket.RECEIVE_BYTES) -> EventStream:
    """Every process event of this machine's kernel from now on, from the proc connector.

    room: bytes that the kernel keeps for messages not yet read, for each CPU. Raises EventsError where it cannot be read: without
    CAP_NET_ADMIN, in a container, or where the kernel has none.
    """
    cpus = sorted(os.sched_getaffinity(0)) if may_be_real_time() else [-1]
    # The first also reads for CPUs on which we may not run.
    others = ",".join(map(str, cpus[1:]))
    readers: list[ReaderProcess] = []
    try:
        program = connector_process.__file__
        readers += [start(program, str(cpu), others if cpu == cpus[0] else "", str(room)) for cpu in cpus]
        for reader in readers:
            word, words = receive(reader)
            if word != "ready":
                raise EventsError(*(words or (killed(reader), "Try again.")))
    except BaseException:
        end(readers)
        raise
    connector = Connector(readers)
    return EventStream("proc-connector", PRECISION, connector.batches(), connector.stop)


def may_be_real_time() -> bool:
    """Tried in a thread of its own, since it is a thread's property (man 7 sched) and ends with it."""
    allowed = []

    def attempt() -> None:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
            allowed.append(True)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return bool(allowed)


class Connector:
    """Puts the readers' messages in order and makes events of them, from its making until stop()."""

    def __init__(self, readers: list[ReaderProcess]) -> None:
        self.readers = readers
        self.wake, self.waker = socket.socketpair()
        self.from_ns, self.until_ns = time.monotonic_ns(), 1 << 63
        self.pending: list[Record] = []
        self.lost = self.threads = 0
        self.next: dict[int, int] = {}  # CPU -> number of its next message
        self.last: dict[int, Record] = {}  # pid -> the record of its fork or of its last exec
        # A process has ended when its last thread has. Its main thread may end before that, or an exec in another thread end it.
        self.tasks = list_tasks()
        self.statuses: dict[int, int] = {}
        self.early: dict[int, int] = {}  # task -> when it ended, of those whose fork another reader is late to tell

    def stop(self) -> None:
        if self.until_ns == 1 << 63:
            self.until_ns = time.monotonic_ns()
            # The thread may be gone already, with its end of it.
            with contextlib.suppress(OSError):
                self.waker.send(b".")

    def batches(self) -> Iterator[Batch]:
        """Until stop(). Raises EventsError where a reader was killed."""
        poll = select.poll()
        for fd in (self.wake.fileno(), *(reader.channel.fileno() for reader in self.readers)):
            poll.register(fd, select.POLLIN)
        try:
            while self.until_ns == 1 << 63:
                poll.poll(SETTLED_NS // 1_000_000 if self.pending else None)
                # More will come: a message seldom comes alone, and waking up for each would cost more than to read it.
                time.sleep(0.01)
                before = time.monotonic_ns()
                dead = [reader for reader in self.readers if self.collect(reader)[1]]
                yield self.batch(min(before - SETTLED_NS, self.until_ns) if not dead else 1 << 63)
                if dead:
                    raise EventsError(killed(dead[0]), KEPT)
            yield from self.finish()
        finally:
            end(self.readers)
            self.wake.close()
            self.waker.close()

    def finish(self) -> Iterator[Batch]:
        """What had happened when stop() was called. A marker on each CPU comes after all of it, except for exits: the kernel
        announces those a moment after wait (man 2 wait) has told of them, and they are known by their absence from /proc."""
        for reader in self.readers:
            with contextlib.suppress(OSError):
                reader.channel.send(b".")
        dead = []
        for reader in self.readers:
            marked = ended = False
            while not (marked or ended):
                wait_readable(reader.channel)
                marked, ended = self.collect(reader)
            dead += [reader] if ended else []
        yield self.batch(1 << 63)
        gone = {(pid, task) for pid, tasks in self.tasks.items() for task in tasks if has_ended(pid, task)}
        until = time.monotonic() + EXITS_WITHIN_S
        while (missing := {(pid, task) for pid, task in gone if task in self.tasks.get(pid, ())}) and not dead:
            if time.monotonic() > until:
                break
            for reader in self.readers:
                self.collect(reader)
            self.pending = [each for each in self.pending if each.what == EXIT and (each.pid, each.task) in missing]
            self.until_ns = max([self.until_ns, *(record.at_ns for record in self.pending)])
            yield self.batch(1 << 63)
            time.sleep(0.001)
        self.lost += len(missing)
        yield Batch((), self.lost, self.threads)
        if dead:
            raise EventsError(killed(dead[0]), KEPT)

    def collect(self, reader: ReaderProcess) -> tuple[bool, bool]:
        """Take all messages that wait; whether there was a mark, and whether the reader has ended."""
        marked = False
        with contextlib.suppress(BlockingIOError):
            while True:
                word, received = receive(reader, socket.MSG_DONTWAIT)
                if not word:
                    return marked, True
                records = [Record(*fields) for fields in received]
                for record in records:
                    self.count(record.cpu, record.seq)
                self.pending += records
                marked = marked or word == "marked"
        return marked, False

    def count(self, cpu: int, seq: int) -> None:
        """Find gaps in the numbers of a CPU's messages, which come in their order, though not always in that of their time."""
        missing = (seq - self.next.get(cpu, seq)) & 0xFFFFFFFF
        if missing >= 1 << 31:  # one that was taken for lost
            self.lost -= self.lost > 0
            return
        if missing:
            self.lost += missing
            self.tasks |= list_tasks()
        self.next[cpu] = (seq + 1) & 0xFFFFFFFF

    def batch(self, until_ns: int) -> Batch:
        self.pending.sort(key=lambda record: record.at_ns)
        due = bisect.bisect_right(self.pending, until_ns, key=lambda record: record.at_ns)
        self.complete_forks(self.pending[:due])
        events = [record for record in self.pending[:due] if self.take(record) and record.at_ns <= self.until_ns]
        del self.pending[:due]
        return Batch(map(event, events), self.lost, self.threads)

    def complete_forks(self, due: list[Record]) -> None:
        """What had become another program before its fork was looked at has the cgroup and namespaces that it had then."""
        became = {record.pid: record for record in reversed(self.pending) if record.what == EXEC}
        for record in due:
            if record.what == FORK and not record.links and (exec := became.get(record.child_task)):
                record.comm, record.cgroup, record.links = b"", exec.cgroup, exec.links
                record.read_at, record.pids = exec.read_at, exec.pids

    def take(self, record: Record) -> bool:
        """Keep the books; whether it is an event of a process."""
        what, at_ns = record.what, record.at_ns
        # Some readers were ready before others: what is known from then is what list_tasks found.
        if at_ns < self.from_ns:
            return False
        if what == EXEC:
            self.tasks[record.pid] = {record.pid}
            self.statuses.pop(record.pid, None)
            self.replace(record)
        elif what == FORK and record.child_task != record.child_pid:
            if not self.early.pop(record.child_task, 0) > at_ns:
                self.tasks.setdefault(record.child_pid, set()).add(record.child_task)
            self.threads += at_ns <= self.until_ns
            return False
        elif what == FORK:
            child = record.child_pid
            if not self.early.pop(child, 0) > at_ns:
                self.tasks[child] = {child}
                self.last[child] = record
        elif what == EXIT:
            return self.ended(record)
        return what in (FORK, EXEC) or (what in (UID, COMM) and record.task == record.pid)

    def replace(self, record: Record) -> None:
        """What was read late of the program before was this one's already: its arguments, exe and comm."""
        before, self.last[record.pid] = self.last.get(record.pid), record
        if not before or not before.read_at or before.read_at <= record.at_ns - EXEC_NS:
            return
        if before.comm != record.comm:
            return
        if before.what == FORK or before.cmdline == record.cmdline:
            before.cmdline, before.exe, before.comm = b"", "", b""

    def ended(self, record: Record) -> bool:
        task, pid, status = record.task, record.pid, record.status
        tasks = self.tasks.get(pid, {pid})
        if task not in tasks or pid not in self.tasks:
            self.early[task] = record.at_ns
        tasks.discard(task)
        if task == pid:
            self.statuses[pid] = status
        if not tasks:
            self.tasks.pop(pid, None)
            self.last.pop(pid, None)
            record.status = self.statuses.pop(pid, status)
        return not tasks


def event(record: Record) -> Event:
    """Texts are UTF-8 with "surrogateescape"."""
    what, at_ns = record.what, record.at_ns
    details: dict[str, Any] = {
        "comm": record.comm.decode(errors="surrogateescape").removesuffix("\n"),
        "cgroup": telling_line(record.cgroup.decode(errors="surrogateescape")),
        "namespaces": dict(map(parse_namespace_link, record.links)),
        "ns_pids": tuple(map(int, record.pids.split())),
    }
    if what == FORK:
        return Event("fork", at_ns, record.child_pid, record.pid, **details)
    if what == EXEC:
        argv = parse_cmdline(record.cmdline.decode(errors="surrogateescape"))
        command, _, container = record.cni.decode(errors="surrogateescape").partition(" ")
        details.update(cni_command=command, container_id=container)
        return Event("exec", at_ns, record.pid, None, argv, not argv, record.exe, **details)
    if what == EXIT:
        status = record.status
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        return Event("exit", at_ns, record.pid, None, exit_code=code, signal=None if code is not None else os.WTERMSIG(status))
    if what == UID:
        return Event("uid", at_ns, record.task, None, uid=record.fourth)
    return Event("comm", at_ns, record.task, None, comm=details["comm"])


def telling_line(cgroup: str) -> str:
    """The line of /proc/PID/cgroup with the longest path: on cgroup v1 and hybrid machines some hierarchies stay at "/"."""
    return max(cgroup.splitlines(), key=lambda line: len(line.split(":", 2)[-1]), default="")


def list_tasks() -> dict[int, set[int]]:
    """pid -> its threads that have not ended, of all processes."""
    tasks = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            threads = {int(task) for task in os.listdir(f"/proc/{pid}/task") if not has_ended(pid, int(task))}
            if threads:
                tasks[pid] = threads
    return tasks


def has_ended(pid: int, task: int) -> bool:
    try:
        return read_text(f"/proc/{pid}/task/{task}/stat").rpartition(") ")[2][:1] in "ZX"
    except OSError:
        return True
