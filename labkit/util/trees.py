"""Directories that Pods have filled: removed and measured however deep they are.

`shutil.rmtree` and `os.walk` recurse (in Python 3.11), keep a file open per level or build paths longer than PATH_MAX, so a
Pod can make a directory that they fail on. These two keep two files open at a time and never build a path.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
BLOCK_BYTES = 512
"""Of `st_blocks` (man 2 stat)."""


def remove(directory: Path) -> None:
    """Remove a directory and all below it, as far as that is possible."""
    with contextlib.suppress(RecursionError):
        shutil.rmtree(directory, ignore_errors=True)
    with contextlib.suppress(OSError):
        root = os.open(directory, DIRECTORY)
        try:
            _empty(root)
        finally:
            os.close(root)
        os.rmdir(directory)


def _empty(root: int) -> None:
    """Empty an open directory: what a directory in it holds is moved up to it before, so no path gets long."""
    names = (f".labkit-{secrets.token_hex(8)}-{number}" for number in itertools.count())
    waiting = list(_directories(root, unlink=True))
    while waiting:
        name = waiting.pop()
        with contextlib.suppress(OSError):
            here = os.open(name, DIRECTORY, dir_fd=root)
            try:
                for below, new in zip(list(_directories(here, unlink=True)), names, strict=False):
                    with contextlib.suppress(OSError):  # a mount point, or an immutable one
                        os.rename(below, new, src_dir_fd=here, dst_dir_fd=root)
                        waiting.append(new)
            finally:
                os.close(here)
            os.rmdir(name, dir_fd=root)


def usage(directory: Path) -> int:
    """Bytes on the disk of all below a directory, as `du` counts; 0 where there is none."""
    try:
        here = os.open(directory, DIRECTORY)
    except OSError:
        return 0
    linked: set[tuple[int, int]] = set()
    total = _blocks(here, linked)
    trail = [(_identity(os.fstat(here)), list(_directories(here)))]
    try:
        while True:
            if names := trail[-1][1]:
                try:
                    below = os.open(names.pop(), DIRECTORY, dir_fd=here)
                except OSError:  # removed meanwhile
                    continue
                os.close(here)
                here = below
                total += _blocks(here, linked)
                trail.append((_identity(os.fstat(here)), list(_directories(here))))
                continue
            trail.pop()
            if not trail:
                return total
            above = os.open("..", DIRECTORY, dir_fd=here)
            os.close(here)
            here = above
            if _identity(os.fstat(here)) != trail[-1][0]:  # a Pod has moved it meanwhile, perhaps out of the directory
                return total
    finally:
        os.close(here)


def _directories(here: int, *, unlink: bool = False) -> Iterator[str]:
    """The names of the directories in an open one; everything else is unlinked if asked."""
    with contextlib.suppress(OSError), os.scandir(here) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield entry.name
            elif unlink:
                with contextlib.suppress(OSError):
                    os.unlink(entry.name, dir_fd=here)


def _blocks(here: int, linked: set[tuple[int, int]]) -> int:
    """The bytes of an open directory and of the files in it, but for those in `linked`: files of several names are put there."""
    total = os.fstat(here).st_blocks
    with contextlib.suppress(OSError), os.scandir(here) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False) or _identity(found := entry.stat(follow_symlinks=False)) in linked:
                    continue
                total += found.st_blocks
                if found.st_nlink > 1:
                    linked.add(_identity(found))
    return total * BLOCK_BYTES


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
