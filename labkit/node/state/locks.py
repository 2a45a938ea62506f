"""Locks: for what labs of this machine take one after the other (a subnet, a port), and for what is done to one lab."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from labkit.node.state import trust
from labkit.util.progress import Progress, attempts

if TYPE_CHECKING:
    from labkit.node.state.home import Home

WITHIN_S = 10.0


@contextlib.contextmanager
def machine_lock(what: str) -> Iterator[None]:
    """Two labs that start at once must not find the same thing free. The lock is a name in the network namespace, as bridges and
    ports are (man 7 unix, abstract sockets; Linux alone has them); one that is held for long is not waited for."""
    with socket.socket(socket.AF_UNIX) as lock:
        for _ in attempts(WITHIN_S, 0.01) if sys.platform == "linux" else ():
            with contextlib.suppress(OSError):
                lock.bind(f"\0labkit-{what}")
                break
        yield


@contextlib.contextmanager
def home_lock(home: Home, progress: Progress) -> Iterator[None]:
    """One `up`, `down` or `clean` at a time; a second one waits, and says that it does."""
    home.make()
    lock = trust.append(home.run / "up.lock")
    with trust.locked(lock, lambda: progress("another labkit is at work on this node; waiting for it")):
        yield
