"""Read files of /proc: whole, and those that are read again and again without opening them each time."""

from __future__ import annotations

import fcntl
import os
import resource
from collections.abc import Callable

_READ_SIZE = 65536
_MOST_KEPT = 4096
_SELECT_BELOW = 1024
"""FD_SETSIZE: select(2) takes smaller numbers only."""


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
    successor with the same pid is never read. seen: texts of them that have been found to tell nothing new."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.descriptors: dict[str, int] = {}
        self.seen: tuple[bytes, ...] = ()

    def read(self, path: str) -> bytes:
        """As `read_bytes`, for files below one /proc/PID. Raises OSError."""
        descriptor = self.descriptors.get(path)
        if descriptor is not None:
            return _record(descriptor, again=True)
        if self._room.left <= 0:
            return read_bytes(path)
        descriptor = self.descriptors[path] = _moved_up(os.open(path, os.O_RDONLY))
        self._room.left -= 1
        return _record(descriptor)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        for descriptor in self.descriptors.values():
            close(descriptor)
        self._room.left += len(self.descriptors)


class Room:
    """How many files may stay open: a quarter of what a process may open, since the rest of the program needs some too."""

    def __init__(self) -> None:
        self.left = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4, _MOST_KEPT)


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
