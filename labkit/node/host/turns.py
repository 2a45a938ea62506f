"""A lock for what labs of this machine take one after the other: a subnet, a port."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Iterator

WITHIN_S = 10.0


@contextlib.contextmanager
def one_choice_at_a_time(what: str) -> Iterator[None]:
    """Two labs that start at once must not find the same thing free. The lock is a name in the network namespace, as bridges and
    ports are (man 7 unix, abstract sockets; Linux alone has them); one that is held for long is not waited for."""
    deadline = time.monotonic() + (WITHIN_S if sys.platform == "linux" else 0.0)
    with socket.socket(socket.AF_UNIX) as lock:
        while time.monotonic() < deadline:
            try:
                lock.bind(f"\0labkit-{what}")
                break
            except OSError:
                time.sleep(0.01)
        yield
