"""Ask a shim about one of its containers, as containerd does: ttrpc over the shim's socket.

ttrpc is gRPC without HTTP: a header of ten bytes (length, stream id, type, flags), then a protobuf Request {service, method,
payload} or Response {status, payload} (containerd/ttrpc, PROTOCOL.md). The shim's own API is containerd's api/runtime/task, v2
and v3: the messages used here are the same in both.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

HEADER = struct.Struct(">IIBB")
REQUEST, RESPONSE = 1, 2
SERVICES = ("containerd.task.v3.Task", "containerd.task.v2.Task")
STATES = ("Unknown", "Created", "Running", "Stopped", "Paused", "Pausing")
ANSWERS_WITHIN_S = 3.0


@dataclass(frozen=True)
class TaskState:
    """What a shim says of a container: `state` is one of STATES, `exit_code` what it keeps of an ended one, else None."""

    state: str
    pid: int
    exit_code: int | None


def connect(address: str) -> socket.socket:
    """To a Unix socket of this machine. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


def task_state(address: str, container: str, dial: Callable[[str], socket.socket] = connect) -> TaskState | None:
    """The state of a container by its shim's own word; None where the shim knows none of that id. `dial` connects to the shim's
    socket. Raises OSError."""
    for service in SERVICES:
        with dial(address) as connection:
            answer = call(connection, service, "State", text(1, container))
        if answer is not None:
            values = dict(fields(answer))
            state = STATES[int(values.get(4, 0))]
            code = int(values.get(9, 0)) if state == "Stopped" else None
            return TaskState(state, int(values.get(3, 0)), code)
    return None


def call(connection: socket.socket, service: str, method: str, payload: bytes) -> bytes | None:
    """One call, the connection's first; None where it is answered with an error. Raises OSError."""
    request = text(1, service) + text(2, method) + bytes_field(3, payload)
    connection.settimeout(ANSWERS_WITHIN_S)
    connection.sendall(HEADER.pack(len(request), 1, REQUEST, 0) + request)
    length, _, kind, _ = HEADER.unpack(receive(connection, HEADER.size))
    answer = dict(fields(receive(connection, length)))
    failed = kind != RESPONSE or dict(fields(as_bytes(answer.get(1, b"")))).get(1, 0)
    return None if failed else as_bytes(answer.get(2, b""))


def receive(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = connection.recv(length - len(data))
        if not piece:
            raise ConnectionResetError("the shim closed the connection")
        data += piece
    return data


def text(number: int, value: str) -> bytes:
    return bytes_field(number, value.encode())


def bytes_field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def as_bytes(value: int | bytes) -> bytes:
    return value if isinstance(value, bytes) else b""


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of a protobuf message on the wire; groups, which nobody uses any more, are not read."""
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while at < len(message):
        key = number()
        if key & 7 == 0:
            yield key >> 3, number()
            continue
        length = {1: 8, 5: 4}.get(key & 7) or number()
        yield key >> 3, message[at : at + length]
        at += length
