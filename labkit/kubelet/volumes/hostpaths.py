"""Which paths of the machine a lab's Pods can use as hostPath and local volumes.

A path is opened at each start of a container and mounted by its descriptor (labkit.kubelet.volumes.inside), so the container gets
what was checked. Knowledge: kubernetes' pkg/volume/hostpath.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.kubelet.volumes import inside

READ_ONLY = ("/proc", "/sys", "/etc/hostname", "/etc/hosts", "/etc/localtime", "/etc/os-release", "/etc/timezone",
             "/usr/share/zoneinfo", "/dev/null", "/dev/zero", "/dev/urandom")
MADE = {"": 0o755, "DirectoryOrCreate": 0o755, "FileOrCreate": 0o644}
"""Types whose missing path is made, with its mode; on other nodes the runtime makes one without a type."""
CHECKS: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "is not a directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "is not a directory"),
    "File": (stat.S_ISREG, "is not a file"),
    "FileOrCreate": (stat.S_ISREG, "is not a file"),
    "Socket": (stat.S_ISSOCK, "is not a socket file"),
    "CharDevice": (stat.S_ISCHR, "is not a character device"),
    "BlockDevice": (stat.S_ISBLK, "is not a block device"),
}


@dataclass(frozen=True)
class Fence:
    """`writable`: the directories that Pods can use and write to. READ_ONLY they can only read."""

    writable: Sequence[Path]

    def host_path(self, source: Mapping[str, Any]) -> AbstractContextManager[tuple[int, bool]]:
        """`opened` for a volume's field hostPath."""
        return self.opened(Path(source["path"]), source.get("type") or "")

    @contextlib.contextmanager
    def opened(self, path: Path, wanted: str = "", kind: str = "hostPath") -> Iterator[tuple[int, bool]]:
        """A descriptor of `path`, which must be of the type `wanted`, and whether it is read-only. A missing path is made where
        the type says so, in a writable directory. Raises OSError, and ValueError for a path that the lab forbids."""
        there = path.exists()
        if there or wanted not in MADE:
            check_type(path, path.stat().st_mode if there else 0, wanted)
        base, parts, read_only = self._base(path, kind)
        if not read_only:  # the lab's own, which a lab that goes takes away from a kubelet that stays
            base.mkdir(parents=True, exist_ok=True)
        start = os.open(os.path.realpath(base), inside.FOUND)
        elsewhere = ValueError(f"this lab forbids {kind} {path}: a link on the way leads elsewhere; use a path without links")
        try:
            found = inside.open_below(start, parts) if there or read_only else _make(start, parts, wanted)
        except (FileNotFoundError, NotADirectoryError, inside.Exchanged):
            if not there:
                raise
            raise elsewhere from None
        finally:
            os.close(start)
        try:
            check_type(path, os.fstat(found).st_mode, wanted)
            if not os.path.samestat(os.stat(path), os.fstat(found)):  # a link in /proc leads elsewhere than its text says
                raise elsewhere
            yield found, read_only
        finally:
            os.close(found)

    def _base(self, path: Path, kind: str) -> tuple[Path, tuple[str, ...], bool]:
        """The allowed directory that a path is below, the parts below that, and whether it is read-only. Raises ValueError."""
        for base in (*self.writable, *map(Path, READ_ONLY)):
            parts = inside.parts_below(base, path)
            if parts is not None:
                return base, parts, base not in self.writable
        allowed = ", ".join(map(str, self.writable))
        raise ValueError(
            f"this lab forbids {kind} {path}: a Pod here may use paths below {allowed}, and read /proc, /sys and a few "
            "files of /etc; use emptyDir, or a path there"
        )


def _make(start: int, parts: Sequence[str], wanted: str) -> int:
    if wanted != "FileOrCreate":
        return inside.open_below(start, parts, MADE.get(wanted))
    parent = inside.open_below(start, parts[:-1])
    try:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(parts[-1], os.O_CREAT | os.O_EXCL | os.O_WRONLY, MADE[wanted], dir_fd=parent))
        return inside.open_below(parent, parts[-1:])
    finally:
        os.close(parent)


def check_type(path: Path, mode: int, wanted: str) -> None:
    """Check that a path with this mode (0: there is none) has the type that a hostPath names. Raises ValueError."""
    fits, words = CHECKS.get(wanted, (lambda mode: True, ""))
    if not fits(mode):
        raise ValueError(f"hostPath type check failed: {path} {words}")
