"""A process that reads the kernel's proc connector for one CPU. `labkit.kernel.events.connector` starts one for each, and ends
them.

An exec's arguments are in /proc/PID/cmdline for as long as the process lives, which may be 1 ms. The kernel queues the message
about an exec on the CPU of the exec, before the new program has run. A reader bound to that CPU with real-time priority runs next
there, so the program waits while it is read. A reader elsewhere must first be woken there, and races with the program.

Of ten messages one is about an exec, and most are about threads of Go programs, which nobody waits for. To be woken for each
costs more than to read it. So there are two sockets: one for execs, read at once, and one for the rest, read every 10 ms.

The messages: the kernel's Documentation/driver-api/connector.rst, include/uapi/linux/{netlink,connector,cn_proc}.h and
drivers/connector/cn_proc.c. Standard library only and run by its path, not as a module: it starts in 30 ms.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import marshal
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Iterable, Sequence

NETLINK_CONNECTOR = 11
CN_IDX_PROC = CN_VAL_PROC = 1
PROC_CN_MCAST_LISTEN, PROC_CN_MCAST_IGNORE = 1, 2
SO_ATTACH_FILTER, SO_RCVBUFFORCE = 26, 33
NLMSG_DONE = 3
HEADERS = struct.Struct("=IHHII IIIIHH")  # nlmsghdr: length, type, flags, seq, port; cn_msg: idx, val, seq, ack, length, flags
MESSAGE = struct.Struct("=24xII4xIIQ4I")  # cn_msg: seq, ack; proc_event: what, cpu, timestamp_ns, the event's first words
WHAT_AT, CPU_AT, COMM_AT = 36, 40, 60
NONE, FORK, EXEC, UID, COMM, EXIT = 0, 1, 2, 4, 0x200, 0x80000000

RECEIVE_BYTES = 32 * 1024 * 1024
"""Room for some 40,000 messages. Each takes 768 bytes of it."""
ACKNOWLEDGED_WITHIN_S = 3.0
LATER_S, SOON_S = 0.01, 0.001
INITIAL_PID_NAMESPACE, INITIAL_USER_NAMESPACE = 0xEFFFFFFC, 0xEFFFFFFD  # include/linux/proc_ns.h
NAMESPACES = [
    type
    for type in ("net", "ipc", "uts", "pid", "mnt", "cgroup", "user", "time")
    if os.path.exists(f"/proc/self/ns/{type}")
]
OWN_PIDS = os.readlink("/proc/self/ns/pid") if os.path.exists("/proc/self/ns/pid") else ""


class ConnectorRefused(Exception):
    """The kernel's events cannot be read: what happened, what to do."""


def main(arguments: Sequence[str]) -> int:
    """`CPU OTHERS BYTES`: the CPU to read for, -1 for all of them; the CPUs, with commas, that others read for, "" to read for
    CPU alone; the room for messages that wait. stdin is a SOCK_SEQPACKET socket, see `Reader`. It ends when that is closed."""
    gc.disable()
    cpu, others, room = int(arguments[0]), arguments[1], int(arguments[2])
    channel = socket.socket(fileno=0)
    try:
        check_namespaces()
        execs, rest = listen(), listen()
    except ConnectorRefused as error:
        channel.send(marshal.dumps(("refused", error.args)))
        return 1
    if cpu >= 0:
        os.sched_setaffinity(0, {cpu})
        chosen = without(map(int, others.split(","))) if others else only(cpu)
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(10))
    else:
        chosen = []
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, -20)
    attach(execs, [*chosen, *ABOUT_EXECS])
    attach(rest, [*chosen, *ABOUT_THE_REST])
    for connector in (execs, rest):
        make_room(connector, room)
    try:
        Reader(execs, rest, channel).run()
    except (BrokenPipeError, ConnectionResetError):
        return 1
    finally:
        for connector in (execs, rest):
            # Kernels before 6.6 count the listeners, and a closed socket still counts.
            with contextlib.suppress(OSError):
                connector.send(request(PROC_CN_MCAST_IGNORE, 0))
    return 0


