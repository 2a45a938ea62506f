"""A process that reads the kernel's proc connector for one CPU. `labkit.kernel.events.connector` starts one for each, and ends
them.

An exec's arguments are in /proc/PID/cmdline for as long as the process lives, which may be 1 ms. The kernel queues the message
about an exec on the CPU of the exec, before the new program has run. A reader bound to that CPU with real-time priority runs next
there, so the program waits while it is read. A reader elsewhere must first be woken there, and races with the program.

Of ten messages one is about an exec, and most are about threads of Go programs, which nobody waits for. To be woken for each
costs more than to read it. So there are two sockets: one for execs, read at once, and one for the rest, read every 10 ms.

Standard library only and run by its path, not as a module: it starts in 30 ms.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import marshal
import os
import select
import socket
import sys
import time
from collections.abc import Sequence

TYPE_CHECKING = False  # the one of `typing`, which takes a third of the time in which all this starts
if TYPE_CHECKING or __name__ != "__main__":
    from labkit.kernel.events import connector_socket
else:  # run by its path, isolated: its own directory is not where it looks for modules
    sys.path.append(os.path.dirname(__file__))
    import connector_socket

LATER_S, SOON_S = 0.01, 0.001
NAMESPACES = [
    type
    for type in ("net", "ipc", "uts", "pid", "mnt", "cgroup", "user", "time")
    if os.path.exists(f"/proc/self/ns/{type}")
]
OWN_PIDS = os.readlink("/proc/self/ns/pid") if os.path.exists("/proc/self/ns/pid") else ""


def main(arguments: Sequence[str]) -> int:
    """`CPU OTHERS BYTES`: the CPU to read for, -1 for all of them; the CPUs, with commas, that others read for, "" to read for
    CPU alone; the room for messages that wait. stdin is a SOCK_SEQPACKET socket, see `Reader`. It ends when that is closed."""
    gc.disable()
    cpu, others, room = int(arguments[0]), arguments[1], int(arguments[2])
    channel = socket.socket(fileno=0)
    try:
        connector_socket.check_namespaces()
        execs, rest = connector_socket.listen(), connector_socket.listen()
    except connector_socket.ConnectorRefused as error:
        channel.send(marshal.dumps(("refused", error.args)))
        return 1
    if cpu >= 0:
        os.sched_setaffinity(0, {cpu})
        chosen = connector_socket.without(map(int, others.split(","))) if others else connector_socket.only(cpu)
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(10))
    else:
        chosen = []
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, -20)
    connector_socket.attach(execs, [*chosen, *connector_socket.ABOUT_EXECS])
    connector_socket.attach(rest, [*chosen, *connector_socket.ABOUT_THE_REST])
    for connector in (execs, rest):
        connector_socket.make_room(connector, room)
    try:
        Reader(execs, rest, channel).run()
    except (BrokenPipeError, ConnectionResetError):
        return 1
    finally:
        for connector in (execs, rest):
            # Kernels before 6.6 count the listeners, and a closed socket still counts.
            with contextlib.suppress(OSError):
                connector.send(connector_socket.request(connector_socket.PROC_CN_MCAST_IGNORE, 0))
    return 0


class Record:
    """A message of the kernel's, and what /proc said of its process. No NamedTuple: it is completed when more is known.

    task, pid: the thread and its process; of a fork, the parent's. third, fourth: the event's other words. seq: the message's
    number on its CPU. links: of the namespaces. read_at: when /proc was read, ns. pids: see add_details.
    """

    __slots__ = FIELDS = (
        "what", "at_ns", "cpu", "seq", "task", "pid", "third", "fourth",
        "cmdline", "exe", "comm", "cgroup", "links", "read_at", "cni", "pids",
    )

    def __init__(
        self, what: int, at_ns: int, cpu: int, seq: int, task: int, pid: int, third: int = 0, fourth: int = 0,
        cmdline: bytes = b"", exe: str = "", comm: bytes = b"", cgroup: bytes = b"", links: Sequence[str] = (),
        read_at: int = 0, cni: bytes = b"", pids: bytes = b"",
    ) -> None:
        self.what, self.at_ns, self.cpu, self.seq = what, at_ns, cpu, seq
        self.task, self.pid, self.third, self.fourth = task, pid, third, fourth
        self.cmdline, self.exe, self.comm, self.cgroup = cmdline, exe, comm, cgroup
        self.links, self.read_at, self.cni, self.pids = links, read_at, cni, pids

    @property
    def child_task(self) -> int:
        return self.third

    @property
    def child_pid(self) -> int:
        return self.fourth

    @property
    def status(self) -> int:
        """Of an exit, as wait (man 2 wait) gives it."""
        return self.third

    @status.setter
    def status(self, status: int) -> None:
        self.third = status

    def fields(self) -> tuple:
        """What a Record is made of, in that order."""
        return tuple(getattr(self, name) for name in self.FIELDS)


class Reader:
    """Sends ("ready", ()), then ("events", records); when it is sent something, ("marked", ()) after all that happened before.

    A record is sent as its fields (see Record). Those of one CPU come in the order of their seq, as if they had been read from
    one socket.
    """

    def __init__(self, execs: socket.socket, rest: socket.socket, channel: socket.socket) -> None:
        self.execs, self.rest, self.channel = execs, rest, channel
        self.buffer = bytearray(4096)
        self.waiting: list[Record] = []  # of execs
        self.from_ns, self.begun = time.monotonic_ns(), set[int]()
        self.marker = 0
        self.marked = False

    def run(self) -> None:
        at_once, anything = select.poll(), select.poll()
        for connector in (self.execs, self.channel):
            at_once.register(connector, select.POLLIN)
            anything.register(connector, select.POLLIN)
        anything.register(self.rest, select.POLLIN)
        self.send("ready", [])
        due = None
        while True:
            ready = anything.poll() if due is None else at_once.poll(max(0.0, due - time.monotonic()) * 1000)
            for fd, _ in ready:
                if fd == self.execs.fileno():
                    self.waiting += self.receive_execs()
                elif fd == self.channel.fileno():
                    if not self.channel.recv(1):
                        return
                    self.mark()
            now = time.monotonic()
            if due is None:
                due = now + LATER_S
            if self.marker:
                self.pass_on()
                due = now + SOON_S
                if self.marked:
                    self.pass_on()
                    self.send("marked", [])
                    self.marker, self.marked, due = 0, False, None
            elif now >= due:
                self.pass_on()
                due = now + LATER_S if self.waiting else None

    def pass_on(self) -> None:
        """Send what there is. The rest is read after the execs that wait, so all that the kernel told before these is in it; of
        the execs that came meanwhile, those told before the last of the rest belong with it."""
        records = self.receive(self.rest)
        last = {record.cpu: record.seq for record in records}
        more = self.receive_execs()
        records += self.waiting
        self.waiting = []
        for record in more:
            behind = (last.get(record.cpu, record.seq - 1) - record.seq) & 0xFFFFFFFF
            (records if behind < 1 << 31 else self.waiting).append(record)
        became = {record.pid for each in (records, self.waiting) for record in each if record.what == connector_socket.EXEC}
        for record in records:
            if record.what == connector_socket.FORK and record.child_task == record.child_pid and record.child_pid not in became:
                add_details(record)
        records.sort(key=lambda record: (record.cpu, record.seq))
        # What came before the filters did was read by others, or left in one of the two sockets alone.
        self.begun.update(record.cpu for record in records if record.at_ns >= self.from_ns)
        if records := [record for record in records if record.at_ns >= self.from_ns or record.cpu in self.begun]:
            self.send("events", [record.fields() for record in records])

    def receive_execs(self) -> list[Record]:
        """An exec's arguments are read before anything else is."""
        records = self.receive(self.execs)
        for record in records:
            add_details(record)
        return records

    def receive(self, connector: socket.socket) -> list[Record]:
        """All messages that wait."""
        records: list[Record] = []
        while True:
            try:
                connector.recv_into(self.buffer)
            except BlockingIOError:
                return records
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                # The numbers of the messages show how many are missing.
                continue
            seq, _, what, cpu, at_ns, task, pid, third, fourth = connector_socket.MESSAGE.unpack_from(self.buffer)
            record = Record(what, at_ns, cpu, seq, task, pid, third, fourth)
            if what == connector_socket.EXEC:
                record.cmdline = read(f"/proc/{pid}/cmdline")
                if record.cmdline.count(b"\0") == 1:
                    record.cni = cni_words(pid)
            elif what == connector_socket.COMM:
                record.comm = bytes(self.buffer[connector_socket.COMM_AT : connector_socket.COMM_AT + 16]).partition(b"\0")[0]
            elif what == connector_socket.EXIT and task == self.marker:
                self.marked = True
            records.append(record)

    def mark(self) -> None:
        """Start a process that ends at once, on this CPU: the message about it comes after all there are."""
        self.marker = os.fork()
        if not self.marker:
            os._exit(0)
        os.waitpid(self.marker, 0)

    def send(self, word: str, records: Sequence) -> None:
        self.channel.send(marshal.dumps((word, list(records))))


