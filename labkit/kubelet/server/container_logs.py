"""Container logs as the kubelet serves them: files in the CRI format, read from the end, followed, over rotations.

One line of such a file is "TIME STREAM TAG TEXT"; the tag P says that the line goes on in the next one (CRI's logging design;
the kubelet's kuberuntime/logs package).
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

BLOCK = 65536
LONGEST_LINE = 2**20
"""A line without an end is passed on in pieces of this size."""


@dataclass(frozen=True)
class LogOptions:
    """As PodLogOptions: `tail` lines (None: all), not older than `since` (RFC 3339, compared as text of one length), with
    `timestamps`, `limit` bytes in all (None: no limit), of one `stream` only ("stdout", "stderr", "" for both)."""

    tail: int | None = None
    since: str = ""
    timestamps: bool = False
    limit: int | None = None
    stream: str = ""


@dataclass
class Formatter:
    """Turns lines of the file into what the reader asked for. Keeps count of the bytes, and of lines that are not finished."""

    options: LogOptions
    written: int = 0
    unfinished: bool = field(default=False)

    def text(self, line: bytes) -> bytes:
        """The output for one line of the file, with its end or without; empty where it is not wanted."""
        parts = line.rstrip(b"\n").split(b" ", 3)
        if len(parts) < 3 or parts[1] not in (b"stdout", b"stderr"):
            return b""
        time, stream, tag = parts[:3]
        content = parts[3] if len(parts) == 4 else b""
        if self.options.since and comparable(time.decode(errors="replace")) < comparable(self.options.since):
            return b""
        if self.options.stream and stream.decode(errors="replace") != self.options.stream:
            return b""
        stamp = nine_digits(time) + b" " if self.options.timestamps and not self.unfinished else b""
        self.unfinished = tag.split(b":")[0] == b"P"
        return self.limited(stamp + content + (b"" if self.unfinished else b"\n"))

    def limited(self, output: bytes) -> bytes:
        if self.options.limit is not None:
            output = output[: max(self.options.limit - self.written, 0)]
        self.written += len(output)
        return output

    @property
    def full(self) -> bool:
        return self.options.limit is not None and self.written >= self.options.limit


class LogReader:
    """One log, read on and on: `read` gives what is there now, and after a rotation goes on with the new file."""

    def __init__(self, path: Path, options: LogOptions) -> None:
        self.path, self.formatter = path, Formatter(options)
        self.file: IO[bytes] | None = None
        self.rest = b""
        self.tail = options.tail

    def __enter__(self) -> LogReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        if self.file:
            self.file.close()

    def read(self) -> Iterator[bytes]:
        """Everything that was written since the last call, formatted. A file that is not there yet has nothing."""
        while self.open():
            assert self.file is not None
            while not self.formatter.full and (block := self.file.read(BLOCK)):
                *lines, self.rest = (self.rest + block).split(b"\n")
                yield b"".join(map(self.formatter.text, lines))
                if len(self.rest) > LONGEST_LINE:
                    yield self.formatter.text(self.rest)
                    self.rest = b""
            if self.formatter.full or not self.rotated():
                return
            self.file.close()
            self.file, self.rest = None, b""

    def open(self) -> bool:
        if self.file is None:
            try:
                self.file = self.path.open("rb")
            except FileNotFoundError:
                return False
            if self.tail is not None:
                self.file.seek(start_of_tail(self.file, self.tail))
                self.tail = None
        return True

    def rotated(self) -> bool:
        """Whether another file has taken this one's place."""
        try:
            assert self.file is not None
            return os.stat(self.path).st_ino != os.fstat(self.file.fileno()).st_ino
        except FileNotFoundError:
            return False


def start_of_tail(file: IO[bytes], lines: int) -> int:
    """Where the last so many lines of a file begin, in bytes. A last line that has no end yet counts as none."""
    end = file.seek(0, os.SEEK_END)
    if lines <= 0:
        return end
    position, left = end, lines + 1
    while position > 0:
        size = min(BLOCK, position)
        position -= size
        file.seek(position)
        block = file.read(size)
        found = block.count(b"\n")
        if found >= left:
            at = len(block)
            for _ in range(left):
                at = block.rindex(b"\n", 0, at)
            return position + at + 1
        left -= found
    return 0


def nine_digits(time: bytes) -> bytes:
    """A time as the kubelet prints it: nine digits of a second, also where the runtime has left out zeros."""
    parts = re.fullmatch(rb"(.+T[0-9:]+)(?:\.([0-9]+))?(Z|[+-][0-9:]+)", time)
    return time if parts is None else parts[1] + b"." + (parts[2] or b"").ljust(9, b"0") + parts[3]


def check_there(path: Path) -> None:
    """Raises FileNotFoundError in the kubelet's words for a log that is not there (ReadLogs)."""
    if not path.exists():
        words = f'failed to try resolving symlinks in path "{path}": lstat {path}: no such file or directory'
        raise FileNotFoundError(words)


def comparable(time: str) -> str:
    """An RFC 3339 time in UTC with nine digits of a second, so that times compare as text."""
    head, _, fraction = time.rstrip("Z").partition(".")
    if len(head) > 19 or not time.endswith("Z"):
        moment = datetime.datetime.fromisoformat(time).astimezone(datetime.UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%S.%f}000"
    return f"{head}.{fraction:0<9}"


def seconds_ago(seconds: float) -> str:
    """The RFC 3339 time so many seconds before now."""
    return (datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
