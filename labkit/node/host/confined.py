"""Runs a program that needs no privileges as a user id without an account, files or capabilities."""

from __future__ import annotations

import ctypes
import hashlib
import os
import pwd
from pathlib import Path
from typing import Any

FIRST, LAST = 61184, 65519
"""systemd's range for users that exist only while their service runs (systemd.exec(5), DynamicUser=)."""
PR_SET_NO_NEW_PRIVS = 38
_prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux alone has it


def account(seed: str) -> int | None:
    """A user id that no account has. The same `seed` gives the same id. None where this process may not become another user."""
    if os.geteuid() != 0:
        return None
    first = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4]) % (LAST - FIRST + 1)
    for number in range(LAST - FIRST + 1):
        uid = FIRST + (first + number) % (LAST - FIRST + 1)
        if not _known(uid):
            return uid if _mapped(uid) else None
    return None


def popen(uid: int | None) -> dict[str, Any]:
    """Arguments of subprocess.Popen for a process with the user and group `uid` and without capabilities. None means this
    user."""
    other = {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
    return {**other, "preexec_fn": no_new_privileges}


def no_new_privileges() -> None:
    """Keep set-uid programs from giving this process privileges (man 2 prctl). It runs between fork and exec."""
    if _prctl:
        _prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _known(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _mapped(uid: int) -> bool:
    """Whether this user namespace has the id (man 7 user_namespaces)."""
    try:
        lines = Path("/proc/self/uid_map").read_text().splitlines()
    except OSError:
        return True
    ranges = [(int(start), int(size)) for start, _, size in map(str.split, lines)]
    return any(start <= uid < start + size for start, size in ranges)
