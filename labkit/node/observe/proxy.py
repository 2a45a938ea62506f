"""A socket that stands before the runtime's own and notes each call that passes: for callers other than labkit.

Any client can use it as its endpoint (`crictl -r ENDPOINT`, a kubelet, bare stubs). Messages pass as the bytes they are, with
metadata, deadline, cancellation, status and trailing metadata; what labkit cannot read passes just the same.

Who calls is known from the socket (man 7 unix, SO_PEERCRED). gRPC's server does not tell it, so each connection is accepted here
and joined to the server by a second socket, bound to an abstract name with the caller's comm in it: the server's name
for its peer.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from labkit.cri import Rpc, lenient, services
from labkit.cri.client import CHANNEL_OPTIONS, socket_path
from labkit.node.host.relay_loop import OUT_OF_FILES, raise_open_files
from labkit.recording.calls.log import CallLog
from labkit.util.errors import NodeError
from labkit.util.unix_sockets import private_socket

log = logging.getLogger("labkit")

THREADS = 4096
"""Calls at a time; a watching stream takes one for as long as it lasts. One more is refused (RESOURCE_EXHAUSTED), and not kept
waiting. Threads are made when they are needed."""
QUEUE = 4096
FILES_EACH = 3
"""Of a connection: the client's, and the two ends of the one to the gRPC server."""
PAUSE_S = 0.05
NO_DEADLINE_S = 1e9
NEAR_S = 0.1
"""A client whose deadline has come cancels the call; that it was the deadline is told by how near that is."""
PEER_NAME = "labkit-caller"
OWN_METADATA = re.compile(r":.*|grpc-(?!status-details-bin).*|user-agent|te|content-type")
"""Metadata that belongs to one connection, not to the call."""
UNLIMITED = {"grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1}
"""How long a message may be is for the two ends to say. Of an option that is given twice, gRPC takes the first."""
CHUNK = 256 * 1024


class RecordingProxy:
    """Serves `endpoint` ("unix:///…") for the runtime at `runtime`, and notes every call in `log` with source "proxy".

    path: where the socket shall be, else in a temporary directory of its own. It has mode 0600. A context manager; `close` ends
    the calls under way, which are then CANCELLED, and removes the socket. Raises NodeError when the socket cannot be made.
    """

    def __init__(self, runtime: str, log: CallLog, path: str | Path | None = None) -> None:
        raise_open_files(FILES_EACH * THREADS)
        self._directory = tempfile.TemporaryDirectory(prefix="labkit-")
        self.path = Path(path or f"{self._directory.name}/cri.sock")
        self.endpoint = f"unix://{self.path}"
        options = [*(dict(CHANNEL_OPTIONS) | UNLIMITED).items()]
        self._channel = grpc.insecure_channel(f"unix:{socket_path(runtime)}", options=options)
        self._server = grpc.server(
            ThreadPoolExecutor(THREADS),
            [_Forward(self._channel, log)],
            options=[*UNLIMITED.items()],
            maximum_concurrent_rpcs=THREADS,
        )
        inner = f"{self._directory.name}/grpc.sock"
        self._server.add_insecure_port(f"unix:{inner}")
        try:
            self._front = _Front(self.path, inner)
        except OSError as error:
            self._directory.cleanup()
            raise NodeError(f"No socket could be made at {self.path} ({error.strerror}).", "Give another path.") from None
        self._server.start()

    def close(self) -> None:
        self._front.close()
        self._server.stop(None).wait(5)
        self._channel.close()
        self._directory.cleanup()

    def __enter__(self) -> RecordingProxy:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _Forward(grpc.GenericRpcHandler):
    """Passes any call on to a channel. A call of one answer and a stream of one answer are the same on the wire, so what is no
    known unary RPC is treated as a stream."""

    def __init__(self, channel: Any, log: CallLog) -> None:
        self._channel, self._log = channel, log
        self._rpcs = {(rpc.service, rpc.rpc): rpc for rpc in services()}

    def service(self, handler_call_details: Any) -> Any:
        path = handler_call_details.method
        service, _, method = path.removeprefix("/").partition("/")
        rpc = self._rpcs.get((service.rpartition(".")[2], method))
        if rpc and not rpc.streaming:
            return grpc.unary_unary_rpc_method_handler(lambda request, context: self._unary(path, rpc, request, context))
        return grpc.unary_stream_rpc_method_handler(lambda request, context: self._stream(path, rpc, request, context))

    def _unary(self, path: str, rpc: Rpc, request: bytes, context: grpc.ServicerContext) -> bytes:
        call = self._channel.unary_unary(path).future(request, timeout=_seconds_left(context), metadata=_metadata(context))
        with self._noted(path, rpc, request, context, call) as number:
            response: bytes = call.result()
            self._log.answered(number, _read(rpc.response_class(), response))
            context.send_initial_metadata(_own(call.initial_metadata()))
            context.set_trailing_metadata(_own(call.trailing_metadata()))
        return response

    def _stream(self, path: str, rpc: Rpc | None, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        call = self._channel.unary_stream(path)(request, timeout=_seconds_left(context), metadata=_metadata(context))
        with self._noted(path, rpc, request, context, call) as number:
            context.send_initial_metadata(_own(call.initial_metadata()))
            for response in call:
                self._log.answered(number, _read(rpc.response_class(), response) if rpc else None)
                yield response
            context.set_trailing_metadata(_own(call.trailing_metadata()))

    @contextlib.contextmanager
    def _noted(self, path: str, rpc: Rpc | None, request: bytes, context: Any, call: Any) -> Iterator[int]:
        """The call's start and end in the log; its end handed back with code, words and trailing metadata."""
        message = _read(rpc.request_class(), request) if rpc else None
        number = self._log.begin(path, message, caller=_caller(context.peer()), source="proxy")
        context.add_callback(call.cancel)
        try:
            yield number
        except (grpc.RpcError, grpc.FutureCancelledError):
            code = call.code()
            if code is grpc.StatusCode.CANCELLED and (context.time_remaining() or 0) < NEAR_S:
                code = grpc.StatusCode.DEADLINE_EXCEEDED
            self._log.end(number, code.name)
            context.set_trailing_metadata(_own(call.trailing_metadata()))
            context.abort(code, call.details() or "")
        except GeneratorExit:
            self._log.end(number, "CANCELLED")
            raise
        finally:
            self._log.end(number, "OK")


def _seconds_left(context: Any) -> float | None:
    """Until the caller's deadline; gRPC tells of none by one in the far future."""
    left = context.time_remaining()
    return None if left is None or left > NO_DEADLINE_S else left


def _metadata(context: Any) -> tuple[Any, ...]:
    return _own(context.invocation_metadata())


def _own(metadata: Any) -> tuple[Any, ...]:
    """The metadata that the two ends of the call say to each other."""
    return tuple((key, value) for key, value in metadata or () if not OWN_METADATA.fullmatch(key))


def _read(kind: Any, text: bytes) -> Message | None:
    try:
        message: Message = lenient.parse(kind, text)
    except DecodeError:
        return None
    return message


def _caller(peer: str) -> str:
    """The name of the process behind a connection: its comm when it connected; "?" where it could not be told."""
    found = re.search(rf"{PEER_NAME}/([0-9a-f]+)/", peer)
    return bytes.fromhex(found[1]).decode(errors="replace") if found else "?"


class _Front:
    """The socket that clients connect to; two threads copy the bytes of each connection to and from the gRPC server."""

    def __init__(self, path: Path, inner: str) -> None:
        self._path, self._inner = path, inner
        self._open: set[socket.socket] = set()
        self._closed = threading.Event()
        self._listener = private_socket(path, QUEUE)
        self._thread = threading.Thread(target=self._accept, daemon=True, name="labkit-proxy")
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._path.unlink(missing_ok=True)
        for each in (self._listener, *list(self._open)):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._listener.close()

    def _accept(self) -> None:
        for number in itertools.count():
            try:
                outside, _ = self._listener.accept()
            except OSError as error:
                if error.errno not in OUT_OF_FILES:
                    return
                time.sleep(PAUSE_S)  # who waits is served when another connection has ended
                continue
            serve = threading.Thread(target=self._serve, args=(outside, number), daemon=True, name="labkit-proxy-copy")
            try:
                serve.start()
            except RuntimeError as error:  # no more threads: this client is told by the end of its connection
                log.warning("a client of the recording proxy is refused: %s", error)
                outside.close()

    def _serve(self, outside: socket.socket, number: int) -> None:
        with outside, contextlib.suppress(OSError), self._socket() as inside:
            inside.bind(f"\0{PEER_NAME}/{_comm_of(outside).encode().hex()}/{os.getpid()}-{id(self)}-{number}")
            inside.connect(self._inner)
            self._open.update((outside, inside))
            back = threading.Thread(target=_copy, args=(inside, outside), daemon=True, name="labkit-proxy-copy")
            back.start()
            _copy(outside, inside)
            back.join()
            self._open.difference_update((outside, inside))

    def _socket(self) -> socket.socket:
        """For the way in. Where no more files may be open, it is waited for, as `_accept` does. Raises OSError."""
        while True:
            try:
                return socket.socket(socket.AF_UNIX)
            except OSError as error:
                if error.errno not in OUT_OF_FILES or self._closed.wait(PAUSE_S):
                    raise


def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Until `source` has no more to say, which `sink` is then told."""
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _comm_of(connection: socket.socket) -> str:
    pid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except OSError:
        return "?"
