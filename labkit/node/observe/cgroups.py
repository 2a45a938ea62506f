"""`node.cgroups`: those of a node's Pods, as the kernel has them: found from the Pods' processes, read from the files."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from labkit.cri.pods import PodSnapshot
from labkit.figures.pods.cluster_model import CgroupLine
from labkit.kernel import Snapshot
from labkit.kernel.cgroup import cgroup_directories
from labkit.node.host.access import ObservedNode, Shell
from labkit.util.errors import NodeError

KUBEPODS = re.compile(r"(.+-)?kubepods\.slice|kubepods")
"""The cgroup of all Pods; as a slice its name begins with those of the slices that it is in (man 5 systemd.slice)."""
NO_LIMIT = 2**60
"""cgroup v1 writes a number near 2^63 where there is no limit."""
FILES = (
    "cpu.weight", "cpu.max", "memory.max", "memory.current",
    "cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us", "memory.limit_in_bytes", "memory.usage_in_bytes",
)
"""Of cgroup v2 (kernel: admin-guide/cgroup-v2.rst), then of v1 (cgroup-v1/memory.rst, scheduler/sched-bwc.rst)."""


class CgroupsNode(ObservedNode, Protocol):
    """A node, as far as it is needed here."""

    def pod(self, pod: str) -> PodSnapshot: ...


class Cgroups:
    """All methods raise NodeError. settled: see `labkit.node.observe.pod_processes`."""

    def __init__(self, node: CgroupsNode, settled: Callable[[bool], tuple[Snapshot, Sequence[PodSnapshot]]]) -> None:
        self.node, self.settled = node, settled

    def tree(self, *, others: bool = False) -> tuple[CgroupLine, ...]:
        """The tree below kubepods, depth first, for `labkit.cgroup_tree`; sorted by name. others: see `Node.pods`."""
        snapshot, pods = self.settled(others)
        mounts = self.node.kernel.mounts()
        places: dict[tuple[str, ...], tuple[str, str, Mapping[str, str]]] = {}
        for pod in pods:
            for process in pod.processes:
                if process.role not in ("pause", "application"):
                    continue
                directories = {}
                found = cgroup_directories(snapshot.processes[process.pid].cgroups, mounts)
                for controllers, directory in sorted(found.items()):  # v2 first: where v1 has a controller, v2 has it not
                    if "kubepods" in directory:
                        names = controllers.split(",") if controllers else ("cpu", "memory")
                        directories.update(dict.fromkeys(names, directory))
                parts = below_kubepods(directories.get("memory", ""))
                for depth in range(len(parts)):
                    up = len(parts) - 1 - depth
                    above = {name: parent(directory, up) for name, directory in directories.items() if name in ("cpu", "memory")}
                    name, role = named(depth, len(parts), parts[depth], pod.name, process.container, process.role)
                    places.setdefault(parts[: depth + 1], (name, role, above))
        texts = read(self.node.host, {d for _, _, directories in places.values() for d in directories.values()})

        def rank(parts: tuple[str, ...]) -> list[tuple[bool, str]]:
            above = (places[parts[: n + 1]] for n in range(len(parts)))
            return [(role == "container", name) for name, role, _ in above]

        return tuple(line(len(parts) - 1, parts, *places[parts], texts) for parts in sorted(places, key=rank))

    def file(self, pod: str, container: str, *files: str) -> str:
        """The text of the first of `files` ("cpu.max", "cpu.cfs_quota_us") that the cgroup of a container has: cgroup v1 and v2
        name the same thing otherwise. Raises NodeError with their names when it has none of them."""
        pid = self.node.pod(pod).container(container).pid
        for cgroup in self.node.kernel.cgroups(pid):
            for file in files:
                with contextlib.suppress(FileNotFoundError):
                    return cgroup.read(file)
        what = f"The cgroup of {pod}/{container} has none of {', '.join(files)}."
        raise NodeError(what, "Is the controller mounted on this node?")


def below_kubepods(directory: str) -> tuple[str, ...]:
    """The path from kubepods on: ("kubepods", "burstable", "pod…", "…"), with systemd's names as they are; () outside of it."""
    parts = directory.split("/")
    start = next((n for n, part in enumerate(parts) if KUBEPODS.fullmatch(part)), None)
    return tuple(parts[start:]) if start is not None else ()


def parent(directory: str, up: int) -> str:
    return "/".join(directory.split("/")[: len(directory.split("/")) - up])


def named(depth: int, length: int, part: str, pod: str, container: str | None, process_role: str) -> tuple[str, str]:
    """(name, role) of one level: kubepods, QoS class (none for Guaranteed), Pod, container."""
    if depth == 0:
        return "kubepods", "kubepods"
    if depth == length - 1:
        return (container or "pause"), "pause" if process_role == "pause" else "container"
    if depth == length - 2:
        return pod, "pod"
    return next((name for name in ("besteffort", "burstable") if name in part), part), "qos"


def read(host: Shell, directories: Iterable[str]) -> dict[str, dict[str, str]]:
    """Directory -> file -> its first line, of FILES as far as they are there; by one command on the node."""
    script = "for d; do for f in " + " ".join(FILES) + '; do test -r "$d/$f" && echo "$d $f $(cat "$d/$f")"; done; done; true'
    found: dict[str, dict[str, str]] = {}
    for output in host.shell(["sh", "-c", script, "sh", *sorted(directories)]).splitlines():
        directory, file, text = output.split(" ", 2)
        found.setdefault(directory, {})[file] = text
    return found


def line(
    depth: int,
    parts: tuple[str, ...],
    name: str,
    role: str,
    directories: Mapping[str, str],
    texts: Mapping[str, Mapping[str, str]],
) -> CgroupLine:
    values = {**texts.get(directories.get("cpu", ""), {}), **texts.get(directories.get("memory", ""), {})}
    weight = values.get("cpu.weight") or values.get("cpu.shares")
    used = values.get("memory.current") or values.get("memory.usage_in_bytes")
    limit = values.get("memory.max") or values.get("memory.limit_in_bytes") or "max"
    return CgroupLine(
        depth,
        name,
        role,
        cpu_weight=int(weight) if weight else None,
        cpu_limit=cpu_limit(values),
        memory_limit=None if limit == "max" or int(limit) >= NO_LIMIT else int(limit),
        memory_used=int(used) if used else None,
        path="/".join(parts),
    )


def cpu_limit(values: Mapping[str, str]) -> int | None:
    """Millicores, from cpu.max ("50000 100000") or cfs quota and period."""
    quota, _, period = values.get("cpu.max", "").partition(" ")
    quota, period = quota or values.get("cpu.cfs_quota_us", "-1"), period or values.get("cpu.cfs_period_us", "100000")
    return None if quota in ("max", "-1") else round(1000 * int(quota) / int(period))
