"""subPath: a directory or file inside of a volume, mounted so that no link in the volume can lead out of it.

The path is walked from the volume's root without following a link that leaves it, and what was found is bind-mounted by its file
descriptor: exchanging it for a link afterwards changes nothing. Knowledge: kubernetes' pkg/volume/util/subpath.
"""

from __future__ import annotations

import ctypes
import os
import stat
from pathlib import Path

from labkit.kubelet.volumes import mounts_below

MS_BIND = 4096


def prepare(volume: Path, sub_path: str, place: Path) -> Path:
    """Mount `sub_path` of `volume` on `place`, a directory that is made where it is not there; returns `place`.

    Raises OSError, and ValueError for a path that leaves the volume.
    """
    parts = [part for part in sub_path.split("/") if part not in ("", ".")]
    if sub_path.startswith("/") or ".." in parts or "\0" in sub_path:
        raise ValueError(f"subPath {sub_path!r} must be relative and must not contain '..'")
    found = open_inside(volume, parts)
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        if str(place) in mounts_below(place):
            return place
        if os.path.isdir(f"/proc/self/fd/{found}"):
            place.mkdir(exist_ok=True)
        else:
            place.touch()
        bind(f"/proc/self/fd/{found}", place)
    finally:
        os.close(found)
    return place


def open_inside(volume: Path, parts: list[str]) -> int:
    """A descriptor (O_PATH) of what lies at `parts` below the volume; missing directories are made, with the volume's own mode.
    A link is followed as long as it stays inside."""
    inside = Path(os.path.realpath(volume))
    target = Path(os.path.realpath(inside.joinpath(*parts)))
    if target != inside and inside not in target.parents:
        raise ValueError(f"subPath {'/'.join(parts)!r} leads out of the volume")
    mode = stat.S_IMODE(inside.stat().st_mode)
    here = os.open(inside, os.O_PATH | os.O_DIRECTORY)
    for part in target.relative_to(inside).parts:
        try:
            there = os.open(part, os.O_PATH | os.O_NOFOLLOW, dir_fd=here)
        except FileNotFoundError:
            os.mkdir(part, 0o755, dir_fd=here)
            there = os.open(part, os.O_PATH | os.O_NOFOLLOW, dir_fd=here)
            os.chmod(f"/proc/self/fd/{there}", mode)
        os.close(here)
        here = there
        if stat.S_ISLNK(os.fstat(here).st_mode):
            os.close(here)
            raise ValueError(f"subPath {'/'.join(parts)!r} was exchanged for a link")
    return here


def bind(source: str, place: Path) -> None:
    """mount --bind (man 2 mount). Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), os.fsencode(place), None, MS_BIND, None):
        raise OSError(ctypes.get_errno(), f"cannot mount {place}: {os.strerror(ctypes.get_errno())}")
