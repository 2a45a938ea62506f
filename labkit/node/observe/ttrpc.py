"""Ask a shim about one of its containers, as containerd does: ttrpc over the shim's socket.

ttrpc is gRPC without HTTP: a header of ten bytes (length, stream id, type, flags), then a protobuf Request {service, method,
payload} or Response {status, payload} (containerd/ttrpc, PROTOCOL.md). The shim's own API is containerd's api/runtime/task, v2
and v3: the messages used here are the same in both.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from labkit.util import unix_sockets
from labkit.util.protowire import bytes_field, fields, text_field

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


def task_state(address: str, container: str, dial: Callable[[str], socket.socket] = unix_sockets.connect) -> TaskState | None:
    """The state of a container by its shim's own word; None where the shim knows none of that id. `dial` connects to the shim's
    socket. Raises OSError."""
    for service in SERVICES:
        with dial(address) as connection:
            answer = call(connection, service, "State", text_field(1, container))
        if answer is not None:
            values = dict(fields(answer))
            state = STATES[int(values.get(4, 0))]
            code = int(values.get(9, 0)) if state == "Stopped" else None
            return TaskState(state, int(values.get(3, 0)), code)
    return None


def call(connection: socket.socket, service: str, method: str, payload: bytes) -> bytes | None:
    """One call, the connection's first; None where it is answered with an error. Raises OSError."""
    request = text_field(1, service) + text_field(2, method) + bytes_field(3, payload)
    connection.settimeout(ANSWERS_WITHIN_S)
    connection.sendall(HEADER.pack(len(request), 1, REQUEST, 0) + request)
    length, _, kind, _ = HEADER.unpack(receive(connection, HEADER.size))
    try:
        answer = dict(fields(receive(connection, length)))
        failed = kind != RESPONSE or dict(fields(as_bytes(answer.get(1, b"")))).get(1, 0)
    except ValueError as error:
        raise ConnectionError(f"the shim's answer cannot be read: {error}") from error
    return None if failed else as_bytes(answer.get(2, b""))


def receive(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = connection.recv(length - len(data))
        if not piece:
            raise ConnectionResetError("the shim closed the connection")
        data += piece
    return data


def as_bytes(value: int | bytes) -> bytes:
    return value if isinstance(value, bytes) else b""
