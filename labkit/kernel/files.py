"""Read files of /proc: whole, and those that are read again and again without opening them each time; call the C library."""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
from collections.abc import Callable

_READ_SIZE = 65536
_MOST_KEPT = 4096
_SELECT_BELOW = 1024
"""FD_SETSIZE: select(2) takes smaller numbers only."""
OPEN: set[int] = set()
"""The descriptors of all files of this process that are kept open here."""

libc = ctypes.CDLL(None, use_errno=True)


def checked(answer: int) -> int:
    """The answer of a call of `libc`. Raises OSError where it is an error."""
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer


def read_text(path: str, directory: int | None = None) -> str:
    """A whole file, however many reads the kernel hands it out in. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY, dir_fd=directory)
    try:
        chunks = []
        while chunk := os.read(descriptor, _READ_SIZE):
            chunks.append(chunk)
    finally:
        os.close(descriptor)
    return b"".join(chunks).decode(errors="surrogateescape")


def read_bytes(path: str, directory: int | None = None) -> bytes:
    """A file that is one record, which the kernel hands out whole when there is room for it. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY, dir_fd=directory)
    try:
        return _record(descriptor)
    finally:
        os.close(descriptor)


class Kept:
    """Files of one /proc/PID that stay open, since opening and closing one takes five times as long as reading it. Through them a
    successor with the same pid is never read. seen: what was read of them and found to tell nothing new."""

    def __init__(self, directory: str) -> None:
        """directory: /proc/PID."""
        self._directory = directory
        self._descriptors: dict[str, int] = {}
        self.seen: object = None
        self.files_seen: object = None
        self.held: tuple[tuple[str, int, int, int], ...] = ()

    def read(self, name: str) -> bytes:
        """As `read_bytes`, for a file below the directory. Raises OSError."""
        descriptor = self._descriptors.get(name)
        if descriptor is not None:
            return _record(descriptor, again=True)
        descriptor = self._open(name)
        return read_bytes(f"{self._directory}/{name}") if descriptor is None else _record(descriptor)

    def stat(self, name: str) -> os.stat_result:
        """Of a file or directory below the directory. Raises OSError."""
        descriptor = self._descriptors.get(name)
        if descriptor is None:
            descriptor = self._open(name)
        return os.stat(f"{self._directory}/{name}") if descriptor is None else os.fstat(descriptor)

    def _open(self, name: str) -> int | None:
        """None where no more files may stay open."""
        if len(OPEN) >= _most_kept():
            return None
        descriptor = self._descriptors[name] = _moved_up(os.open(f"{self._directory}/{name}", os.O_RDONLY))
        OPEN.add(descriptor)
        return descriptor

    def __del__(self, close: Callable[[int], None] = os.close, kept: set[int] = OPEN) -> None:
        for descriptor in self._descriptors.values():
            kept.discard(descriptor)
            close(descriptor)


def _most_kept() -> int:
    """A quarter of what a process may open, since the rest of the program needs some too."""
    return min(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4, _MOST_KEPT)


def _moved_up(descriptor: int) -> int:
    """The same file with a number that select(2) does not take, so that the rest of the program keeps the others; with the number
    that it has where the program can have none so high."""
    try:
        moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _SELECT_BELOW)
    except OSError:
        return descriptor
    os.close(descriptor)
    return moved


def _record(descriptor: int, again: bool = False) -> bytes:
    data = os.pread(descriptor, _READ_SIZE, 0) if again else os.read(descriptor, _READ_SIZE)
    while data and len(data) % _READ_SIZE == 0 and (more := os.pread(descriptor, _READ_SIZE, len(data))):
        data += more
    return data
