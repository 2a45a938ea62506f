"""emptyDir volumes in memory: a tmpfs, or the kernel's huge pages.

Knowledge: kubernetes' pkg/volume/emptydir/empty_dir.go (calculateEmptyDirMemorySize, getPageSizeMountOption) and mount-utils.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.podspec.container_kinds import containers
from labkit.podspec.messages.linux_resources import MachineInfo, pod_limits
from labkit.podspec.quantity import exact, whole

HUGE = "hugepages-"


def mount_memory(place: Path, pod: Mapping[str, Any], source: Mapping[str, Any], machine: MachineInfo) -> None:
    """Mount what the volume's medium stands for on `place`. Raises ValueError."""
    medium = source["medium"]
    if medium == "Memory":
        size = memory_size(pod, source, machine)
        mount("tmpfs", "tmpfs", place, f"size={size}" if size else "")
    elif medium.startswith("HugePages"):
        mount("hugetlbfs", "nodev", place, f"pagesize={page_size(pod, medium)}")
    else:
        raise ValueError(f'unknown storage medium "{medium}"')


def memory_size(pod: Mapping[str, Any], source: Mapping[str, Any], machine: MachineInfo) -> int:
    """Bytes: no more than the node gives to Pods, than the Pod may use, and than the volume's own limit."""
    limits = (
        whole(machine.for_pods("memory")),
        pod_limits(pod, machine).memory_limit_in_bytes,
        whole(source.get("sizeLimit") or 0),
    )
    return min((limit for limit in limits if limit > 0), default=0)


def page_size(pod: Mapping[str, Any], medium: str) -> str:
    """The size of huge page that the Pod's containers request, of those that the medium allows. Raises ValueError."""
    spec, wanted = pod["spec"], medium.removeprefix("HugePages").removeprefix("-")
    owners = [spec.get("resources") or {}, *(c["resources"] for c in containers(spec, ("containers", "initContainers")))]
    asked = {name.removeprefix(HUGE) for owner in owners for name in owner.get("requests") or {} if name.startswith(HUGE)}
    found = [size for size in sorted(asked) if not wanted or exact(size) == exact(wanted)]
    if not wanted and len(found) > 1:
        raise ValueError(f"medium: {medium} can't be used if container requests multiple huge page sizes")
    if not found:
        raise ValueError(f"medium {medium}: hugePages storage requested, but there is no resource request for huge pages")
    return found[0]


def mount(kind: str, source: str, place: Path, options: str) -> None:
    """mount(8), and the kubelet's words where it fails. Raises ValueError."""
    arguments = ["-t", kind, *(["-o", options] if options else []), source, str(place)]
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        words = f"Mounting command: mount\nMounting arguments: {' '.join(arguments)}\nOutput: {done.stdout}{done.stderr}"
        raise ValueError(f"mount failed: exit status {done.returncode}\n{words}")