def add_details(record: Record) -> None:
    """Of the process that began or became another program: exe, comm, cgroup, the links of its namespaces, when that was read,
    and its pids in other pid namespaces than ours (NSpid of /proc/PID/status)."""
    proc = f"/proc/{record.pid if record.what == connector_socket.EXEC else record.child_pid}"
    links: list[str] = []
    with contextlib.suppress(OSError):
        if record.what == connector_socket.EXEC:
            record.exe = os.readlink(f"{proc}/exe")
        record.comm, record.cgroup = read(f"{proc}/comm"), read(f"{proc}/cgroup")
        record.links = links = [os.readlink(f"{proc}/ns/{type}") for type in NAMESPACES]
        if OWN_PIDS not in links:
            record.pids = read(f"{proc}/status").partition(b"\nNSpid:")[2].partition(b"\n")[0]
    record.read_at = time.monotonic_ns()


def cni_words(pid: int) -> bytes:
    """CNI_COMMAND and CNI_CONTAINERID of a process's environment (CNI specification, "Parameters"), b"" where it has none. A
    plugin is started connector_socket.without arguments and may live 2 ms."""
    environment = read(f"/proc/{pid}/environ")
    if b"CNI_COMMAND=" not in environment:
        return b""
    words = dict(word.partition(b"=")[::2] for word in environment.split(b"\0"))
    return words[b"CNI_COMMAND"] + b" " + words.get(b"CNI_CONTAINERID", b"")


def read(path: str) -> bytes:
    """A whole file of /proc, b"" where the process is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        data = os.read(descriptor, 65536)
        while data and len(data) % 65536 == 0 and (more := os.read(descriptor, 65536)):
            data += more
        return data
    except OSError:
        return b""
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
