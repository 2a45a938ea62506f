"""A Pod at one moment: what CRI says of it, joined with what the kernel shows of its processes.

CRI knows names, states and the pid of each container's first process; the kernel knows every process, its parent and
its namespaces. Neither alone answers "which processes are this Pod, and what do they share?".
"""

from labkit.cri.pods.pod_kernel import CONTAINER_ID, RUNC, RUNC_INIT, PodKernel, is_shim, pod_processes
from labkit.cri.pods.pod_reader import PodReader, read_container, read_sandbox
from labkit.cri.pods.pod_snapshot import ROLES, PinnedNamespace, PodContainer, PodProcess, PodSnapshot

__all__ = [
    "CONTAINER_ID",
    "ROLES",
    "RUNC",
    "RUNC_INIT",
    "PinnedNamespace",
    "PodContainer",
    "PodKernel",
    "PodProcess",
    "PodReader",
    "PodSnapshot",
    "is_shim",
    "pod_processes",
    "read_container",
    "read_sandbox",
]
