"""Files of a ConfigMap, Secret or downwardAPI volume, changed all at once as a container sees them.

The files lie in a directory with a timestamp for a name; the link `..data` points to it, and each name in the volume is a link
through `..data`. Renaming `..data` changes every file in one step. Knowledge: kubernetes' pkg/volume/util/atomic_writer.go.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labkit.kubelet.volumes import fs_group

DATA = "..data"
PATH_LENGTH, NAME_LENGTH = 4096, 255


@dataclass(frozen=True)
class File:
    data: bytes
    mode: int


def write_files(volume: Path, files: Mapping[str, File], group: int | None = None) -> bool:
    """Make `volume` hold exactly `files` (relative path → File); whether anything changed. With a `group` (fsGroup), everything
    in it belongs to that, and can be read by it (kubernetes' pkg/volume/volume_linux.go). Raises OSError, ValueError."""
    for path in files:
        check_path(path)
    files = {posixpath.normpath(path): file for path, file in files.items()}
    if group is not None:
        files = {path: File(file.data, file.mode | 0o440) for path, file in files.items()}
    volume.mkdir(parents=True, exist_ok=True)
    if not os.path.ismount(volume):  # a volume in memory keeps a tmpfs's own mode, 1777
        volume.chmod(0o777)
    if group is not None:
        give_directory(volume, group)
    now = volume / DATA
    old = os.readlink(now) if now.is_symlink() else ""
    if old and held(volume / old) == {path: (file.data, file.mode & 0o777) for path, file in files.items()}:
        _link(volume, files)
        return False
    made = Path(tempfile.mkdtemp(prefix=time.strftime("..%Y_%m_%d_%H_%M_%S."), dir=volume))
    try:
        _fill(made, files)
        if group is not None:
            fs_group.give(made, group, read_only=True)
    except OSError:
        shutil.rmtree(made, ignore_errors=True)
        raise
    staged = volume / "..data_tmp"
    with contextlib.suppress(FileNotFoundError):
        staged.unlink()
    staged.symlink_to(made.name)
    staged.rename(now)
    _link(volume, files)
    if old:
        shutil.rmtree(volume / old, ignore_errors=True)
    return True


def _fill(directory: Path, files: Mapping[str, File]) -> None:
    directory.chmod(0o755)
    for path, file in files.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.data)
        target.chmod(file.mode)


def give_directory(path: Path, group: int) -> None:
    """Hand a directory to a group, but not what is in it: what is made in it later belongs to the group too."""
    found = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        fs_group.give_one(found, group, read_only=True)
    finally:
        os.close(found)


def check_path(path: str) -> None:
    """Refuse what would lie outside of the volume, or has no room in it (validatePath). Raises ValueError."""
    parts = path.split("/")
    if not path:
        raise ValueError('invalid path: must not be empty: ""')
    if path.startswith("/"):
        raise ValueError(f"invalid path: must be relative path: {path}")
    if len(path) > PATH_LENGTH:
        raise ValueError(f"invalid path: must be less than or equal to {PATH_LENGTH} characters")
    if ".." in parts:
        raise ValueError(f"invalid path: must not contain '..': {path}")
    if any(len(part) > NAME_LENGTH for part in parts):
        raise ValueError(f"invalid path: filenames must be less than or equal to {NAME_LENGTH} characters")
    if parts[0].startswith(".."):
        raise ValueError(f"invalid path: must not start with '..': {path}")
    if "\0" in path:
        raise ValueError(f"invalid path: {path!r} holds a NUL")


def held(directory: Path) -> dict[str, tuple[bytes, int]]:
    """What the files below a directory hold, by relative path."""
    found = {}
    for root, _, names in os.walk(directory):
        for name in names:
            file = Path(root, name)
            found[str(file.relative_to(directory))] = (file.read_bytes(), file.stat().st_mode & 0o777)
    return found


def _link(volume: Path, files: Mapping[str, File]) -> None:
    """One link in the volume for each first part of a path, none for what is no longer there."""
    wanted = {path.split("/")[0] for path in files}
    for entry in os.scandir(volume):
        if not entry.name.startswith("..") and entry.name not in wanted and entry.is_symlink():  # a subPath may have made others
            os.unlink(entry.path)
    for name in wanted:
        link = volume / name
        if not link.is_symlink() and not link.exists():
            link.symlink_to(f"{DATA}/{name}")
