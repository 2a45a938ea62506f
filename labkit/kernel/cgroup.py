"""Control groups: which hierarchies a machine has, where a process stands in each, and what the files there say.

A machine has one cgroup v2 hierarchy, or several of v1 with a controller or more in each, or both side by side ("hybrid").
From man 7 cgroups and the kernel's Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from labkit.kernel.model import Mount

CORE_PREFIX = "cgroup."
"""Files so named tell of the cgroup itself, not of a resource."""


@dataclass(frozen=True)
class Cgroup:
    """The cgroup of a process in one hierarchy.

    controllers: as in /proc/PID/cgroup, "memory", "cpu,cpuacct", "name=systemd"; "" for the v2 hierarchy.
    path: within the hierarchy. directory: where its files are, "" where no mount shows it.
    procs: pids of every process in this very cgroup (not in those below), ascending, as far as this pid namespace shows them.
    """

    controllers: str
    path: str
    directory: str
    procs: tuple[int, ...]

    def read(self, file: str) -> str:
        """The text of one file without its ending line break: read("memory.max") is "max" or a number of bytes.

        Raises FileNotFoundError with the names there are; OSError of other kinds where the kernel refuses (write-only files).
        """
        try:
            if self.directory:
                return (Path(self.directory) / file).read_text(errors="surrogateescape").removesuffix("\n")
        except FileNotFoundError:
            pass
        raise self.without(file, _file_names(self.directory))

    def files(self) -> dict[str, str]:
        """File name -> text of every controller file (memory.*, cpu.*, …) that can be read."""
        texts = {}
        for name in sorted(_file_names(self.directory)):
            if not name.startswith(CORE_PREFIX):
                try:
                    texts[name] = self.read(name)
                except OSError:
                    # Write-only files, and files that need a kernel feature which is off.
                    continue
        return texts

    def without(self, file: str, there: Iterable[str]) -> FileNotFoundError:
        """The error that says that `file` is not among `there`, the names that are."""
        if not self.directory:
            return FileNotFoundError(
                f"No mount shows cgroup {self.path} of {_name(self.controllers)}. Look for it from the host's mount namespace."
            )
        names = ", ".join(sorted(there)) or "none: the cgroup is gone"
        return FileNotFoundError(
            f"Cgroup {self.path} of {_name(self.controllers)} has no file {file}. These can be read: {names}."
        )


def cgroup_mounts(mounts: Iterable[Mount]) -> dict[str, Mount]:
    """Controller list as /proc/PID/cgroup writes it ("" for v2) -> the mount that shows most of that hierarchy."""
    found: dict[str, Mount] = {}
    for mount in mounts:
        controllers = _controllers(mount)
        # A hierarchy can be mounted twice, once whole and once only a part of it (root below "/").
        if controllers is not None and (controllers not in found or len(mount.root) < len(found[controllers].root)):
            found[controllers] = mount
    return found


def cgroups_of(paths: Mapping[str, str], mounts: Iterable[Mount], root: str = "") -> tuple[Cgroup, ...]:
    """One Cgroup for each hierarchy in `paths` (controller list -> path, as parse_cgroup gives it).

    root: what to put before mount points to reach them from here.
    """
    cgroups = []
    for controllers, directory in cgroup_directories(paths, mounts).items():
        directory = root + directory if directory and os.path.isdir(root + directory) else ""
        cgroups.append(Cgroup(controllers, paths[controllers], directory, _procs(directory)))
    return tuple(cgroups)


def cgroup_directories(paths: Mapping[str, str], mounts: Iterable[Mount]) -> dict[str, str]:
    """Controller list -> the directory in which `mounts` show its path, "" where none does. Whether it is still there, only a
    look can tell."""
    # Some kernels list co-mounted controllers in one order here and in another there.
    hierarchies = {frozenset(controllers.split(",")): mount for controllers, mount in cgroup_mounts(mounts).items()}
    directories = {}
    for controllers, path in paths.items():
        mount = hierarchies.get(frozenset(controllers.split(",")))
        directories[controllers] = _directory(mount, path) if mount else ""
    return directories


# What a mount of cgroup v1 shows among its options besides its controllers: man 8 mount, and the kernel's cgroup1_show_options.
_NO_CONTROLLERS = frozenset(
    {"rw", "ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "strictatime", "lazytime", "sync", "dirsync"}
    | {"mand", "nosymfollow", "idmapped", "seclabel", "none", "noprefix", "xattr", "clone_children", "cpuset_v2_mode"}
    | {"favordynmods"}
)


def _controllers(mount: Mount) -> str | None:
    if mount.fs_type == "cgroup2":
        return ""
    if mount.fs_type != "cgroup":
        return None
    words = (option for option in mount.options if option not in _NO_CONTROLLERS)
    return ",".join(word for word in words if not word.startswith("release_agent="))


def _directory(mount: Mount, path: str) -> str:
    below = mount.root.rstrip("/")
    if path != mount.root and not path.startswith(f"{below}/"):
        return ""
    rest = path.removeprefix(below).strip("/")
    # Seen from a cgroup namespace, a cgroup outside of it is "/../other": no mount made inside shows that.
    if rest == ".." or rest.startswith("../"):
        return ""
    return os.path.join(mount.mount_point, rest) if rest else mount.mount_point


def _procs(directory: str) -> tuple[int, ...]:
    try:
        return parse_procs((Path(directory) / "cgroup.procs").read_text() if directory else "")
    except OSError:
        # A threaded cgroup (v2) lists no processes.
        return ()


def parse_procs(text: str) -> tuple[int, ...]:
    """The pids of a cgroup.procs, ascending."""
    # 0 stands for a process of a pid namespace that is not ours.
    return tuple(sorted({int(pid) for pid in text.split()} - {0}))


def _file_names(directory: str) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(directory) if entry.is_file() and "." in entry.name] if directory else []
    except OSError:
        return []


def _name(controllers: str) -> str:
    return f"the {controllers} hierarchy (v1)" if controllers else "the v2 hierarchy"
