"""A process that reads the kernel's proc connector for one CPU. `labkit.kernel.connector` starts one for each, and ends them.

An exec's arguments are in /proc/PID/cmdline for as long as the process lives, which may be 1 ms. The kernel queues the message
about an exec on the CPU of the exec, before the new program has run. A reader bound to that CPU with real-time priority runs next
there, so the program waits while it is read. A reader elsewhere must first be woken there, and races with the program.

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
CPU_AT, COMM_AT = 40, 60
NONE, FORK, EXEC, UID, COMM, EXIT = 0, 1, 2, 4, 0x200, 0x80000000

RECEIVE_BYTES = 32 * 1024 * 1024
"""Room for some 40,000 messages. Each takes 768 bytes of it."""
ACKNOWLEDGED_WITHIN_S = 3.0
INITIAL_PID_NAMESPACE, INITIAL_USER_NAMESPACE = 0xEFFFFFFC, 0xEFFFFFFD  # include/linux/proc_ns.h
NAMESPACES = [
    type
    for type in ("net", "ipc", "uts", "pid", "mnt", "cgroup", "user", "time")
    if os.path.exists(f"/proc/self/ns/{type}")
]


class Refused(Exception):
    """The kernel's events cannot be read: what happened, what to do."""


def main(arguments: Sequence[str]) -> int:
    """`CPU OTHERS BYTES`: the CPU to read for, -1 for all of them; the CPUs, with commas, that others read for, "" to read for
    CPU alone; the room for messages that wait. stdin is a SOCK_SEQPACKET socket, see `Reader`. It ends when that is closed."""
    gc.disable()
    cpu, others, room = int(arguments[0]), arguments[1], int(arguments[2])
    channel = socket.socket(fileno=0)
    try:
        check_namespaces()
        connector = listen(room)
    except Refused as error:
        channel.send(marshal.dumps(("refused", error.args)))
        return 1
    if cpu >= 0:
        os.sched_setaffinity(0, {cpu})
        attach_filter(connector, without(map(int, others.split(","))) if others else only(cpu))
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(10))
    else:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, -20)
    try:
        Reader(connector, channel).run()
    except (BrokenPipeError, ConnectionResetError):
        return 1
    finally:
        # Kernels before 6.6 count the listeners, and a closed socket still counts.
        with contextlib.suppress(OSError):
            connector.send(request(PROC_CN_MCAST_IGNORE, 0))
    return 0


class Reader:
    """Sends ("ready", ()), then ("events", records); when it is sent something, ("marked", ()) after all that happened before.

    A record: [what, at_ns, cpu, seq, four words of the event], and more of a fork, an exec or a comm (see add_details).
    """

    def __init__(self, connector: socket.socket, channel: socket.socket) -> None:
        self.connector, self.channel = connector, channel
        self.buffer = bytearray(4096)
        self.marker = 0
        self.marked = False

    def run(self) -> None:
        poll = select.poll()
        poll.register(self.connector, select.POLLIN)
        poll.register(self.channel, select.POLLIN)
        self.send("ready", [])
        while True:
            records = []
            while (record := self.receive()) is not None:
                records.append(record)
            for record in records:
                if record[0] == EXEC or (record[0] == FORK and record[6] == record[7]):
                    add_details(record)
            if records:
                self.send("events", records)
                if self.marked:
                    self.send("marked", [])
                    self.marked = False
                continue
            for fd, _ in poll.poll():
                if fd == self.channel.fileno():
                    if not self.channel.recv(1):
                        return
                    self.mark()

    def receive(self) -> list | None:
        """One message, None where none waits. An exec's arguments are read before anything else is."""
        try:
            self.connector.recv_into(self.buffer)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            # The numbers of the messages show how many are missing.
            return self.receive()
        seq, _, what, cpu, at_ns, first, second, third, fourth = MESSAGE.unpack_from(self.buffer)
        record = [what, at_ns, cpu, seq, first, second, third, fourth]
        if what == EXEC:
            record.append(read(f"/proc/{second}/cmdline"))
        elif what == COMM:
            record += [b"", "", bytes(self.buffer[COMM_AT : COMM_AT + 16]).partition(b"\0")[0]]
        elif what == EXIT and first == self.marker:
            self.marked = True
        return record

    def mark(self) -> None:
        """Start a process that ends at once, on this CPU: the message about it comes after all there are."""
        self.marker = os.fork()
        if not self.marker:
            os._exit(0)
        os.waitpid(self.marker, 0)

    def send(self, word: str, records: Sequence) -> None:
        self.channel.send(marshal.dumps((word, list(records))))


