"""Whether other users of this machine could have prepared a path, or could exchange what lies behind it.

A path is safe where each directory on the way, and what the path names, belongs to root or to this user, and nobody else may
write there; in a sticky directory such as /tmp only an owner may rename what is there (as systemd-tmpfiles(8) judges, and sshd(8)
with StrictModes). The caller of sudo counts as this user, as in git's safe.directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TextIO

from labkit.util.errors import NodeError
from labkit.util.outputs import owners_alone

LINKS_MOST = 40
"""As the kernel follows in one path (man 7 path_resolution)."""


def trusted(environ: Mapping[str, str] | None = None) -> frozenset[int]:
    """The users whose files this process trusts: root, its own, and under sudo the caller."""
    environ = os.environ if environ is None else environ
    uid = os.geteuid()
    caller = environ.get("SUDO_UID", "") if uid == 0 else ""
    return frozenset({0, uid, *([int(caller)] if caller.isdigit() else [])})


def require(path: Path, todo: str) -> None:
    """Raise NodeError, with `todo` as what to do, where another user could write to `path` or exchange it. What is not there yet
    is judged by the directory in which it would be made."""
    if reason := unsafe(path, trusted()):
        raise NodeError(reason, todo)


def unsafe(path: Path, users: frozenset[int]) -> str:
    """What makes a path unsafe, a sentence; "" for nothing."""
    place, rest = Path("/"), list(path.absolute().parts[1:])
    found = os.lstat(place)
    links = 0
    while True:
        if found.st_uid not in users:
            return f"{place} belongs to {name(found.st_uid)}."
        shared = writable(found, users)
        if shared and not (rest and found.st_mode & stat.S_ISVTX):
            return f"{place} can be written by {shared}."
        if not rest:
            return ""
        step = rest.pop(0)
        place = place.parent if step == ".." else place / step if step != "." else place
        try:
            found = os.lstat(place)
        except FileNotFoundError:
            return ""
        except (NotADirectoryError, PermissionError):
            return ""  # using it fails in its own words
        if stat.S_ISLNK(found.st_mode):
            if found.st_uid not in users:
                return f"{place} is a link of {name(found.st_uid)}."
            links += 1
            if links > LINKS_MOST:
                return ""
            target = Path(os.readlink(place))
            rest = [*(target.parts[1:] if target.is_absolute() else target.parts), *rest]
            place = Path("/") if target.is_absolute() else place.parent
            found = os.lstat(place)


def writable(found: os.stat_result, users: frozenset[int]) -> str:
    """Who else may write to what was found, "" for nobody. A group that has only `users` is nobody else (as Debian's and Fedora's
    groups of one user each, whose files umask 002 gives it)."""
    if found.st_mode & stat.S_IWOTH:
        return "everybody"
    if found.st_mode & stat.S_IWGRP and (others := members(found.st_gid) - users):
        return f"{name(min(others))}, by its group"
    return ""


def members(gid: int) -> frozenset[int]:
    """The users who are in a group."""
    uids = {entry.pw_uid for entry in pwd.getpwall() if entry.pw_gid == gid}
    try:
        listed = grp.getgrgid(gid).gr_mem
    except KeyError:
        listed = []
    for member in listed:
        try:
            uids.add(pwd.getpwnam(member).pw_uid)
        except KeyError:
            continue
    return frozenset(uids)


def append(file: Path) -> TextIO:
    """The file opened to append to, made where it is not there, its owner's alone. A link is an OSError, not followed."""
    return open(file, "a", encoding="utf-8", opener=owners_alone)


@contextlib.contextmanager
def locked(file: TextIO, wait: Callable[[], None]) -> Iterator[None]:
    """Hold a lock on the file for the block (man 2 flock), and close it. `wait`: called where another process has it."""
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def name(uid: int) -> str:
    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user {uid}"
