"""How any process asks the node's owner to do something: one line of JSON over a Unix socket, lines of JSON back.

A request is {"do": NAME, …}. The answers are any number of {"said": TEXT}, then {"done": {…}} or {"refused": [happened, todo]}.
The owner works on one request at a time and refuses others meanwhile. It finishes what it has begun even if the asker dies. PING
is answered at any time: it asks only whether the owner runs.
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from labkit.node.host.relay_loop import OUT_OF_FILES, PAUSE_S
from labkit.node.state.home import Home
from labkit.util.errors import NodeError
from labkit.util.progress import Progress
from labkit.util.unix_sockets import private_socket

SENT_WITHIN_S = 2.0
PING = "ping"
SILENT = ("The node's owner runs and does not answer.", "Its log, labkit.log, may say why.")


class ControlRequest:
    """A request that waits for its answer. `progress`, `done` and `refused` write to an asker who may be gone."""

    def __init__(self, connection: socket.socket, words: dict[str, Any], over: Callable[[], None]) -> None:
        self.connection, self.words, self.over = connection, words, over

    def progress(self, text: str) -> None:
        self._write({"said": text})

    def done(self, **what: Any) -> None:
        self._end({"done": what})

    def refused(self, happened: str, todo: str = "") -> None:
        self._end({"refused": [happened, todo]})

    def _end(self, words: dict[str, Any]) -> None:
        self.over()
        self._write(words)
        self.connection.close()

    def _write(self, words: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self.connection.sendall(json.dumps(words).encode() + b"\n")


class Control:
    """The owner's end of the socket. A thread listens, so that a second asker is refused at once while the owner is busy."""

    def __init__(self, home: Home) -> None:
        self.busy = ""
        self.lock = threading.Lock()
        self.requests: queue.Queue[ControlRequest] = queue.Queue()
        self.path = home.control
        self.listener = private_socket(self.path)
        threading.Thread(target=self._listen, daemon=True).start()

    def next(self, timeout: float) -> ControlRequest | None:
        """The next request within `timeout` seconds, else None. Answer it by `done` or `refused`."""
        try:
            return self.requests.get(timeout=timeout)
        except queue.Empty:
            return None

    def close(self) -> None:
        """Refuse the requests that wait, and stop listening."""
        self.path.unlink(missing_ok=True)
        self.listener.close()
        while request := self.next(0.001):
            request.refused("The node is being stopped.", "Bring it up with `labkit up`.")

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError as error:
                if error.errno not in OUT_OF_FILES:
                    return  # closed
                time.sleep(PAUSE_S)
                continue
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()  # a silent client blocks nobody

    def _read(self, connection: socket.socket) -> None:
        connection.settimeout(SENT_WITHIN_S)
        words: Any = None
        with contextlib.suppress(OSError, ValueError, RecursionError):
            words = json.loads(connection.makefile().readline())
        if isinstance(words, dict) and isinstance(words.get("do"), str):
            self._take(connection, words)
        else:
            connection.close()

    def _take(self, connection: socket.socket, words: dict[str, Any]) -> None:
        request = ControlRequest(connection, words, self._over)
        if words["do"] == PING:
            request.over = lambda: None
            return request.done()
        with self.lock:
            busy, self.busy = self.busy, self.busy or words["do"]
        if busy:
            request.over = lambda: None
            request.refused(f"The node is busy with another {busy} of containerd.", "Wait until it is done, then try again.")
        else:
            self.requests.put(request)

    def _over(self) -> None:
        with self.lock:
            self.busy = ""


def ask(home: Home, progress: Progress, within_s: float | None = None, **words: Any) -> dict[str, Any]:
    """Ask the node's owner and wait for its answer, `within_s` seconds for each line. Raises NodeError when it refuses or does
    not run.

    An interrupt does not stop what the owner has begun: the answer is awaited all the same, and KeyboardInterrupt is raised then,
    with the answer as its argument. A second interrupt ends the waiting.
    """
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(socket.socket(socket.AF_UNIX))
        connection.settimeout(within_s)
        try:
            connection.connect(str(home.control))
        except TimeoutError:
            raise NodeError(*SILENT) from None
        except OSError:
            raise NodeError("The node's owner does not run.", "Bring the node up with `labkit up`.") from None
        connection.sendall(json.dumps(words).encode() + b"\n")
        lines = connection.makefile()
        try:
            return _answer(lines, progress)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_answer(lines, progress)) from None


def answered(lines: Any) -> Iterator[str]:
    """Yield lines until the owner is done or gone."""
    with contextlib.suppress(OSError):
        try:
            yield from lines
        except TimeoutError:
            raise NodeError(*SILENT) from None


def _answer(lines: Any, progress: Progress) -> dict[str, Any]:
    for line in answered(lines):
        answer = json.loads(line)
        if "said" in answer:
            progress(answer["said"])
        elif "refused" in answer:
            raise NodeError(*answer["refused"])
        else:
            done: dict[str, Any] = answer["done"]
            return done
    raise NodeError("The node was stopped meanwhile.", "Bring it up with `labkit up`.")
