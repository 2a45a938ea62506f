"""subPath: a directory or file inside of a volume, opened so that no link in the volume leads out of it.

A link that stays inside is followed. Knowledge: kubernetes' pkg/volume/util/subpath.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from labkit.kubelet.volumes import inside


def open_inside(volume: int, sub_path: str, *, make: bool = True) -> int:
    """A descriptor (O_PATH) of what lies at `sub_path` below an open volume. Missing directories are made, with the volume's own
    mode, unless another mode is given. Raises OSError, and ValueError for a path that leaves the volume.
    """
    names = [name for name in sub_path.split("/") if name not in ("", ".")]
    if sub_path.startswith("/") or ".." in names or "\0" in sub_path:
        raise ValueError(f"subPath {sub_path!r} must be relative and must not contain '..'")
    root = Path(os.readlink(f"/proc/self/fd/{volume}"))
    parts = inside.parts_below(root, root.joinpath(*names))
    if parts is None:
        raise ValueError(f"subPath {sub_path!r} leads out of the volume")
    if make:
        _refuse_loose_link(root, names)
    return inside.open_below(volume, parts, stat.S_IMODE(os.fstat(volume).st_mode) if make else None)


def is_missing(path: Path) -> bool:
    """Whether a sub-path has to be made; one that cannot be looked at has not."""
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _refuse_loose_link(root: Path, names: Sequence[str]) -> None:
    """Directories are made where nothing is, not where a link leads. Raises FileExistsError."""
    for number in range(1, len(names) + 1):
        path = root.joinpath(*names[:number])
        if is_missing(path):
            if path.is_symlink():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
            return
