"""What a Linux kernel shows of its processes at one moment, as plain frozen dataclasses.

Words and meaning: man 5 proc, man 7 namespaces, man 7 cgroups, man 8 lsns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

NAMESPACE_TYPES = ("net", "ipc", "uts", "pid", "mnt", "cgroup", "user", "time")
"""The eight kinds of namespace, by the names that /proc/PID/ns gives them (man 7 namespaces)."""


@dataclass(frozen=True)
class Process:
    """One process (a thread group), as its main thread stands in /proc/PID.

    pid, ppid: as numbered in the pid namespace of the /proc that was read; ppid 0 has no process there.
    comm: at most 15 bytes; a space, a parenthesis or a newline may be among them. cmdline: () for kernel threads and zombies.
    state: one letter (R S D T t Z X I …). start_ns: ns from boot on CLOCK_BOOTTIME, which the kernel counts in steps of 10 ms;
    CLOCK_MONOTONIC is less by the time the machine was suspended. uid, gid: the effective ones, as `ps` shows.
    ns_pids: the pid in each pid namespace, outermost first. namespaces: type -> inode; a type that the reader may not see, or
    that a zombie has given up, is missing. A thread can leave its main thread's namespaces (man 2 setns); that is not shown here.
    cgroups: controller list ("memory", "cpu,cpuacct", "name=systemd") -> path; "" is the cgroup v2 hierarchy.
    exe: path of the program, "" where there is none or it may not be read; keeps the kernel's " (deleted)".
    """

    pid: int
    ppid: int
    comm: str
    cmdline: tuple[str, ...]
    state: str
    start_ns: int
    uid: int
    gid: int
    ns_pids: tuple[int, ...]
    namespaces: Mapping[str, int]
    cgroups: Mapping[str, str]
    exe: str
    threads: int = 1

    @property
    def program(self) -> str:
        """The name of its program, by its arguments; "" where it has none."""
        return self.cmdline[0].rpartition("/")[2] if self.cmdline else ""

    def option(self, name: str) -> str:
        """The argument that follows an option in its command line, "" where there is none."""
        return dict(pairwise(self.cmdline)).get(name, "")

    @property
    def ended(self) -> str:
        """"zombie": it has ended, and its parent has not asked how. "main thread ended": its other threads run on, and are what
        command line, program, namespaces and cgroups are read from. "" for a process that runs."""
        return "" if self.state not in "ZX" else "main thread ended" if self.threads > 1 else "zombie"


@dataclass(frozen=True)
class Namespace:
    """One namespace and all that holds it.

    owner: the lowest pid in it, which is the PID that `lsns` prints; None where no process is in it. members: pids, ascending.
    mounts: paths of bind mounts of it, as seen from the mount namespace of the node; one that only another mount namespace has
    is given through /proc/PID/root. fds: (pid, fd) of each open file descriptor that holds it, if those were looked for.
    """

    inode: int
    type: str
    owner: int | None
    members: tuple[int, ...]
    mounts: tuple[str, ...] = ()
    fds: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Mount:
    """One line of /proc/PID/mountinfo, octal escapes resolved.

    device: "major:minor". root: the directory of the file system that is mounted; for nsfs it names the namespace,
    "net:[4026532177]". options: those of the mount, then those of the file system, joined as /proc/PID/mounts does.
    """

    mount_id: int
    parent_id: int
    device: str
    root: str
    mount_point: str
    fs_type: str
    source: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Interface:
    """One network interface, in the words of `ip address`.

    state: operational state of RFC 2863, "UP", "DOWN", "UNKNOWN", "LOWERLAYERDOWN", … mtu: bytes. mac: "" where there is none.
    addresses: IPv4 before IPv6, each with its prefix, "10.88.0.2/16". kind: "veth", "bridge", …; "" for loopback and hardware.
    peer_index: for a veth the index of its other end, in whichever network namespace that is; else None.
    """

    name: str
    index: int
    mac: str
    state: str
    mtu: int
    addresses: tuple[str, ...]
    peer_index: int | None
    kind: str


@dataclass(frozen=True)
class Snapshot:
    """Everything above, read in one pass.

    at_ns: CLOCK_MONOTONIC when the pass began, in ns. The kernel has no way to freeze /proc: a process that starts or ends during
    the pass may or may not be in it. namespaces: by inode. mounts: those of the mount namespace of the node.
    """

    at_ns: int
    processes: Mapping[int, Process]
    namespaces: Mapping[int, Namespace]
    mounts: tuple[Mount, ...]

    def children(self, pid: int) -> tuple[Process, ...]:
        """The processes whose parent is `pid`, in the order of their start."""
        return tuple(self._children.get(pid, ()))

    def descendants(self, pid: int) -> tuple[Process, ...]:
        """Children, their children and so on, each parent directly before its own descendants."""
        found: dict[int, Process] = {}
        waiting = list(reversed(self.children(pid)))
        while waiting:
            process = waiting.pop()
            # One number can stand for two processes in turn while /proc is read; without this a cycle could arise from it.
            if process.pid != pid and process.pid not in found:
                found[process.pid] = process
                waiting.extend(reversed(self.children(process.pid)))
        return tuple(found.values())

    def namespace(self, pid: int, type: str) -> Namespace:
        """The namespace of one type that a process is in. Raises LookupError where the snapshot does not show it."""
        if type not in NAMESPACE_TYPES:
            raise LookupError(f"There is no namespace type {type!r}. Use one of {', '.join(NAMESPACE_TYPES)}.")
        if pid not in self.processes:
            raise LookupError(f"Process {pid} is not in this snapshot. It may have ended or started since: take a new snapshot.")
        inode = self.processes[pid].namespaces.get(type)
        if inode is None:
            raise LookupError(
                f"The {type} namespace of process {pid} ({self.processes[pid].comm}) could not be read. "
                "A zombie has none, and other users' processes need root."
            )
        return self.namespaces[inode]

    @cached_property
    def _children(self) -> Mapping[int, list[Process]]:
        children: dict[int, list[Process]] = {}
        for process in sorted(self.processes.values(), key=lambda process: (process.start_ns, process.pid)):
            children.setdefault(process.ppid, []).append(process)
        return children
