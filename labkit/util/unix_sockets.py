"""Unix sockets: those that only their owner can connect to, and connections to any."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

QUEUE = 128


def private_socket(path: Path, queue: int = QUEUE) -> socket.socket:
    """A listening Unix socket of mode 0600 from its first moment; an old one at that path is replaced. Raises OSError.

    On Linux bind(2) gives the file the mode that the socket has (net/unix/af_unix.c). The umask is left alone: it belongs to the
    whole process, and another thread may be making a file.
    """
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    try:
        with contextlib.suppress(OSError):  # macOS refuses it
            os.fchmod(listener.fileno(), 0o600)
        listener.bind(str(path))
        os.chmod(path, 0o600)
        listener.listen(queue)
    except OSError:
        listener.close()
        raise
    return listener


def connect(path: str) -> socket.socket:
    """A connection to a Unix socket of this machine. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection
