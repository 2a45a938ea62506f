"""QoS class, cgroup parent and Linux resources of a Pod and its containers, as the kubelet works them out.

Knowledge: kubelet's cm/helpers_linux.go, qos/policy.go, kuberuntime_container_linux.go, kuberuntime_sandbox_linux.go and
component-helpers' resource package. CPU in millicores, memory in bytes, CFS periods and quotas in microseconds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from labkit.cri.v1 import api_pb2 as pb
from labkit.podspec.container_kinds import KINDS, containers, sidecars
from labkit.podspec.manifest import defaulted
from labkit.podspec.quantity import exact, milli, whole
from labkit.podspec.requests import pod_total

MIN_SHARES, MAX_SHARES = 2, 262144
SHARES_PER_CPU = 1024
CFS_PERIOD_US = 100_000
MIN_QUOTA_US = 1000
GUARANTEED_OOM_SCORE_ADJ = -997
BEST_EFFORT_OOM_SCORE_ADJ = 1000
SYSTEM_CRITICAL_PRIORITY = 2_000_000_000
NODE_CRITICAL_PRIORITY = SYSTEM_CRITICAL_PRIORITY + 1000
MAX_INT64 = 2**63 - 1
COMPUTE = ("cpu", "memory")


@dataclass(frozen=True)
class MachineInfo:
    """What the kubelet knows of its machine and puts into container configs.

    `memory_bytes` and `cpus` are capacities; `hugepage_sizes` are the kernel's ("2MB", "1GB"); `cgroup_version` is 1 or
    2; `swap_controller` says whether the memory controller limits swap too; `allocatable` is what the node gives to Pods, as its
    status has it ({"cpu": "1800m", …}; where it is not known, the capacities).
    """

    memory_bytes: int
    cpus: int
    hugepage_sizes: tuple[str, ...] = ()
    cgroup_version: int = 2
    swap_controller: bool = False
    allocatable: Mapping[str, str] = field(default_factory=dict)

    def for_pods(self, name: str) -> str | int:
        """How much of a resource the node gives to Pods; 0 of one that it does not have."""
        return (self.allocatable or {"cpu": str(self.cpus), "memory": str(self.memory_bytes)}).get(name, 0)

    @classmethod
    def here(cls, root: str = "/") -> MachineInfo:
        """The machine that this Python runs on (source: sysconf, /sys/kernel/mm/hugepages, /sys/fs/cgroup below `root`)."""
        sys = Path(root, "sys")
        version = 2 if (sys / "fs/cgroup/cgroup.controllers").exists() else 1
        swap = sys.glob("fs/cgroup/*/memory.swap.max" if version == 2 else "fs/cgroup/memory/memory.memsw.limit_in_bytes")
        sizes = sorted(int(re.sub(r"\D", "", found.name)) for found in sys.glob("kernel/mm/hugepages/hugepages-*kB"))
        return cls(
            memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            cpus=os.cpu_count() or 1,
            hugepage_sizes=tuple(page_size_name(size * 1024) for size in sizes),
            cgroup_version=version,
            swap_controller=any(swap),
        )


def qos_class(pod: Any) -> str:
    """ "Guaranteed", "Burstable" or "BestEffort" (kubernetes.io: Pod Quality of Service Classes).

    pod: dict or V1Pod. Raises ManifestError.
    """
    return qos_of(defaulted(pod))


def qos_of(pod: Mapping[str, Any]) -> str:
    """The QoS class of a manifest that has its defaults."""
    whole_pod = pod["spec"].get("resources")
    owners = [whole_pod] if whole_pod else [c["resources"] for c in containers(pod["spec"], KINDS[:2])]
    asked = [{name for name in COMPUTE if exact(_amount(owner, "requests", name))} for owner in owners]
    limited = [{name for name in COMPUTE if exact(_amount(owner, "limits", name))} for owner in owners]
    if not any(asked) and not any(limited):
        return "BestEffort"
    everything = all(names == set(COMPUTE) for names in limited)
    equal = all(_total(owners, "requests", name) == _total(owners, "limits", name) for name in COMPUTE)
    return "Guaranteed" if everything and equal else "Burstable"


def cgroup_parent(pod: Mapping[str, Any], root: str = "", driver: str = "cgroupfs") -> str:
    """The Pod's cgroup: /kubepods/burstable/podUID, or the same as systemd slices."""
    qos = qos_of(pod)
    of_class = "" if qos == "Guaranteed" else qos.lower()
    return cgroup_path([*root.strip("/").split("/"), "kubepods", of_class, f"pod{pod['metadata']['uid']}"], driver)


def cgroup_path(names: Sequence[str], driver: str = "cgroupfs") -> str:
    """A cgroup by the names of its levels, the empty ones left out: "/a/b", or systemd's "/a.slice/a-b.slice" (systemd.slice(5);
    kubelet's cm/cgroup_manager_linux.go, ToSystemd)."""
    parts = [name for name in names if name]
    if driver == "cgroupfs":
        return "/" + "/".join(parts)
    escaped = [part.replace("-", "_") for part in parts]
    return "".join(f"/{'-'.join(escaped[: depth + 1])}.slice" for depth in range(len(escaped)))


def sandbox_resources(pod: Mapping[str, Any], machine: MachineInfo) -> pb.LinuxContainerResources:
    """The Pod's resources as a whole, without its overhead."""
    requests, limits = (pod_total(pod, kind) for kind in ("requests", "limits"))
    return linux_resources(requests.get("cpu"), limits.get("cpu", 0), limits.get("memory", 0), machine)


def pod_limits(pod: Mapping[str, Any], machine: MachineInfo) -> pb.LinuxContainerResources:
    """What the Pod's own cgroup is set to: a limit only where each container has one, for else one without would be held back by
    those of the others (ResourceConfigForPod)."""
    requests, limits = (pod_total(pod, kind) for kind in ("requests", "limits"))
    owners = [c["resources"].get("limits", {}) for c in containers(pod["spec"], KINDS[:2])]
    own = pod["spec"].get("resources", {}).get("limits", {})
    held = {name: limits.get(name, 0) if name in own or all(name in owner for owner in owners) else 0 for name in COMPUTE}
    return linux_resources(requests.get("cpu"), held["cpu"], held["memory"], machine)


def overhead_resources(pod: Mapping[str, Any], machine: MachineInfo) -> pb.LinuxContainerResources:
    """The runtime class's overhead, empty without one."""
    overhead = pod["spec"].get("overhead")
    if not overhead:
        return pb.LinuxContainerResources()
    cpu = milli(overhead.get("cpu", 0))
    return linux_resources(cpu, cpu, whole(overhead.get("memory", 0)), machine)


def container_resources(pod: Mapping[str, Any], container: Mapping[str, Any], machine: MachineInfo) -> pb.LinuxContainerResources:
    """CPU shares and quota, memory, swap and hugepage limits, and oom_score_adj of one container."""
    own, of_pod = container["resources"], pod["spec"].get("resources", {})
    limit = {name: _amount(own, "limits", name) or _amount(of_pod, "limits", name) for name in COMPUTE}
    request = own.get("requests", {}).get("cpu")
    resources = linux_resources(None if request is None else milli(request), milli(limit["cpu"]), whole(limit["memory"]), machine)
    resources.oom_score_adj = oom_score_adj(pod, container, machine.memory_bytes)
    given = own.get("limits", {})
    pages = {name.removeprefix("hugepages-"): whole(given[name]) for name in given if name.startswith("hugepages-")}
    asked = {page_size_name(whole(size)): amount for size, amount in pages.items()}
    for size in machine.hugepage_sizes:
        resources.hugepage_limits.add(page_size=size, limit=min(asked.get(size, 0), MAX_INT64))
    if machine.swap_controller and machine.cgroup_version == 2:
        resources.unified["memory.swap.max"] = "0"
    elif machine.swap_controller:
        resources.memory_swap_limit_in_bytes = resources.memory_limit_in_bytes
    return resources


def linux_resources(
    request_mcpu: int | None, limit_mcpu: int, memory_bytes: int, machine: MachineInfo
) -> pb.LinuxContainerResources:
    """CFS shares, quota and period, and the memory limit; 0 means unlimited, None for the request means the limit."""
    shares_of = limit_mcpu if request_mcpu is None else request_mcpu
    return pb.LinuxContainerResources(
        cpu_shares=min(max(shares_of * SHARES_PER_CPU // 1000, MIN_SHARES), MAX_SHARES),
        cpu_quota=min(max(limit_mcpu * CFS_PERIOD_US // 1000, MIN_QUOTA_US), MAX_INT64) if limit_mcpu else 0,
        cpu_period=CFS_PERIOD_US,
        memory_limit_in_bytes=min(memory_bytes, MAX_INT64),
        unified={"memory.oom.group": "1"} if machine.cgroup_version == 2 else {},
    )


def oom_score_adj(pod: Mapping[str, Any], container: Mapping[str, Any], memory_bytes: int) -> int:
    """Who dies first when memory runs out: -997 for Guaranteed, 1000 for BestEffort, by memory request between."""
    qos, spec = qos_of(pod), pod["spec"]
    critical = spec.get("priority", 0) >= NODE_CRITICAL_PRIORITY or spec.get("priorityClassName") == "system-node-critical"
    if qos == "Guaranteed" or critical:
        return GUARANTEED_OOM_SCORE_ADJ
    if qos == "BestEffort":
        return BEST_EFFORT_OOM_SCORE_ADJ
    spare = _spare_memory_per_container(pod)
    requested = _memory_request(container) + spare
    if container in sidecars(spec):
        requested = max(requested, min(_memory_request(regular) for regular in spec["containers"]) + spare)
    score = 1000 - 1000 * requested // memory_bytes
    return min(max(score, 1000 + GUARANTEED_OOM_SCORE_ADJ), BEST_EFFORT_OOM_SCORE_ADJ - 1)


def page_size_name(size: int) -> str:
    """2097152 → "2MB": the name of a page size in the hugetlb cgroup."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1024:
            return f"{size}{unit}"
        size //= 1024
    return f"{size}TB"


def _amount(resources: Mapping[str, Any], kind: str, name: str) -> str | int:
    return resources.get(kind, {}).get(name, 0)


def _total(owners: Iterable[Mapping[str, Any]], kind: str, name: str) -> Fraction:
    return sum((exact(_amount(owner, kind, name)) for owner in owners), Fraction())


def _memory_request(container: Mapping[str, Any]) -> int:
    return whole(_amount(container["resources"], "requests", "memory"))


def _spare_memory_per_container(pod: Mapping[str, Any]) -> int:
    """What the Pod itself requests beyond its containers, in equal parts."""
    own = whole(_amount(pod["spec"].get("resources", {}), "requests", "memory"))
    containers = pod["spec"]["containers"]
    return max(own - sum(map(_memory_request, containers)), 0) // len(containers)
