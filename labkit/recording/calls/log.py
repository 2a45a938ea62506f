"""CRI calls as they are made: who called what, when, with which messages, and how it ended.

Times are CLOCK_MONOTONIC in ns (`time.monotonic_ns`), the clock that the kernel's own events carry.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import grpc
from google.protobuf.message import Message

from labkit.cri.client import CriClient

SECRETS = ("password", "auth", "identity_token", "registry_token")
"""The fields of AuthConfig that must not be kept."""


def keeps_response(method: str) -> bool:
    """Whether an RPC's response is worth keeping: what a list holds is not (a kubelet asks for one each second)."""
    return not method.startswith(("List", "Stream"))


@dataclass(frozen=True)
class CallRecord:
    """One call.

    number: tells calls of one log apart, in the order of their start. service: "RuntimeService" or "ImageService". to_ns: None
    while it is under way. caller: "labkit", or the comm of the process that called. code: the gRPC status code's name
    ("OK", "NOT_FOUND"), "" while under way. request, response: copies, of a stream the last response; None where there was none
    or it could not be read. responses: how many there were. source: "interceptor" (a client of labkit's), "proxy", or "log" (the
    runtime's own).
    """

    number: int
    service: str
    method: str
    from_ns: int
    to_ns: int | None
    caller: str
    code: str
    request: Message | None
    response: Message | None = None
    responses: int = 0
    source: str = "interceptor"


class CallLog:
    """What was called while somebody recorded. Safe to use from several threads.

    on_change: called with the record when a call starts and again when it has ended; it must not block.
    """

    def __init__(self) -> None:
        self.on_change: Callable[[CallRecord], None] | None = None
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._calls: dict[int, CallRecord] = {}

    def records(self) -> tuple[CallRecord, ...]:
        """All calls so far, in the order of their start; those under way with `to_ns` None."""
        with self._lock:
            return tuple(self._calls.values())

    def begin(self, path: str, request: Message | None, *, caller: str = "labkit", source: str = "interceptor") -> int:
        """Note that a call starts; its number. path: "/runtime.v1.RuntimeService/Version"."""
        service, _, method = path.removeprefix("/").partition("/")
        with self._lock:
            call = CallRecord(
                next(self._numbers),
                service.rpartition(".")[2],
                method,
                time.monotonic_ns(),
                None,
                caller,
                "",
                without_secrets(request),
                source=source,
            )
            self._calls[call.number] = call
        self._tell(call)
        return call.number

    def answered(self, number: int, response: Message | None) -> None:
        """Note a response."""
        with self._lock:
            if call := self._calls.get(number):
                self._calls[number] = replace(call, response=response, responses=call.responses + 1)

    def end(self, number: int, code: str) -> None:
        """Note that a call has ended; only the first end counts."""
        now = time.monotonic_ns()
        with self._lock:
            if number not in self._calls or self._calls[number].to_ns is not None:
                return
            call = self._calls[number] = replace(self._calls[number], to_ns=now, code=code)
        self._tell(call)

    def take(self, record: CallRecord, number: int | None = None) -> int:
        """Take in a call that was noted elsewhere: a new one, or what has become of `number`. Its number here."""
        with self._lock:
            record = replace(record, number=next(self._numbers) if number is None else number)
            self._calls[record.number] = record
        self._tell(record)
        return record.number

    def _tell(self, call: CallRecord) -> None:
        if self.on_change:
            self.on_change(call)


@contextlib.contextmanager
def recorded(client: CriClient, log: CallLog) -> Iterator[None]:
    """Every call that is made through `client` meanwhile goes into `log`. Several may record one client at a time.

    The client is as it was when nobody records: an interceptor that has nothing to note costs 20 µs a call.
    """
    with _ATTACHING:
        interceptor = _INTERCEPTORS.get(client)
        if interceptor is None:
            interceptor = _INTERCEPTORS[client] = CallInterceptor(client._channel)
            _use(client, grpc.intercept_channel(client._channel, interceptor))
        interceptor.logs = (*interceptor.logs, log)
    try:
        yield
    finally:
        with _ATTACHING:
            interceptor.logs = tuple(each for each in interceptor.logs if each is not log)
            if not interceptor.logs:
                _use(client, interceptor.bare)
                del _INTERCEPTORS[client]


def without_secrets(request: Message | None) -> Message | None:
    """A copy of a request in which the credentials of its AuthConfig, if it has one, are replaced by a word."""
    if request is None:
        return None
    copy = type(request)()
    copy.CopyFrom(request)
    if "auth" in request.DESCRIPTOR.fields_by_name and request.HasField("auth"):
        for name in SECRETS:
            if getattr(request.auth, name):  # type: ignore[attr-defined]  # PullImageRequest
                setattr(copy.auth, name, "(not recorded)")  # type: ignore[attr-defined]
    return copy


class CallInterceptor(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Notes the calls of one channel in each of `logs`. bare: the channel without it."""

    def __init__(self, bare: Any) -> None:
        self.bare = bare
        self.logs: tuple[CallLog, ...] = ()

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        notes = [(log, log.begin(details.method, request)) for log in self.logs]
        if not notes:
            return continuation(details, request)
        try:
            call = continuation(details, request)
        except BaseException:
            # grpc hands a failure over as an outcome: what is raised here is an interrupt.
            for log, number in notes:
                log.end(number, "CANCELLED")
            raise
        call.add_done_callback(lambda done: _note_end(notes, done))
        return call

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        notes = [(log, log.begin(details.method, request)) for log in self.logs]
        call = continuation(details, request)
        return _RecordedStream(call, notes) if notes else call


class _RecordedStream(Iterator[Any]):
    """A stream's responses, each noted as it is read. Everything else is the stream's own."""

    def __init__(self, call: Any, notes: list[tuple[CallLog, int]]) -> None:
        self._call, self._notes = call, notes
        if not call.add_callback(self._ended):
            self._ended()

    def __next__(self) -> Any:
        response = next(self._call)
        for log, number in self._notes:
            log.answered(number, response)
        return response

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def _ended(self) -> None:
        code = self._call.code()
        for log, number in self._notes:
            log.end(number, code.name if code else "CANCELLED")


def _note_end(notes: list[tuple[CallLog, int]], call: Any) -> None:
    code = call.code().name
    for log, number in notes:
        if code == "OK":
            log.answered(number, call.result())
        log.end(number, code)


_INTERCEPTORS: WeakKeyDictionary[CriClient, CallInterceptor] = WeakKeyDictionary()
_ATTACHING = threading.Lock()


def _use(client: CriClient, channel: Any) -> None:
    """Let the client's next calls go by this channel. In this order: see CriClient._call."""
    client._channel = channel
    client._callables = {}