class Reader:
    """Sends ("ready", ()), then ("events", records); when it is sent something, ("marked", ()) after all that happened before.

    A record: [what, at_ns, cpu, seq, four words of the event], and more of a fork, an exec or a comm (see add_details). Those of
    one CPU come in the order of their seq, as if they had been read from one socket.
    """

    def __init__(self, execs: socket.socket, rest: socket.socket, channel: socket.socket) -> None:
        self.execs, self.rest, self.channel = execs, rest, channel
        self.buffer = bytearray(4096)
        self.waiting: list[list] = []  # records of execs
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
        last = {record[2]: record[3] for record in records}
        more = self.receive_execs()
        records += self.waiting
        self.waiting = []
        for record in more:
            behind = (last.get(record[2], record[3] - 1) - record[3]) & 0xFFFFFFFF
            (records if behind < 1 << 31 else self.waiting).append(record)
        became = {record[5] for each in (records, self.waiting) for record in each if record[0] == EXEC}
        for record in records:
            if record[0] == FORK and record[6] == record[7] and record[6] not in became:
                add_details(record)
        records.sort(key=lambda record: (record[2], record[3]))
        # What came before the filters did was read by others, or left in one of the two sockets alone.
        self.begun.update(record[2] for record in records if record[1] >= self.from_ns)
        if records := [record for record in records if record[1] >= self.from_ns or record[2] in self.begun]:
            self.send("events", records)

    def receive_execs(self) -> list[list]:
        """An exec's arguments are read before anything else is."""
        records = self.receive(self.execs)
        for record in records:
            add_details(record)
        return records

    def receive(self, connector: socket.socket) -> list[list]:
        """All messages that wait."""
        records: list[list] = []
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
            seq, _, what, cpu, at_ns, first, second, third, fourth = MESSAGE.unpack_from(self.buffer)
            record = [what, at_ns, cpu, seq, first, second, third, fourth]
            if what == EXEC:
                record += (cmdline := read(f"/proc/{second}/cmdline"), cni_words(second) if cmdline.count(b"\0") == 1 else b"")
            elif what == COMM:
                record += [b"", "", bytes(self.buffer[COMM_AT : COMM_AT + 16]).partition(b"\0")[0]]
            elif what == EXIT and first == self.marker:
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


def add_details(record: list) -> None:
    """Put behind the cmdline, which a fork's record lacks: exe, comm, cgroup, the links of the namespaces, when that was done, in
    ns, the words that were read early, and its pids in other pid namespaces than ours (NSpid of /proc/PID/status)."""
    exec = record[0] == EXEC
    early = record.pop() if exec else b""
    proc = f"/proc/{record[5] if exec else record[6]}"
    details: list = [] if exec else [b""]
    details += ["", b"", b"", []]
    pids = b""
    with contextlib.suppress(OSError):
        if exec:
            details[-4] = os.readlink(f"{proc}/exe")
        details[-3], details[-2] = read(f"{proc}/comm"), read(f"{proc}/cgroup")
        details[-1] = [os.readlink(f"{proc}/ns/{type}") for type in NAMESPACES]
        if OWN_PIDS not in details[-1]:
            pids = read(f"{proc}/status").partition(b"\nNSpid:")[2].partition(b"\n")[0]
    record += [*details, time.monotonic_ns(), early, pids]


def cni_words(pid: int) -> bytes:
    """CNI_COMMAND and CNI_CONTAINERID of a process's environment (CNI specification, "Parameters"), b"" where it has none. A
    plugin is started without arguments and may live 2 ms."""
    environment = read(f"/proc/{pid}/environ")
    if b"CNI_COMMAND=" not in environment:
        return b""
    words = dict(word.partition(b"=")[::2] for word in environment.split(b"\0"))
    return words[b"CNI_COMMAND"] + b" " + words.get(b"CNI_CONTAINERID", b"")


def check_namespaces() -> None:
    """Outside the initial pid and user namespaces the kernel leaves a listener without any answer."""
    for type, inode in (("pid", INITIAL_PID_NAMESPACE), ("user", INITIAL_USER_NAMESPACE)):
        if os.stat(f"/proc/self/ns/{type}").st_ino != inode:
            raise ConnectorRefused(
                f"The kernel tells process events in its initial {type} namespace only, and this is another one (a container?).",
                "Run labkit on the machine itself.",
            )


