"""A socket to the kernel's proc connector: listening, and the filters by which one gets some of the messages only.

The messages: the kernel's Documentation/driver-api/connector.rst, include/uapi/linux/{netlink,connector,cn_proc}.h and
drivers/connector/cn_proc.c. Standard library only: `connector_process` imports it when it runs as a program.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
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
INITIAL_PID_NAMESPACE, INITIAL_USER_NAMESPACE = 0xEFFFFFFC, 0xEFFFFFFD  # include/linux/proc_ns.h


class ConnectorRefused(Exception):
    """The kernel's events cannot be read: what happened, what to do."""


def check_namespaces() -> None:
    """Outside the initial pid and user namespaces the kernel leaves a listener without any answer."""
    for type, inode in (("pid", INITIAL_PID_NAMESPACE), ("user", INITIAL_USER_NAMESPACE)):
        if os.stat(f"/proc/self/ns/{type}").st_ino != inode:
            raise ConnectorRefused(
                f"The kernel reports process events in its initial {type} namespace only, and this is another (a container?).",
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
            "The kernel reports process events only to processes with the capability CAP_NET_ADMIN.", "Run labkit as root."
        ) from None
    except ConnectionRefusedError:
        raise ConnectorRefused(
            "The kernel reports process events in its initial network namespace only, and this is another one, "
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
