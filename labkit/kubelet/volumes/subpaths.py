"""subPath: a directory or file inside of a volume, opened so that no link in the volume leads out of it.

A link that stays inside is followed. Knowledge: kubernetes' pkg/volume/util/subpath.
"""

from __future__ import annotations

import os
import stat
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
    return inside.open_below(volume, parts, stat.S_IMODE(os.fstat(volume).st_mode) if make else None)
