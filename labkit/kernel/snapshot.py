"""Take a Snapshot of the kernel labkit runs on, and put one together from parts read elsewhere."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from labkit.kernel.cgroup import Cgroup, cgroup_mounts, cgroups_of
from labkit.kernel.files import read_text
from labkit.kernel.model import Interface, Mount, Namespace, Process, Snapshot
from labkit.kernel.mounts import MountReader, read_mountinfo
from labkit.kernel.network import interfaces_of
from labkit.kernel.parse import mount_points_below, nsfs_mounts, parse_cgroup, parse_mountinfo, parse_unix_sockets
from labkit.kernel.pins import PinReader
from labkit.kernel.processes import Held, ProcReader, own_namespace


class LocalKernel:
    """The kernel that labkit itself runs on, read through a mounted proc file system.

    proc: where that is mounted. Another one, "/proc/4711/root/proc", shows what a container sees that has its own; paths in all
    answers are then those of that container. Root sees everything; another user her own processes' namespaces only.
    """

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = proc.rstrip("/")
        self._root = self._proc.removesuffix("/proc")
        self._processes, self._pins, self._mounts = ProcReader(self._proc), PinReader(self._proc), MountReader(self._proc)
        self._last: Snapshot | None = None
        self._listeners: dict[str, int] = {}

    def snapshot(self, fds: bool = True, programs: bool = True) -> Snapshot:
        """Everything the kernel shows, in one pass.

        With fds=False it looks where `lsns` looks: at the processes and at the node's own mounts. It misses what else can hold a
        namespace, and the namespaces that nothing else holds: open files, and bind mounts that only another mount namespace
        than the node's has. That spares more than half of the time (tests/bench/bench_snapshot.py). With programs=False `exe` of
        a process that has not run is as it was, though somebody may have renamed or removed its program. Raises OSError only
        where there is no readable /proc.
        """
        at_ns = time.monotonic_ns()
        before, mounts = self._last, self._mounts.read()
        processes, held = self._processes.read(fds, programs)
        pins = self._pins.read(processes, own_namespace(self._proc, "mnt"), mounts) if fds else []
        if before and not fds and _same_namespaces(before, processes, mounts):
            snapshot = Snapshot(at_ns, {process.pid: process for process in processes}, before.namespaces, mounts)
        else:
            snapshot = assemble(at_ns, processes, mounts, pins, held)
        self._last = None if fds else snapshot
        return snapshot

    def mounts(self) -> tuple[Mount, ...]:
        """The mounts of the node: of labkit's own mount namespace, or of process 1 where /proc is another pid namespace's."""
        return parse_mountinfo(read_mountinfo(self._proc))

    def mounts_below(self, directory: str) -> list[str]:
        """The mount points at or below a directory of the node, the deepest first."""
        return mount_points_below(read_mountinfo(self._proc), directory)

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

    def unix_listener(self, path: str) -> int | None:
        """The lowest pid that holds the listening Unix socket bound to `path`, or the pid of the answer before where that process
        still holds it; None where nobody listens, or it may not be seen (needs root)."""
        inode = parse_unix_sockets(read_text(f"{self._proc}/net/unix")).get(path)
        if inode is None:
            return None
        link = f"socket:[{inode}]"
        before = self._listeners.get(path)
        if before is not None and self._holds(before, link):  # else the open files of all processes below it are read each time
            return before
        pids = sorted(int(name) for name in os.listdir(self._proc) if name.isdigit())
        found = next((pid for pid in pids if self._holds(pid, link)), None)
        if found is not None:
            self._listeners[path] = found
        return found

    def _holds(self, pid: int, link: str) -> bool:
        """Whether a process has an open file of which this is the link."""
        try:
            return any(os.readlink(entry.path) == link for entry in os.scandir(f"{self._proc}/{pid}/fd"))
        except OSError:  # it ended, or closed that descriptor, meanwhile
            return False

    def _cgroup_paths(self, pid: int) -> Mapping[str, str]:
        try:
            return parse_cgroup(read_text(f"{self._proc}/{pid}/cgroup"))
        except (FileNotFoundError, ProcessLookupError):
            raise ProcessLookupError(f"There is no process {pid}. It may have ended: take a new snapshot.") from None


def _same_namespaces(before: Snapshot, processes: Sequence[Process], mounts: tuple[Mount, ...]) -> bool:
    """Whether the same processes are in the same namespaces, and the same mounts hold them."""
    if before.mounts is not mounts or len(before.processes) != len(processes):
        return False
    pairs = zip(before.processes.values(), processes, strict=True)
    return all(old is new or (old.pid, old.namespaces) == (new.pid, new.namespaces) for old, new in pairs)


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
