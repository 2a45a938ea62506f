"""The relay's program, which `labkit.node.host.relay` starts and stops: it takes the socket, then serves in the background.

Standard library only and run by its path, not as a module: it finds no labkit.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from labkit.node.host import relay_loop
else:
    sys.path.append(str(Path(__file__).parent))
    import relay_loop

QUEUE = 4096
"""A client that connects without blocking, as gRPC does, is refused when the queue is full (man 2 connect, EAGAIN). The kernel
makes it no longer than net.core.somaxconn."""


class RelayRefused(Exception):
    """The relay cannot start: what happened, what to do."""


def main(arguments: Sequence[str]) -> int:
    """`SOCKET LOG ARGV…` serves in the background: exit code 0 once it listens, else 1 with what happened and what to do on
    stderr, a line each."""
    path, log_file, *argv = arguments
    os.umask(0o077)
    try:
        serve(Path(path), Path(log_file), argv)
    except RelayRefused as error:
        print(*error.args, sep="\n", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"The relay cannot start: {error}.", file=sys.stderr)
        return 1
    return 0


def serve(path: Path, log_file: Path, argv: list[str]) -> None:
    """Listen, then go on in a process of its own, which nobody's Ctrl-C or closed terminal reaches. Only the caller returns."""
    lock = own(path)
    logging.basicConfig(filename=log_file, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    relay = relay_loop.Relay(path, listen(path), argv)
    with open(os.devnull, "r+") as nothing:
        for fd in (0, 1, 2):
            os.dup2(nothing.fileno(), fd)
    if pid := os.fork():
        lock.write(str(pid))
        lock.flush()
        return
    try:
        os.setsid()
        os.chdir("/")
        relay.run()
    except Exception as error:
        relay_loop.log.exception("the relay failed")
        relay.full = False
        relay.tell(f"{relay_loop.FAILED} {type(error).__name__}: {error}.")
    finally:
        os._exit(0)


def own(path: Path) -> TextIO:
    """Take the relay's lock, which the kernel gives back when its holder ends, however it ends."""
    lock = open(f"{path}.lock", "a")  # noqa: SIM115  # held open for the life of the process
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RelayRefused(f"Another relay already serves {path}.", "Stop that one first.") from None
    lock.truncate(0)
    return lock


def listen(path: Path) -> socket.socket:
    """A listening socket of mode 0600 at `path`. What a killed program left there is replaced; anything else is left alone."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise RelayRefused(f"{path} is in the way: it is not a socket.", "Move it and try again.")
        if answers(path):
            raise RelayRefused(f"Another program already listens on {path}.", "End it and try again.")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError as error:
        raise RelayRefused(
            f"{path} cannot be made: {error.strerror or error}.", "Set LABKIT_HOME to another directory."
        ) from None
    finally:
        os.umask(before)
    listener.listen(QUEUE)
    listener.setblocking(False)
    return listener


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
        return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
