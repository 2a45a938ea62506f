"""The calls of one process sent to others while they happen: a recorder listens to a kubelet without a proxy between them.

In the process that calls, one line for as long as it lives:

    feed = callfeed.serve(callfeed.path_in(home.run, "kubelet"), cri, caller="kubelet")

and `feed.close()` at its end. In the one that records:

    with callfeed.subscribe(path, log): ...

While nobody listens the clients are as they were, and a call costs nothing more. Both processes are on one machine, so that their
CLOCK_MONOTONIC is one. A message on the socket: its length (4 bytes, network order), a line of JSON (see `_packed`), the request
and the response as protobuf bytes.
"""

from __future__ import annotations

import contextlib
import errno
import json
import queue
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError, Message

from labkit.cri import lenient
from labkit.cri.client import CriClient
from labkit.cri.descriptors import services
from labkit.recording.calls.log import CallLog, CallRecord, keeps_response, recorded
from labkit.util.unix_sockets import private_socket

LENGTH = struct.Struct("!I")
WAITING = 10_000
"""So many messages may wait for a listener that does not read; then it is left, and learns it from the end of the feed."""
ANSWERS_WITHIN_S = 3.0
PAUSE_S = 0.05
HELLO, MARK = b"hello", b"mark"


def path_in(run: Path, caller: str) -> Path:
    """Where a process called `caller` serves its calls, in the lab's directory `run`."""
    return run / f"calls-{caller}.sock"


def paths_in(run: Path) -> list[Path]:
    """Every feed that was served there, whether its process lives or not."""
    return sorted(run.glob("calls-*.sock"))


def serve(path: Path, *clients: CriClient, caller: str) -> CallFeed:
    """Tell every call of `clients` to whoever subscribes at `path` (a socket of mode 0600), as made by `caller`.

    A socket that an earlier process left is replaced. Raises OSError where none can be made.
    """
    return CallFeed(path, clients, caller)


@contextlib.contextmanager
def subscribe(path: Path, log: CallLog) -> Iterator[Subscription]:
    """Take the calls that are sent at `path` into `log`: those that start while the block runs, and have ended by its end or not.

    Raises OSError where nobody serves there.
    """
    subscription = Subscription(path, log)
    try:
        yield subscription
    finally:
        subscription.close()


class CallFeed:
    """See `serve`."""

    def __init__(self, path: Path, clients: Iterable[CriClient], caller: str) -> None:
        self.path, self._clients = path, tuple(clients)
        self._log = CallLog(self._tell, caller=caller, keep=False)
        self._lock = threading.Lock()
        self._listeners: set[_Listener] = set()
        self._recording = contextlib.ExitStack()
        self._socket = private_socket(path)
        self._thread = threading.Thread(target=self._accept, name="call feed", daemon=True)
        self._thread.start()

    @property
    def listened_to(self) -> bool:
        """Whether somebody listens now."""
        return bool(self._listeners)

    def close(self) -> None:
        """End it for every listener, and remove the socket."""
        self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        for listener in list(self._listeners):
            listener.end()

    def __enter__(self) -> CallFeed:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    return  # closed
                time.sleep(PAUSE_S)  # clients wait in the queue until a descriptor is free
                continue
            listener = _Listener(connection, self._left)
            with self._lock:
                if not self._listeners:
                    for client in self._clients:
                        self._recording.enter_context(recorded(client, self._log))
                self._listeners.add(listener)
            listener.start()

    def _left(self, listener: _Listener) -> None:
        with self._lock:
            self._listeners.discard(listener)
            if not self._listeners:
                self._recording.close()

    def _tell(self, record: CallRecord) -> None:
        if listeners := tuple(self._listeners):
            message = _packed(record)
            for listener in listeners:
                listener.put(message)


class _Listener:
    """One subscriber: a thread that writes the calls to it, and one that reads its questions."""

    def __init__(self, connection: socket.socket, left: Any) -> None:
        self._connection, self._left = connection, left
        self._queue: queue.Queue[bytes] = queue.Queue(WAITING)

    def start(self) -> None:
        self.put(HELLO)
        for work in (self._write, self._read):
            threading.Thread(target=work, name="call feed", daemon=True).start()

    def put(self, message: bytes) -> None:
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            self.end()

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            while message := self._queue.get():
                self._connection.sendall(LENGTH.pack(len(message)) + message)

    def _read(self) -> None:
        """Each byte asks for a mark behind all that was sent before."""
        with self._connection, contextlib.suppress(OSError):
            while self._connection.recv(1):
                self.put(MARK)
        self._left(self)
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(b"")


class Subscription:
    """See `subscribe`. ended: whether the feed ended by itself, so that later calls are not there."""

    def __init__(self, path: Path, log: CallLog) -> None:
        self.ended = False
        self._log = log
        self._started: dict[int, CallRecord] = {}  # their number -> the log's record
        self._ready, self._marked = threading.Event(), threading.Event()
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._thread = threading.Thread(target=self._receive, name="call feed", daemon=True)
        self._thread.start()
        self._ready.wait(ANSWERS_WITHIN_S)

    def close(self) -> None:
        """What was sent until now is in the log when this returns."""
        with contextlib.suppress(OSError):
            self._socket.send(b".")
            self._marked.wait(ANSWERS_WITHIN_S)
        self._ready.clear()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _receive(self) -> None:
        with self._socket.makefile("rb") as file, contextlib.suppress(OSError):
            while len(head := file.read(LENGTH.size)) == LENGTH.size:
                message = file.read(LENGTH.unpack(head)[0])
                if message == HELLO:
                    self._ready.set()
                elif message == MARK:
                    self._marked.set()
                else:
                    self._take(message)
        self.ended = self._ready.is_set()
        self._marked.set()

    def _take(self, message: bytes) -> None:
        record = _unpacked(message)
        if record.to_ns is None:
            self._started[record.number] = replace(record, number=self._log.take(record))
        elif started := self._started.pop(record.number, None):
            self._log.take(replace(record, request=started.request), started.number)


HEAD = ("number", "service", "method", "from_ns", "to_ns", "caller", "code", "responses", "source")
"""The keys of the line of JSON: fields of a CallRecord. Beside them "request" and "response": their bytes, null where there
is none or it is not sent (a request is sent at the start)."""


def _packed(record: CallRecord) -> bytes:
    request = record.request if record.to_ns is None else None
    response = record.response if keeps_response(record.method) else None
    bodies = [None if each is None else each.SerializeToString() for each in (request, response)]
    lengths = {name: None if body is None else len(body) for name, body in zip(("request", "response"), bodies, strict=True)}
    head = json.dumps({**{key: getattr(record, key) for key in HEAD}, **lengths}).encode()
    return b"\n".join([head, b"".join(body for body in bodies if body)])


def _unpacked(message: bytes) -> CallRecord:
    line, _, rest = message.partition(b"\n")
    head = json.loads(line)
    rpc = next((each for each in services() if (each.service, each.rpc) == (head["service"], head["method"])), None)
    kinds = (rpc.request_class(), rpc.response_class()) if rpc else (None, None)
    lengths = head.pop("request"), head.pop("response")
    bodies = rest[: lengths[0] or 0], rest[lengths[0] or 0 :]
    request, response = (
        None if kind is None or length is None else _message(kind, body)
        for kind, length, body in zip(kinds, lengths, bodies, strict=True)
    )
    return CallRecord(**head, request=request, response=response)


def _message(kind: Any, data: bytes) -> Message | None:
    try:
        message: Message = lenient.parse(kind, data)
    except DecodeError:
        return None
    return message
