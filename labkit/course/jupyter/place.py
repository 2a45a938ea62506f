"""Where a copy of the notebooks is, and whose it is."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

MARK = ".course.json"
"""The file in a copy's directory that says what it is, and which files the course wrote there."""


def enclosing(place: Path) -> Path | None:
    """The copy that `place` is in, or is itself."""
    place = place.absolute()
    return next((directory for directory in (place, *place.parents) if (directory / MARK).is_file()), None)


def serves_copy(root: Path) -> bool:
    """Whether a server with this root directory shows a copy: one that the root is in, or one in the root."""
    return enclosing(root) is not None or any(root.glob(f"*/{MARK}"))


def learner(environ: Mapping[str, str] | None = None) -> tuple[int, int] | None:
    """User and group of the caller of sudo; None for a process that writes files as their owner anyway."""
    environ = os.environ if environ is None else environ
    uid, gid = environ.get("SUDO_UID", ""), environ.get("SUDO_GID", "")
    return (int(uid), int(gid)) if os.geteuid() == 0 and uid.isdigit() and gid.isdigit() else None


def hand_over(directory: Path) -> None:
    """Under sudo, give what root made in `directory`, and the directory itself, to the caller of sudo."""
    if (owner := learner()) is None:
        return
    for base, directories, files in os.walk(directory):
        for path in (base, *(os.path.join(base, name) for name in (*directories, *files))):
            with contextlib.suppress(OSError):  # it is gone, or its file system has no owners
                if os.lstat(path).st_uid == 0:
                    os.chown(path, *owner, follow_symlinks=False)
