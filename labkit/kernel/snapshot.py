"""Take a Snapshot of the kernel labkit runs on, and put one together from parts read elsewhere."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping

from labkit.kernel.cgroup import Cgroup, cgroup_mounts, cgroups_of
from labkit.kernel.model import Interface, Mount, Namespace, Process, Snapshot
from labkit.kernel.network import interfaces_of
from labkit.kernel.parse import nsfs_mounts, parse_cgroup, parse_mountinfo
from labkit.kernel.processes import Held, read_processes, read_text


class LocalKernel:
    """The kernel that labkit itself runs on, read through a mounted proc file system.

    proc: where that is mounted. Another one, "/proc/4711/root/proc", shows what a container sees that has its own; paths in all
    answers are then those of that container. Root sees everything; another user her own processes' namespaces only.
    """

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = proc.rstrip("/")
        self._root = self._proc.removesuffix("/proc")

    def snapshot(self, fds: bool = False) -> Snapshot:
        """Everything the kernel shows, in one pass.

        fds=True looks at every open file of the machine too, for the file descriptors that hold a namespace; only so the
        namespaces that nothing else holds are found. It takes a fifth longer (tests/bench/bench_snapshot.py), more where
        processes have many files open, and is therefore asked for. Raises OSError only where there is no readable /proc.
        """
        at_ns = time.monotonic_ns()
        processes: list[Process] = []
        held: list[Held] = []
        for process, its_held in read_processes(self._proc, fds):
            processes.append(process)
            held += its_held
        mounts = self.mounts()
        return assemble(at_ns, processes, mounts, self._foreign_pins(processes, mounts), held)

    def mounts(self) -> tuple[Mount, ...]:
        """The mounts of the node: of labkit's own mount namespace, or of process 1 where /proc is another pid namespace's."""
        try:
            return parse_mountinfo(read_text(f"{self._proc}/self/mountinfo"))
        except FileNotFoundError:
            return parse_mountinfo(read_text(f"{self._proc}/1/mountinfo"))

    def interfaces(self, where: int | str) -> tuple[Interface, ...]:
        """The network interfaces of a process's network namespace, or of one bind-mounted at a path such as "/run/netns/blue".

        Needs root, unless the namespace is labkit's own. Raises ProcessLookupError, FileNotFoundError, PermissionError or
        OSError with a sentence that says what to do.
        """
        if isinstance(where, int):
            return interfaces_of(f"{self._proc}/{where}/ns/net", pid=where)
        return interfaces_of(self._root + where)

    def cgroup_mounts(self) -> dict[str, Mount]:
        """Controller list as in Process.cgroups ("" for v2) -> where that hierarchy is mounted."""
        return cgroup_mounts(self.mounts())

    def cgroups(self, pid: int) -> tuple[Cgroup, ...]:
        """The cgroup of a process in each hierarchy. Raises ProcessLookupError where there is no such process."""
        return cgroups_of(self._cgroup_paths(pid), self.mounts(), self._root)

    def cgroup_files(self, pid: int) -> dict[str, str]:
        """File name -> text of every controller file that can be read in the cgroups of a process: "memory.max",
        "cpu.max", or on v1 "memory.limit_in_bytes", …; without the ending line break. Raises ProcessLookupError."""
        return {name: text for cgroup in self.cgroups(pid) for name, text in cgroup.files().items()}

    def _cgroup_paths(self, pid: int) -> Mapping[str, str]:
        try:
            return parse_cgroup(read_text(f"{self._proc}/{pid}/cgroup"))
        except (FileNotFoundError, ProcessLookupError):
            raise ProcessLookupError(f"There is no process {pid}. It may have ended: take a new snapshot.") from None

    def _foreign_pins(self, processes: Iterable[Process], mounts: Iterable[Mount]) -> list[tuple[str, int, str]]:
        """(type, inode, path) of what other mount namespaces hold by a bind mount that the node's own does not show."""
        seen = set(nsfs_mounts(mounts))
        looked_into = {_inode(f"{self._proc}/self/ns/mnt")}
        pins = []
        for process in processes:
            namespace = process.namespaces.get("mnt")
            if namespace is None or namespace in looked_into:
                continue
            try:
                # The kernel writes mountstats in little more than half the time, enough to see that there is nothing to see.
                text = read_text(f"{self._proc}/{process.pid}/mountstats")
                text = read_text(f"{self._proc}/{process.pid}/mountinfo") if " with fstype nsfs" in text else ""
            except OSError:
                # It ended. Another process may be in the same mount namespace and still be there to ask.
                continue
            looked_into.add(namespace)
            lines = "\n".join(line for line in text.split("\n") if " nsfs " in line)
            for type, inode, path in nsfs_mounts(parse_mountinfo(lines)):
                # A mount namespace begins as a copy of another, so the same mount is met again and again.
                if (type, inode, path) not in seen:
                    seen.add((type, inode, path))
                    pins.append((type, inode, f"/proc/{process.pid}/root{path}"))
        return pins


def assemble(
    at_ns: int,
    processes: Iterable[Process],
    mounts: Iterable[Mount] = (),
    pins: Iterable[tuple[str, int, str]] = (),
    fds: Iterable[Held] = (),
) -> Snapshot:
    """A Snapshot from what was read, here or on another node.

    pins: (type, inode, path) of bind mounts beyond those in `mounts`. fds: (type, inode, pid, fd).
    """
    mounts = tuple(mounts)
    by_pid = {process.pid: process for process in sorted(processes, key=lambda process: process.pid)}
    types: dict[int, str] = {}
    members: defaultdict[int, list[int]] = defaultdict(list)
    paths: defaultdict[int, list[str]] = defaultdict(list)
    descriptors: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for pid, process in by_pid.items():
        for type, inode in process.namespaces.items():
            types[inode] = type
            members[inode].append(pid)
    for type, inode, path in (*nsfs_mounts(mounts), *pins):
        types[inode] = type
        paths[inode].append(path)
    for type, inode, pid, fd in fds:
        types[inode] = type
        descriptors[inode].append((pid, fd))
    namespaces = {}
    for inode, type in types.items():
        inside = tuple(members[inode]) if inode in members else ()
        its_paths = tuple(dict.fromkeys(paths[inode])) if inode in paths else ()
        its_fds = tuple(sorted(descriptors[inode])) if inode in descriptors else ()
        namespaces[inode] = Namespace(inode, type, inside[0] if inside else None, inside, its_paths, its_fds)
    return Snapshot(at_ns, by_pid, namespaces, mounts)


def _inode(link: str) -> int | None:
    try:
        return os.stat(link).st_ino
    except OSError:
        return None
