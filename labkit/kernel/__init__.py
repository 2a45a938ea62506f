"""What a Linux kernel shows of processes, namespaces, mounts, cgroups and network interfaces. Standard library only."""

from labkit.kernel.cgroup import Cgroup, cgroup_mounts
from labkit.kernel.model import NAMESPACE_TYPES, Interface, Mount, Namespace, Process, Snapshot
from labkit.kernel.remote import RemoteKernel
from labkit.kernel.snapshot import LocalKernel, assemble

__all__ = [
    "NAMESPACE_TYPES",
    "Cgroup",
    "Interface",
    "LocalKernel",
    "Mount",
    "Namespace",
    "Process",
    "RemoteKernel",
    "Snapshot",
    "assemble",
    "cgroup_mounts",
]
