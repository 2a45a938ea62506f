"""Node kind `containerd`: a private containerd on this very machine, for root on Linux."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from labkit.cri.v1 import api_pb2
from labkit.kernel import Mount, Process
from labkit.node.host import lab_processes
from labkit.node.lab import health, lifecycle, residue, secondary
from labkit.node.lab.daemon import Daemon
from labkit.node.lab.secondary import SecondaryHome
from labkit.node.node import Node
from labkit.node.observe.source import Sources
from labkit.node.packages import releases
from labkit.node.packages.programs import missing_advice
from labkit.node.pods import pod_files
from labkit.node.pods.api_access import LabApi
from labkit.node.pods.kubelet_pause import NOT_HELD, KubeletPause
from labkit.node.pods.own_pods import OwnPods
from labkit.node.state import node_selector, status, unfinished
from labkit.node.state.home import Home
from labkit.node.state.kind_of_node import Availability, KindOfNode, Report, node_report
from labkit.node.state.node_selector import NodeSelector
from labkit.podspec.messages.container_mounts import OWN_PODS
from labkit.util import trees
from labkit.util.errors import NodeError
from labkit.util.progress import Progress
from labkit.util.safepath import below


class ContainerdNode(Node):
    """The node that `labkit up` brings to life. It shares this machine's kernel, so pids and inodes are those that ps
    and lsns show."""

    def __init__(self, home: Home, state: dict[str, Any], *, why: str, lesson: str | None = None) -> None:
        runtime = state["runtime"]
        super().__init__(
            kind="containerd",
            name="sim-worker",
            endpoint=f"unix://{home.socket}",
            runtime=f"{runtime['name']} {runtime['version']}",
            why=why,
            lesson=lesson,
            settings=settings(home),
        )
        self.home = home
        self.own_pods = OwnPods(self, lambda sandbox: remove_files(home, self.kernel.cgroup_mounts(), sandbox))
        self.api = LabApi(self.name, home, home.kubeconfig)
        self.sources = LabSources(self)

    @property
    def daemon(self) -> OwnDaemon:
        """The node's containerd itself: kill, stop, start, restart, upgrade it, or run another version beside it."""
        if isinstance(self.home, SecondaryHome):
            raise NodeError("This containerd runs beside the node's own and ends with its block.", "Use the node's own daemon.")
        return OwnDaemon(self.home, self)

    def kubelet_held(self) -> KubeletPause:
        return KubeletPause(NOT_HELD)


class LabSources(Sources):
    """With what the node's owner knows of its programs."""

    node: ContainerdNode

    def is_runtime(self, process: Process) -> bool:
        return process.pid in self.own_programs() and process.comm == "containerd"

    def own_programs(self) -> dict[int, str]:
        return {pid: name for name, pid in status.read(self.node.home).get("processes", {}).items()}


def remove_files(home: Home, cgroup_mounts: Mapping[str, Mount], sandbox: api_pb2.PodSandbox) -> None:
    """The Pod's directory, logs and cgroups, which the kubelet removes on a cluster, and the socket of a shim that
    was killed. A uid or name that no manifest can have is of a Pod that labkit did not make: it has no such files. Those of a
    Pod of the lab's kubelet are that one's business: it may be about to start the Pod again, on the same volumes.

    Raises NodeError, and removes no file, where something is still mounted in the Pod's directory.
    """
    metadata = sandbox.metadata
    residue.unlink_shim_socket(home, sandbox.id)
    if not pod_files.has_files(metadata) or (home.kubelet_root / OWN_PODS / metadata.uid).exists():
        return
    directory = below(home.kubelet_root / "pods", metadata.uid)
    residue.unmount_below(directory)
    trees.remove(directory)
    trees.remove(below(home.log_root, pod_files.log_directory(metadata)))
    for mount in cgroup_mounts.values():
        for parent in ("", "/burstable", "/besteffort"):
            with contextlib.suppress(OSError):
                os.rmdir(f"{mount.mount_point}{home.cgroup_root}/kubepods{parent}/pod{metadata.uid}")


class OwnDaemon(Daemon):
    """The containerd of a private node, beside which others can run."""

    @contextlib.contextmanager
    def beside(self, version: str) -> Iterator[ContainerdNode]:
        """Another containerd of this version beside the node's own, as a Node, for as long as the block lasts.

            with node.daemon.beside("1.7") as other:
                other.cri.version()

        It has a root, a state directory and a socket of its own, and shares the node's network and registries, so Pods run on
        it too; they are removed with it. It is a child of this Python and ends with the block, or when this Python is killed.
        Fetches the version where it is not here.
        """
        release = self._release(version)
        if status.read(self.home)["state"] == "down":
            raise NodeError("The node is down, and a second containerd shares its network.", "Bring it up with `labkit up`.")
        with secondary.running(self.home, release) as second:
            lesson = self.node.lesson if self.node else None
            other = ContainerdNode(second, status.read(second), why="beside the node's own", lesson=lesson)
            try:
                yield other
            finally:
                other.close()


