"""Requests to a server, one after another for as long as wanted, and how each was answered."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

Dial = Callable[[], socket.socket]
ASK = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
PATIENCE_S = 2.0
"""After so long without an answer a request has failed."""


@dataclass(frozen=True)
class Answer:
    """One request.

    at_ns: CLOCK_MONOTONIC when it was sent. took_ns: until the whole answer was there, or until it failed. connection: "kept"
    (one connection for many requests) or "new". error: "" where it was answered with status 200.
    """

    at_ns: int
    took_ns: int
    connection: str
    error: str = ""


@dataclass(frozen=True)
class Moment:
    """Something that was done meanwhile: "SIGKILL", "upgrade to 1.7".

    at_ns: CLOCK_MONOTONIC. to_ns: when it was over, None for a moment. version: the runtime's from then on; "" where it does not
    change, "away" while there is none.
    """

    at_ns: int
    name: str
    to_ns: int | None = None
    version: str = ""


@dataclass
class Load:
    """A client that asks a web server `rate` times a second, by turns on a connection that it keeps and on a new one, until the
    block ends: `with Load(dial) as load: …`; then `load.answers` has every request and `load.failed` those without an answer.

    dial: opens a connection to the server. The server must keep a connection open after an answer that has a Content-Length.
    """

    dial: Dial
    rate: float = 100.0
    answers: list[Answer] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._stop = threading.Event()
        self._kept: socket.socket | None = None
        self._thread = threading.Thread(target=self._ask_on, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        if self._kept:
            self._kept.close()

    @property
    def failed(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.error]

    def _ask_on(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            self.answers.append(self._ask("new" if len(self.answers) % 2 else "kept"))
            due = max(due + 1 / self.rate, time.monotonic() - 1)
            self._stop.wait(max(due - time.monotonic(), 0))

    def _ask(self, connection: str) -> Answer:
        begun, error = time.monotonic_ns(), ""
        try:
            if connection == "new":
                with self.dial() as fresh:
                    exchange(fresh)
            else:
                self._kept = self._kept or self.dial()
                exchange(self._kept)
        except (OSError, ValueError) as problem:
            error = str(problem) or type(problem).__name__
            if connection == "kept" and self._kept:
                self._kept.close()
                self._kept = None
        return Answer(begun, time.monotonic_ns() - begun, connection, error)


def exchange(connection: socket.socket) -> bytes:
    """Send one request and read its answer's body. Raises OSError where it breaks, ValueError for any answer but 200."""
    connection.settimeout(PATIENCE_S)
    connection.sendall(ASK)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += received(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode(errors="replace").split("\r\n")
    if " 200 " not in f"{lines[0]} ":
        raise ValueError(f"answered {lines[0]}")
    length = next((int(v) for k, _, v in (line.partition(":") for line in lines[1:]) if k.lower() == "content-length"), 0)
    while len(body) < length:
        body += received(connection)
    return body


def received(connection: socket.socket) -> bytes:
    piece = connection.recv(65536)
    if not piece:
        raise ConnectionResetError("the connection was closed before the answer was complete")
    return piece
