"""Files that are written whole or not at all: what a learner asked for, and the lab's own notes. Files of their owner alone."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from pathlib import Path
from typing import Any, TypeVar

PRIVATE = 0o600
Note = TypeVar("Note", list[Any], dict[str, Any])


def write_whole(path: str | Path, data: bytes, mode: int | None = None, *, durable: bool = False) -> Path:
    """Write a file by a temporary one in its directory, so that a failure leaves what was there before; the path.

    mode: as the file shall have it; else it keeps the one that it has, and a new one follows the umask. What is no regular file
    (/dev/stdout, a pipe) is written to as it is. durable: on the disk before it takes the place of the file before it (fsync).
    Raises OSError with the path's name.
    """
    path = Path(path)
    place = Path(os.path.realpath(path))  # a link stays one
    if place.exists() and not place.is_file():
        place.write_bytes(data)
        return path
    check_writable(path)
    if mode is None:
        mode = place.stat().st_mode & 0o7777 if place.exists() else 0o666 & ~_umask()
    handle, draft = tempfile.mkstemp(dir=place.parent, prefix=".labkit-")
    try:
        with open(handle, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(draft, place)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
    return path


def owners_alone(path: str, flags: int) -> int:
    """An `opener` for `open`: the file, which only its owner can open, and so lock. A link is an OSError, not followed."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE)
    os.fchmod(descriptor, PRIVATE)
    return descriptor


def read_note(path: Path, kind: type[Note]) -> Note:
    """What a JSON file of the lab's own holds; an empty list or dict where there is no such file, or it holds something else."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return kind()
    return found if isinstance(found, kind) else kind()


def check_writable(path: str | Path) -> None:
    """Raises OSError, as writing the file would, and writes nothing."""
    place = Path(os.path.realpath(path))
    if place.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not place.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"There is no directory {place.parent}", str(path))
    target = place if place.exists() else place.parent
    whole = not place.exists() or place.is_file()
    if not os.access(target, os.W_OK) or (whole and not os.access(place.parent, os.W_OK | os.X_OK)):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _umask() -> int:
    """The process's umask. It can only be read by setting it, which other threads see: where there are any, give a mode."""
    now = os.umask(0o077)
    os.umask(now)
    return now
