"""Names from elsewhere (CRI, the API, files, the network) as parts of paths: each is one level, and never leads away."""

from __future__ import annotations

import json
import os
from pathlib import Path

LONGEST = 255
"""Bytes in the name of a file (NAME_MAX; man 7 path_resolution)."""


class UnsafeName(OSError, ValueError):
    """A name that cannot be one file or directory below another."""


def component(name: str, what: str = "name") -> str:
    """`name` itself, where it can name a file. Raises UnsafeName, which calls it `what`."""
    try:
        size = len(os.fsencode(name))
    except UnicodeEncodeError:
        size = 0
    if name in (".", "..") or "/" in name or not 0 < size <= LONGEST or any(ord(c) < 32 or ord(c) == 127 for c in name):
        shown = json.dumps(name if len(name) < 80 else f"{name[:60]}…")
        raise UnsafeName(f"the {what} {shown} cannot name a file: use 1 to {LONGEST} bytes, no '/', no control character")
    return name


def is_component(name: str) -> bool:
    """Whether `name` can name a file."""
    try:
        component(name)
    except UnsafeName:
        return False
    return True


def below(base: Path, *names: str, what: str = "name") -> Path:
    """The path of `names`, each one level, below `base`. Raises UnsafeName."""
    return base.joinpath(*(component(name, what) for name in names))