def listen() -> socket.socket:
    """A socket that the kernel has acknowledged: it gets every event from now on."""
    try:
        connector = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_CONNECTOR)
    except OSError as error:
        if error.errno not in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.ESOCKTNOSUPPORT):
            raise ConnectorRefused(
                f"No socket to the kernel's proc connector can be made ({error.strerror}).", "Try again."
            ) from None
        raise ConnectorRefused(
            "This kernel was built without the proc connector (CONFIG_CONNECTOR).", "Use another kernel."
        ) from None
    try:
        make_room(connector, RECEIVE_BYTES)
        connector.bind((0, CN_IDX_PROC))
        number = int.from_bytes(os.urandom(4), "little") & 0x7FFFFFFF
        connector.send(request(PROC_CN_MCAST_LISTEN, number))
        await_acknowledgement(connector, number)
    except PermissionError:
        raise ConnectorRefused(
            "The kernel tells process events only to whom has the capability CAP_NET_ADMIN.", "Run labkit as root."
        ) from None
    except ConnectionRefusedError:
        raise ConnectorRefused(
            "The kernel tells process events in its initial network namespace only, and this is another one, "
            "or it was built without the proc connector.",
            "Run labkit on the machine itself.",
        ) from None
    return connector


def make_room(connector: socket.socket, room: int) -> None:
    """room: bytes for messages that wait."""
    try:
        connector.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, room)
    except PermissionError:
        connector.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)


def request(operation: int, number: int) -> bytes:
    length = HEADERS.size + 4
    headers = HEADERS.pack(length, NLMSG_DONE, 0, 0, 0, CN_IDX_PROC, CN_VAL_PROC, 0, number, 4, 0)
    return headers + operation.to_bytes(4, sys.byteorder)


def await_acknowledgement(connector: socket.socket, number: int) -> None:
    connector.settimeout(ACKNOWLEDGED_WITHIN_S)
    until = time.monotonic() + ACKNOWLEDGED_WITHIN_S
    with contextlib.suppress(TimeoutError):
        while time.monotonic() < until:
            _, ack, what, _, _, error, *_ = MESSAGE.unpack_from(connector.recv(4096))
            # Every listener gets the acknowledgements of all.
            if what == NONE and ack == number + 1:
                if error:
                    # Some kernels give it with a minus.
                    error = min(error, 2**32 - error)
                    raise OSError(error, os.strerror(error))
                connector.setblocking(False)
                return
    raise ConnectorRefused(
        "The kernel did not acknowledge a listener to its proc connector: it was built without CONFIG_PROC_EVENTS.",
        "Use another kernel.",
    )


# Filters of classic BPF (man 7 socket, the kernel's Documentation/networking/filter.rst): (code, jump if true, if false, value).
Step = tuple[int, int, int, int]
DROP, KEEP = (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF)


def load(at: int) -> Step:
    return (0x20, 0, 0, at)


def equal(value: int, skip_if: int, skip_if_not: int) -> Step:
    return (0x15, skip_if, skip_if_not, socket.htonl(value))


def only(cpu: int) -> list[Step]:
    return [load(CPU_AT), equal(cpu, 1, 0), DROP]


def without(cpus: Iterable[int]) -> list[Step]:
    return [load(CPU_AT), *(step for cpu in cpus for step in (equal(cpu, 0, 1), DROP))]


ABOUT_EXECS = [load(WHAT_AT), equal(EXEC, 1, 0), DROP, KEEP]
ABOUT_THE_REST = [load(WHAT_AT), equal(EXEC, 0, 1), DROP, KEEP]


def attach(connector: socket.socket, steps: Sequence[Step]) -> None:
    """Filter the messages that come from now on, and forget those before."""
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    connector.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(steps), ctypes.addressof(program)))
    with contextlib.suppress(BlockingIOError):
        while True:
            connector.recv(4096)


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
