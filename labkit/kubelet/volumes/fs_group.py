"""fsGroup: the files of a volume are handed to a group that the Pod's processes are in.

Knowledge: kubernetes' pkg/volume/volume_linux.go.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

READ_WRITE, READ_ONLY = 0o660, 0o440
OF_DIRECTORIES = stat.S_ISGID | 0o110


def give(volume: Path, group: int, *, policy: str = "Always", read_only: bool = False) -> None:
    """Hand everything in a volume to `group`. With the `policy` OnRootMismatch nothing is done where the volume's own directory
    is right already. A link is never followed: the files may be another Pod's, which runs. Raises OSError."""
    if policy == "OnRootMismatch" and is_right(volume.stat(), group, read_only):
        return
    for _, directories, files, here in os.fwalk(volume, follow_symlinks=False):
        links = (name for name in directories if stat.S_ISLNK(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode))
        for name in (".", *files, *links):
            found = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=here)
            try:
                give_one(found, group, read_only)
            finally:
                os.close(found)


def give_one(found: int, group: int, read_only: bool) -> None:
    """Hand the file or directory of a descriptor to the group; a link keeps its mode, which means nothing."""
    mode, place = os.fstat(found).st_mode, f"/proc/self/fd/{found}"
    if stat.S_ISLNK(mode):
        return
    os.chown(place, -1, group)
    os.chmod(place, stat.S_IMODE(mode) | wanted(stat.S_ISDIR(mode), read_only))


def wanted(directory: bool, read_only: bool) -> int:
    """The bits that a file or directory gets besides its own."""
    return (READ_ONLY if read_only else READ_WRITE) | (OF_DIRECTORIES if directory else 0)


def is_right(root: os.stat_result, group: int, read_only: bool) -> bool:
    return root.st_gid == group and root.st_mode & wanted(True, read_only) == wanted(True, read_only)
