"""Directories in a volume of files for the volumes that a container mounts inside of it.

Such a volume is read-only in the container, so the runtime could not make them. Knowledge: kubernetes' pkg/volume/util/
nested_volumes.go.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from labkit.podspec.container_kinds import containers


def make_mount_points(volume: Path, name: str, pod: Mapping[str, Any]) -> None:
    """Make the directories below `volume`, the Pod's volume `name`. Raises ValueError and OSError."""
    for container in containers(pod["spec"]):
        for path in mount_points(name, container):
            for directory in (*reversed(Path(path).parents[:-1]), Path(path)):
                _make(volume / directory)


def mount_points(name: str, container: Mapping[str, Any]) -> Iterator[str]:
    """Paths below the volume where the container mounts something else; none below another one of them."""
    mounts = [(mount["name"], posixpath.normpath(mount["mountPath"])) for mount in container.get("volumeMounts", ())]
    for own in (path for volume, path in mounts if volume == name):
        if own.startswith("../"):
            raise ValueError(f"invalid container mount point {own}")
        last = ""
        for _, path in sorted(mounts, key=lambda mount: mount[1]):
            if path.startswith(f"{own}/") and not (last and path.startswith(last)):
                last = f"{path}/"
                yield path.removeprefix(f"{own}/")


def _make(directory: Path) -> None:
    if not directory.is_dir():
        directory.mkdir(0o755)
        directory.chmod(0o755)  # whatever the umask is
