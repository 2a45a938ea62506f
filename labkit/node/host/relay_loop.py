"""What the relay's process does: it hands each connection to a local Unix socket to a command. `relay_process.py` starts it.

The accepted connection itself becomes the command's standard input and output. So the kernel moves the bytes: no copy is made
here, no buffer can grow, a half-closed connection stays one, and a call costs what the command costs and nothing more. This
process only accepts, reaps, keeps the last words of a command that failed, and ends one whose client has gone.

Standard library only: it starts in 50 ms and stays small beside the notebooks.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import json
import logging
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

log = logging.getLogger("relay")

GRACE_S = 2.0
"""A command whose client has gone sees the end of its input; one that still runs this long after is killed."""
SETTLED_S = 2.0
"""A command that runs this long is taken for connected: an earlier one's failure is then out of date."""
LOOK_EVERY_S = 5.0
MAX_CONNECTIONS = 4000
"""More wait in the queue, and so do those for which this process may open no more files: two each, and OWN_FILES."""
OWN_FILES = 32
AT_ONCE = 64
PAUSE_S = 0.05
OUT_OF_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
LAST_WORDS_BYTES = 4096
CHUNK_BYTES = 64 * 1024
PR_SET_PDEATHSIG = 1
prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


PROGRAM = Path(__file__).with_name("relay_process.py")
FAILED = "The relay ended, since"
"""How the state's error begins when it ended by a fault of its own."""


def most_connections() -> int:
    """How many connections can be served at a time."""
    files = raise_open_files(2 * MAX_CONNECTIONS + OWN_FILES)
    return max(1, min(MAX_CONNECTIONS, (files - OWN_FILES) // 2))


def raise_open_files(wanted: int) -> int:
    """Raise this process's limit of open files towards `wanted`. Returns the limit.

    It does not use `labkit.util.environment.raise_limit`: this program is run by its path and finds no labkit.
    """
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (sys.maxsize if limit == resource.RLIM_INFINITY else limit for limit in limits)
    with contextlib.suppress(OSError, ValueError):  # some systems allow fewer than the hard limit says
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), limits[1]))
            soft = min(wanted, hard)
    return soft


def ended_child() -> tuple[int, int] | None:
    """A child that has ended, and its exit code (-N for signal N). It stays until it is waited for, so that whoever sees it gone
    finds its connection finished; where the system cannot leave it, it is gone at once."""
    if not hasattr(os, "waitid"):
        pid, status = os.waitpid(-1, os.WNOHANG)
        return (pid, os.waitstatus_to_exitcode(status)) if pid else None
    ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is None:
        return None
    return ended.si_pid, ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def is_gone(client: socket.socket) -> bool:
    """Whether the other end has closed both halves, so that nobody would read an answer."""
    poll = select.poll()
    poll.register(client, 0)
    return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))


@dataclass(eq=False)
class Connection:
    """A client and the command that serves it. `left`: when the client was seen gone, monotonic seconds."""

    client: socket.socket
    child: subprocess.Popen[bytes]
    stderr: int
    last_output: bytes = b""
    left: float | None = None
    started: float = field(default_factory=time.monotonic)


