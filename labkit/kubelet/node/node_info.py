"""The machine as the node object tells of it: Capacity, Allocatable, nodeInfo, addresses, labels.

Knowledge: kubelet's nodestatus/setters.go and cm/node_container_manager_linux.go (Allocatable = Capacity less kube-reserved,
system-reserved and the hard eviction threshold), cadvisor's machine info.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
from dataclasses import dataclass
from pathlib import Path

from labkit.kubelet.node.node_health import meminfo
from labkit.kubelet.resources.pod_cgroups import Allowance
from labkit.podspec.quantity import binary, millicores

ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}
MIB = 2**20


@dataclass(frozen=True)
class Reserved:
    """What the node keeps from Pods: `cpu` millicores and `memory` bytes for the system and the node's own daemons, and
    `eviction`, the bytes of memory that must stay free. Of a small machine no more than a quarter is kept, and an eighth."""

    cpu: int = 200
    memory: int = 1024 * MIB
    eviction: int = 100 * MIB


@dataclass(frozen=True)
class Capacity:
    """What there is: `cpu` in CPUs, `memory` and `storage` in bytes, `hugepages` {page size: bytes}, `pods` counted."""

    cpu: int
    memory: int
    storage: int
    hugepages: dict[int, int]
    pods: int = 110

    @classmethod
    def here(cls, root: Path, pods: int = 110) -> Capacity:
        """This machine's; storage is that of the file system that holds `root`, where volumes and logs are."""
        disk = os.statvfs(root)
        return cls(os.cpu_count() or 1, meminfo()["MemTotal"], disk.f_blocks * disk.f_frsize, hugepages(), pods)

    def as_capacity(self) -> dict[str, str]:
        """As `status.capacity` writes it."""
        return self.written(self.cpu * 1000, self.memory)

    def as_allocatable(self, reserved: Reserved) -> dict[str, str]:
        """As `status.allocatable` writes it: what the scheduler may give to Pods."""
        allowed = self.allowance(reserved)
        return self.written(allowed.cpu, allowed.memory - min(reserved.eviction, self.memory // 8) - sum(self.hugepages.values()))

    def allowance(self, reserved: Reserved) -> Allowance:
        """What the cgroup of all Pods is set to: Capacity less what is reserved, but for the eviction threshold."""
        cpu = self.cpu * 1000 - min(reserved.cpu, self.cpu * 250)
        return Allowance(cpu, self.memory - min(reserved.memory, self.memory // 4))

    def written(self, cpu: int, memory: int) -> dict[str, str]:
        return {
            "cpu": millicores(cpu),
            "ephemeral-storage": binary(self.storage),
            **{f"hugepages-{binary(size)}": binary(amount) for size, amount in sorted(self.hugepages.items(), reverse=True)},
            "memory": binary(memory),
            "pods": str(self.pods),
        }


def hugepages() -> dict[int, int]:
    """{page size: bytes set aside}, of the kernel's own list."""
    found = {}
    for directory in Path("/sys/kernel/mm/hugepages").glob("hugepages-*kB"):
        size = int(directory.name.removeprefix("hugepages-").removesuffix("kB")) * 1024
        found[size] = size * int((directory / "nr_hugepages").read_text())
    return found


def kubelet_version() -> str:
    """labkit's version, marked as such: this kubelet is none of Kubernetes'."""
    try:
        return f"v{importlib.metadata.version('inside-the-node')}-labkit"
    except importlib.metadata.PackageNotFoundError:
        return "v0.0.0-labkit"


def node_info(runtime: str) -> dict[str, str]:
    """`status.nodeInfo`; `runtime` is "containerd://1.6.20", composed of what CRI Version says."""
    machine_id = first_line("/etc/machine-id", "/var/lib/dbus/machine-id")
    return {
        "architecture": architecture(),
        "bootID": first_line("/proc/sys/kernel/random/boot_id"),
        "containerRuntimeVersion": runtime,
        "kernelVersion": platform.release(),
        "kubeProxyVersion": "",
        "kubeletVersion": kubelet_version(),
        "machineID": machine_id,
        "operatingSystem": "linux",
        "osImage": os_image(Path("/etc/os-release")),
        "systemUUID": first_line("/sys/class/dmi/id/product_uuid") or machine_id,
    }


def architecture() -> str:
    """As Go names it."""
    return ARCHITECTURES.get(platform.machine(), platform.machine())


def labels(name: str) -> dict[str, str]:
    return {
        "beta.kubernetes.io/arch": architecture(),
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture(),
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
    }


def os_image(release: Path) -> str:
    """PRETTY_NAME (man 5 os-release)."""
    try:
        pairs = (line.partition("=") for line in release.read_text().splitlines() if line.startswith("PRETTY_NAME="))
        return next((" ".join(shlex.split(value)) for _, _, value in pairs), "Linux")
    except (OSError, ValueError):
        return "Linux"


def first_line(*paths: str) -> str:
    """The first of these files that can be read and holds something."""
    for path in paths:
        try:
            if text := Path(path).read_text().strip():
                return text.splitlines()[0]
        except OSError:
            continue
    return ""