def add_details(record: list) -> None:
    """Append cmdline where it is not there yet, exe, comm, cgroup, the links of the namespaces, and when that was done, in ns."""
    exec = record[0] == EXEC
    proc = f"/proc/{record[5] if exec else record[6]}"
    details: list = [] if exec else [b""]
    details += ["", b"", b"", []]
    with contextlib.suppress(OSError):
        if exec:
            details[-4] = os.readlink(f"{proc}/exe")
        details[-3], details[-2] = read(f"{proc}/comm"), read(f"{proc}/cgroup")
        details[-1] = [os.readlink(f"{proc}/ns/{type}") for type in NAMESPACES]
    record += [*details, time.monotonic_ns()]


def check_namespaces() -> None:
    """Outside the initial pid and user namespaces the kernel leaves a listener without any answer."""
    for type, inode in (("pid", INITIAL_PID_NAMESPACE), ("user", INITIAL_USER_NAMESPACE)):
        if os.stat(f"/proc/self/ns/{type}").st_ino != inode:
            raise Refused(
                f"The kernel tells process events in its initial {type} namespace only, and this is another one (a container?).",
                "Run labkit on the machine itself.",
            )


def listen(room: int) -> socket.socket:
    """A socket that the kernel has acknowledged: it gets every event from now on. room: bytes for messages that wait."""
    try:
        connector = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_CONNECTOR)
    except OSError as error:
        if error.errno not in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.ESOCKTNOSUPPORT):
            raise Refused(f"No socket to the kernel's proc connector can be made ({error.strerror}).", "Try again.") from None
        raise Refused("This kernel was built without the proc connector (CONFIG_CONNECTOR).", "Use another kernel.") from None
    try:
        try:
            connector.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, room)
        except PermissionError:
            connector.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        connector.bind((0, CN_IDX_PROC))
        number = int.from_bytes(os.urandom(4), "little") & 0x7FFFFFFF
        connector.send(request(PROC_CN_MCAST_LISTEN, number))
        await_acknowledgement(connector, number)
    except PermissionError:
        raise Refused(
            "The kernel tells process events only to whom has the capability CAP_NET_ADMIN.", "Run labkit as root."
        ) from None
    except ConnectionRefusedError:
        raise Refused(
            "The kernel tells process events in its initial network namespace only, and this is another one, "
            "or it was built without the proc connector.",
            "Run labkit on the machine itself.",
        ) from None
    return connector


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
    raise Refused(
        "The kernel did not acknowledge a listener to its proc connector: it was built without CONFIG_PROC_EVENTS.",
        "Use another kernel.",
    )


# Filters of classic BPF (man 7 socket, the kernel's Documentation/networking/filter.rst): (code, jump if true, if false, value).
LOAD_CPU = (0x20, 0, 0, CPU_AT)
DROP, KEEP = (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF)


def only(cpu: int) -> list[tuple[int, int, int, int]]:
    return [LOAD_CPU, (0x15, 0, 1, socket.htonl(cpu)), KEEP, DROP]


def without(cpus: Iterable[int]) -> list[tuple[int, int, int, int]]:
    return [LOAD_CPU, *(step for cpu in cpus for step in ((0x15, 0, 1, socket.htonl(cpu)), DROP)), KEEP]


def attach_filter(connector: socket.socket, steps: list[tuple[int, int, int, int]]) -> None:
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    connector.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(steps), ctypes.addressof(program)))
    # What came before the filter did is other readers' too.
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