def settings(home: Home) -> dict[str, Any]:
    """What this node's kubelet would be configured with. The node's address is the bridge's: Pods reach the node by it, and it is
    known though a lesson has taken the network's configuration away."""
    return {
        "sandbox": {"cgroup_root": home.cgroup_root, "log_root": str(home.log_root)},
        "container": {
            "kubelet_root": str(home.kubelet_root),
            "host_ip": (home.data / "cni" / "address").read_text(),
            "memory_capacity": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        },
    }


def probe(home: Home, selector: NodeSelector | None = None) -> Availability:
    """Whether a private containerd can run here. Never raises."""
    if sys.platform != "linux":
        return Availability(
            "containerd", False, f"It needs Linux, and this is {sys.platform}.", "run the course in a Linux virtual machine"
        )
    if os.geteuid() != 0:
        return Availability("containerd", False, "It needs root, and this is an ordinary user.", "sudo ./course start")
    if lacks := missing_capabilities():
        fix = "run outside of this container, or give it these capabilities"
        return Availability("containerd", False, f"root lacks {', '.join(lacks)} here.", fix)
    if advice := missing_advice(home.cache):
        return Availability("containerd", False, *advice)
    return Availability("containerd", True, "root on Linux: a private containerd, apart from the system's", "")


NEEDED = {
    "CAP_SYS_ADMIN": 21,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_CHROOT": 18,
    "CAP_MKNOD": 27,
    "CAP_SETUID": 7,
    "CAP_SETGID": 6,
    "CAP_KILL": 5,
}
"""What namespaces, mounts, links and processes of other users need (man 7 capabilities): name → bit."""


def missing_capabilities() -> list[str]:
    with open("/proc/self/status") as lines:
        effective = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    return [name for name, bit in NEEDED.items() if not effective >> bit & 1]


def connect(home: Home, selector: NodeSelector, *, why: str, lesson: str | None, progress: Progress) -> ContainerdNode:
    """A Node for the private containerd, which is brought up when it is down. Raises NodeError."""
    before = status.read(home)
    now = ensure_up(home, selector, progress)
    node = ContainerdNode(home, now, why=why, lesson=lesson)
    node.remarks += unfinished.of_stopped(before, now)
    return node


def up(home: Home, selector: NodeSelector, progress: Progress) -> Report:
    ensure_up(home, selector, progress)
    node_selector.remember(home, NodeSelector("containerd"), as_last=True)
    return report(home, selector)


def ensure_up(home: Home, selector: NodeSelector, progress: Progress) -> dict[str, Any]:
    found = lifecycle.up(home, progress)
    node_selector.remember(home, NodeSelector("containerd"))
    return found


def report(home: Home, selector: NodeSelector) -> Report:
    """The node's state as its owner wrote it last."""
    found = status.read(home)
    versions = [release.version for release in releases.here(home.cache)]
    if found["state"] == "down":
        deleted = found == {"state": "down"} and bool(lab_processes.node_owners(home))
        return node_report("containerd", versions=versions, stale=found.get("stale"), deleted=deleted or None)
    return node_report(
        "containerd",
        found["state"],
        endpoint=f"unix://{home.socket}",
        runtime=found.get("runtime"),
        pid=found.get("pid"),
        since=found.get("since"),
        processes=found.get("processes"),
        time_scale=found.get("time_scale", 1.0),
        versions=versions,
        unexpected=status.unexpected(home.data, found["since"]) or None,
        error=found.get("error"),
    )


def unanswered(home: Home, report: Report) -> dict[str, Report]:
    """The node's programs that do not answer now (see `labkit.node.lab.health`)."""
    probes = {**health.probes(home, home.socket), **health.registry_probes(home)}
    return health.unanswered(probes, {health.OWNER: report["pid"], **report.get("processes", {})}, home.data)


def down(home: Home, selector: NodeSelector, progress: Progress) -> int:
    return lifecycle.down(home, progress)


KIND = KindOfNode(probe, up, connect, report, unanswered, down)
"""Its traces are removed by `labkit clean` itself."""