class Relay:
    """One loop over the listening socket, the clients' departures, the commands' stderr and their ends. Without threads, since a
    child's parent, to PR_SET_PDEATHSIG, is the thread that started it (man 2 PR_SET_PDEATHSIG)."""

    def __init__(self, path: Path, listener: socket.socket, argv: list[str]) -> None:
        self.path, self.listener, self.argv = path, listener, argv
        self.inode = path.stat().st_ino
        self.most = self.limit = most_connections()
        self.connections: dict[int, Connection] = {}  # by the command's pid
        self.actions: dict[int, Callable[[], None]] = {}
        self.poll = select.poll()
        self.failed_at = 0.0
        self.stopping = self.full = False
        self.waiting: socket.socket | None = None  # a client that was accepted and has no command yet
        self.spare = open(os.devnull)  # noqa: SIM115  # so that there is a file for the state when there is no other
        self.tell(None)
        self.wake, wakened = socket.socketpair()
        for end in (self.wake, wakened):
            end.setblocking(False)
        signal.set_wakeup_fd(wakened.detach(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self.watch(self.wake.fileno(), select.POLLIN, self.drain)
        self.watch(self.listener.fileno(), select.POLLIN, self.accept)

    def run(self) -> None:
        """Serve until SIGTERM, or until the socket's file is gone and so nobody can come any more; then leave nothing behind."""
        log.info("relay %d: %s, each connection to: %s", os.getpid(), self.path, " ".join(self.argv))
        while not self.stopping and (self.connections or self.has_socket()):
            self.turn()
        self.unwatch(self.listener.fileno())
        if self.has_socket():
            self.path.unlink()
            state_file(self.path).unlink(missing_ok=True)
        self.listener.close()
        for connection in self.connections.values():
            self.leave(connection)
        while self.connections:
            self.turn()
        log.info("relay %d ended", os.getpid())

    def stop(self, number: int, frame: object) -> None:
        self.stopping = True

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self.wake.recv(CHUNK_BYTES):
                pass

    def has_socket(self) -> bool:
        try:
            return self.path.lstat().st_ino == self.inode
        except FileNotFoundError:
            return False

    def turn(self) -> None:
        hurried = self.waiting or (self.connections and (self.error or any(c.left for c in self.connections.values())))
        for fd, _ in self.poll.poll(100 if hurried else LOOK_EVERY_S * 1000):
            if fd in self.actions:
                self.actions[fd]()
        self.reap()
        now = time.monotonic()
        for connection in self.connections.values():
            if connection.left is not None and now - connection.left > GRACE_S:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(connection.child.pid, signal.SIGKILL)
        if self.error and any(self.failed_at < c.started < now - SETTLED_S for c in self.connections.values()):
            self.tell(None)
        if self.full and not self.stopping and len(self.connections) < self.most:
            self.set_full(False)

    def reap(self) -> None:
        """Finish the connections whose commands have ended: only those are looked at, however many there are."""
        with contextlib.suppress(ChildProcessError):
            while ended := ended_child():
                pid, code = ended
                if connection := self.connections.pop(pid, None):
                    connection.child.returncode = code
                    self.finish(connection)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)

    def accept(self) -> None:
        """Take clients that wait, but not so many that others are kept waiting. One that has gone meanwhile gets no command."""
        for _ in range(AT_ONCE):
            if self.full:
                return
            try:
                self.waiting = self.waiting or self.listener.accept()[0]
                if is_gone(self.waiting):
                    self.waiting.close()
                else:
                    self.serve(self.waiting)
                self.waiting = None
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in OUT_OF_FILES:
                    raise
                self.most = max(1, len(self.connections))
                time.sleep(PAUSE_S)  # should it be the whole machine that has no more
                return self.set_full(True)
            if len(self.connections) >= self.most:
                self.set_full(True)

    def set_full(self, full: bool) -> None:
        """Stop or go on taking clients; while it is full, the state says so."""
        self.full = full
        if full:
            self.unwatch(self.listener.fileno())
            log.warning("full: %d connections", len(self.connections))
        else:
            self.most = self.limit  # a shortage of files may be over
            self.watch(self.listener.fileno(), select.POLLIN, self.accept)
            if self.waiting:
                self.accept()
        self.tell(self.error)

    def serve(self, client: socket.socket) -> None:
        """Start a client's command. Raises OSError where there are no files for it."""
        try:
            child = subprocess.Popen(
                self.argv,
                stdin=client.fileno(),
                stdout=client.fileno(),
                stderr=subprocess.PIPE,
                bufsize=0,
                process_group=0,
                preexec_fn=functools.partial(die_with, os.getpid()),
            )
        except OSError as error:
            if error.errno in OUT_OF_FILES:
                raise
            self.fail(f"{self.argv[0]} cannot be run: {error.strerror}.")
            client.close()
            return
        assert child.stderr is not None
        os.set_blocking(child.stderr.fileno(), False)
        connection = Connection(client, child, child.stderr.fileno())
        self.connections[child.pid] = connection
        # No event asked for: POLLHUP comes unasked, and only when the client has closed, not when it has shut down one half.
        self.watch(client.fileno(), 0, lambda: self.leave(connection))
        self.watch(connection.stderr, select.POLLIN, lambda: self.hear(connection))

    def hear(self, connection: Connection) -> None:
        """Read what the command writes to stderr, so that it never waits, and keep the end of it."""
        with contextlib.suppress(BlockingIOError):
            while words := os.read(connection.stderr, CHUNK_BYTES):
                connection.last_output = (connection.last_output + words)[-LAST_WORDS_BYTES:]
            self.unwatch(connection.stderr)

    def leave(self, connection: Connection) -> None:
        """The client has gone, or has to: the command reads the end of its input."""
        connection.left = connection.left or time.monotonic()
        self.unwatch(connection.client.fileno())
        with contextlib.suppress(OSError):
            connection.client.shutdown(socket.SHUT_RDWR)

    def finish(self, connection: Connection) -> None:
        """The command has ended: if it failed, the reason is written, and only then does the client read the end of its
        connection, even where a child of the command still holds it."""
        self.hear(connection)
        if connection.child.returncode and connection.left is None:
            self.fail(reason(self.argv[0], connection.child.returncode, connection.last_output))
        self.leave(connection)
        self.unwatch(connection.stderr)
        connection.client.close()
        if connection.child.stderr:
            connection.child.stderr.close()

    def fail(self, why: str) -> None:
        self.failed_at = time.monotonic()
        if why != self.error:
            log.warning("%s", why)
            self.tell(why)

    def tell(self, error: str | None) -> None:
        """Write the state that `labkit.node.host.relay` reads, atomically."""
        self.error: str | None = error
        if self.full:
            error = f"The relay serves {len(self.connections)} connections, as many as it can, and others wait for one to end."
        new = state_file(self.path).with_suffix(".new")
        self.spare.close()
        try:
            new.write_text(json.dumps({"argv": self.argv, "error": error}))
            os.replace(new, state_file(self.path))
            self.spare = open(os.devnull)  # noqa: SIM115
        except OSError as problem:
            if problem.errno not in OUT_OF_FILES:
                raise
            log.warning("the state cannot be written: %s", problem)

    def watch(self, fd: int, events: int, action: Callable[[], None]) -> None:
        self.actions[fd] = action
        self.poll.register(fd, events)

    def unwatch(self, fd: int) -> None:
        if self.actions.pop(fd, None):
            self.poll.unregister(fd)


def state_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def die_with(parent: int) -> None:
    """In a new child: end when the parent ends, be it by SIGKILL (man 2 PR_SET_PDEATHSIG). Elsewhere than on Linux a relay's
    command ends with its connection."""
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


def reason(program: str, code: int, output: bytes) -> str:
    """Why a command failed, in one sentence: the last line that it wrote, without advice on usage and without socat's time and
    pid."""
    lines = [line.strip() for line in output.decode(errors="replace").splitlines()]
    messages = [line for line in lines if line and not line.startswith(("See '", "Run '"))]
    if messages:
        return re.sub(r"^[\d/]+ [\d:.]+ socat\[\d+\] [A-Z] ", "socat: ", messages[-1])[:400]
    if code < 0:
        return f"{program} was ended by {signal.Signals(-code).name}."
    return f"{program} ended with exit code {code} and printed nothing."
