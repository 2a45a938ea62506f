"""A process that reads the kernel's events for this one, and the channel on which they come."""

from __future__ import annotations

import marshal
import select
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from labkit.kernel.events.stream import EventsError
from labkit.util import environment

# A bare interpreter starts in 30 ms, an environment's in twice that.
PYTHON = [sys.executable, "-I", "-S"]
MESSAGE_BYTES = 8 * 1024 * 1024
"""As much as an exec's arguments can be (6 MB, man 2 execve), and the room for messages that wait between two readings."""
SO_SNDBUFFORCE = 32
KEPT = "The events before that are kept; start a new recording for those to come."


@dataclass(frozen=True)
class ReaderProcess:
    process: subprocess.Popen[bytes]
    channel: socket.socket


def start(program: str, *arguments: str) -> ReaderProcess:
    """A reader: a program of the standard library alone, with a channel as its stdin."""
    channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        theirs.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, MESSAGE_BYTES)
    except PermissionError:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE_BYTES)
    try:
        process = subprocess.Popen(
            [*PYTHON, program, *arguments],
            env=environment.daemon(),
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Nobody's Ctrl-C ends it: it ends when its channel does.
            start_new_session=True,
        )
    except OSError as error:
        channel.close()
        raise EventsError(f"The reader of process events cannot be started ({error}).", "See that Python can be run.") from None
    finally:
        theirs.close()
    return ReaderProcess(process, channel)


def receive(reader: ReaderProcess, flags: int = 0) -> tuple[str, Any]:
    """("", ()) where the reader has ended. Raises BlockingIOError with MSG_DONTWAIT where no message waits."""
    try:
        message = reader.channel.recv(MESSAGE_BYTES, flags)
    except ConnectionResetError:
        message = b""
    return marshal.loads(message) if message else ("", ())


def end(readers: list[ReaderProcess]) -> None:
    for reader in readers:
        reader.channel.close()
    for reader in readers:
        reader.process.wait()


def wait_readable(channel: socket.socket) -> None:
    """Wait until there is something to read, or the other side has ended. select(2) takes no descriptor above 1023."""
    waiting = select.poll()
    waiting.register(channel, select.POLLIN)
    waiting.poll()


def killed(reader: ReaderProcess) -> str:
    code = reader.process.wait()
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else "failed"
    return f"The process that reads the kernel's events (pid {reader.process.pid}) {how}."
