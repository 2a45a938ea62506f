"""Node: the one face of every place where Pods run."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from labkit.cri import CriClient, CriError
from labkit.cri.pods import PodProcess, PodReader, PodSnapshot
from labkit.cri.v1 import api_pb2
from labkit.kernel import LocalKernel, Process, Snapshot
from labkit.node.host.access import Host, Kernel, ThisMachine
from labkit.node.observe import bundles, pod_processes, shims
from labkit.node.observe.cgroups import Cgroups
from labkit.node.observe.cni import CniConfiguration
from labkit.node.observe.ledger_client import LedgerClient
from labkit.node.observe.shims import ShimHold
from labkit.node.observe.source import Sources
from labkit.node.pods import cri_pods, operations
from labkit.node.pods.api_access import NoApi
from labkit.node.pods.cluster import Cluster
from labkit.node.pods.kubelet_pause import KubeletPause
from labkit.node.pods.node_dns import NodeDns
from labkit.node.pods.own_pods import OwnPods, is_ours, no_pod
from labkit.node.registry.course_images import IMAGES, Images
from labkit.node.state import incident_note, unfinished
from labkit.node.state.home import Home
from labkit.node.state.ledger import LESSON, Ledger
from labkit.node.state.node_selector import NodeSelector
from labkit.recording import recorder
from labkit.recording.calls.log import CallLog
from labkit.util.errors import NodeError

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api  # slow to import

    from labkit.node.state.runtime_daemon import RuntimeDaemon

EXEC_WITHIN_S = 60.0
"""So long a learner waits for a command without a timeout."""

Manifest = Mapping[str, Any]


class Node:
    """A machine with a kernel, a container runtime and, perhaps, Pods.

    `cri` speaks CRI to its runtime; `kernel` reads its /proc; `shell` runs a command on it. Pods that labkit starts carry the
    label app.kubernetes.io/managed-by=labkit and, in a lesson, labkit.lesson=NN: labkit touches no other Pod. `selector` means
    the same node again.

    A kind of node gives `host` and `ledger`, and puts its own parts in place of these: `own_pods`, the Pods that this lab made;
    `api`, the way to the cluster's API; `dns`, what Pods look names up with; `sources`, where a recording gets its events from.
    """

    def __init__(
        self,
        *,
        kind: str,
        name: str,
        endpoint: str,
        runtime: str,
        why: str,
        lesson: str | None = None,
        settings: Mapping[str, Any] | None = None,
        host: Host | None = None,
        kernel: Kernel | None = None,
        ledger: Ledger | None = None,
        socket_path: str = "",
    ) -> None:
        """ledger: what this home has changed on the node; None where the node is the home's own. socket_path: where the runtime's
        socket is on the node itself. settings: those of its kubelet (see `labkit.podspec.messages`)."""
        self.kind, self.name, self.endpoint, self.runtime, self.why, self.lesson = kind, name, endpoint, runtime, why, lesson
        self.host: Host = host or ThisMachine()
        self.kernel: Kernel = kernel or LocalKernel()
        self.ledger = ledger
        self.cri = LedgerClient(endpoint, ledger) if ledger else CriClient(endpoint)
        self.cri.away, self.cri.exec_within = self._why_away, EXEC_WITHIN_S
        self.socket_path = socket_path or self.cri.path
        self.images: dict[str, str] = Images(IMAGES)
        self.settings = dict(settings or {})
        self.selector = NodeSelector(kind)
        self.own_pods = OwnPods(self)
        self.api = NoApi(name)
        self.dns = NodeDns(self.host)
        self.sources = Sources(self)
        self._foreign_sandboxes: set[str] = set()
        self.remarks: list[str] = []
        """What a learner should know of this node before she begins, a sentence each."""

    def __repr__(self) -> str:
        return f"<Node {self.name}: kind {self.kind}, {self.runtime}, {self.endpoint}>"

    # Pods

    def manifest(self, pod: Manifest | Any) -> dict[str, Any]:
        """The manifest as a node sees it: the API server's defaults filled in (a uid too), and labkit's labels. Raises
        ManifestError."""
        return dict(self.own_pods.manifest(pod))

    def sandbox_config(self, pod: Manifest, **more: Any) -> api_pb2.PodSandboxConfig:
        """The PodSandboxConfig that this node's kubelet would make of a manifest (see `labkit.podspec.messages`)."""
        return cri_pods.sandbox_config(self, pod, **more)

    def container_config(self, pod: Manifest, name: str, **more: Any) -> api_pb2.ContainerConfig:
        """The ContainerConfig for one container of a manifest. `pod_ip` is asked of the runtime where it is not given.

        Makes what a kubelet makes on the node before CreateContainer: the directory of the container's log, and the files that
        its mounts name.
        """
        return cri_pods.container_config(self, pod, name, **more)

    def start_pod(self, pod: Manifest | Any, *, auth: Mapping[str, str] | None = None, runtime_handler: str = "") -> PodSnapshot:
        """Start a Pod by CRI calls, as the kubelet does: sandbox, image, init containers one by one, then the containers.

        `auth` is CRI's AuthConfig, e.g. {"username": "learner", "password": "container"}. Raises ManifestError,
        CriError or NodeError; a Pod that could not be started is removed again. Returns the Pod as it runs.
        """
        return cri_pods.start(self, self.own_pods.manifest(pod), auth, runtime_handler)

    def remove_pod(self, pod: PodSnapshot | Manifest | str) -> None:
        """Stop and remove a Pod (given as `start_pod` returned it, as manifest, or by name), its containers, files and cgroups.

        A Pod that is gone already is no error. Refuses a Pod that labkit did not make.
        """
        self.own_pods.remove(pod)

    def remove_container(self, pod: PodSnapshot | Manifest | str, name: str, attempt: int = 0) -> None:
        """Stop and remove a Pod's containers of that name, from an attempt on, so that they can be created again. Where there is
        none, nothing is done. Leaves a Pod alone that labkit did not make."""
        self.own_pods.remove_container(pod, name, attempt)

    def remove_leftovers(self) -> list[str]:
        """Remove the Pods that this lesson made by hand and left behind; their names. Touches no other lesson's Pod.

        Starts the runtime first where a lesson has stopped it, and repairs the network where one was left broken: without them no
        Pod can be removed. What an open incident has broken stays so; where that is the runtime, nothing is removed.
        """
        if not self.lesson or self._is_held_down():
            return []
        self._start_runtime()
        broken = self.ledger is None or self.ledger.noted("network")
        if broken and not self._incident_holds(incident_note.NETWORK):
            with contextlib.suppress(NodeError):
                if self.cni.is_changed():
                    self.cni.repair()
                    self.remarks.append(unfinished.NETWORK)
        return self.own_pods.remove_all({LESSON: self.lesson})

    def pod(self, pod: PodSnapshot | Manifest | str) -> PodSnapshot:
        """The Pod as it is now: state, address, containers, processes, namespaces. Raises NodeError when there is none."""
        wanted = {s.id for s in self.own_pods.sandboxes(pod)}
        there = self.pods(others=True)
        found = [p for p in there if p.id in wanted]
        if not found:
            raise no_pod(pod, [p.name for p in there])
        return sorted(found, key=lambda p: p.state != "Ready")[0]

    def pods(self, *, others: bool = False) -> tuple[PodSnapshot, ...]:
        """The lesson's Pods with their processes, sorted by namespace and name. others: also those of other lessons, of kubectl
        and of the cluster. Outside of a lesson: every Pod on the node."""
        return self._settled(others)[1]

    def wait_exit(self, container_id: str, timeout: float = 30.0) -> int:
        """Wait, seconds at most, until a container has exited; its exit code (128 + signal where a signal ended it)."""
        try:
            return operations.wait_exit(self.cri.unrecorded(), container_id, timeout)
        except TimeoutError:
            raise NodeError(f"The container {container_id[:13]} still runs after {timeout:.0f} s.", "") from None

    def wait_not_ready(self, sandbox_id: str, timeout: float = 30.0) -> None:
        """Wait, seconds at most, until the runtime has noticed that a sandbox ended."""
        try:
            operations.wait_not_ready(self.cri.unrecorded(), sandbox_id, timeout)
        except TimeoutError:
            raise NodeError(f"The sandbox {sandbox_id[:13]} is still ready after {timeout:.0f} s.", "") from None

    def kubelet_held(self) -> KubeletPause:
        """Hold the node's kubelet still while Pods are made by hand; where there is none it does nothing (see
        `labkit.node.pods.kubelet_pause`)."""
        return KubeletPause()

    # The flight recorder

    @contextlib.contextmanager
    def record(self, log: CallLog | None = None) -> Iterator[recorder.Recording]:
        """Record CRI calls and process events while the block runs: `with node.record() as flight: …`, then `flight.plot()`.

        What it yields is empty until the block ends, and as good as a Flight then. Calls are those made through `node.cri`, those
        of other programs as far as the node can tell them (`labkit.node.observe.external_calls`), and those in `log` besides.
        Raises EventsError where the kernel's events cannot be had.
        """
        log = CallLog() if log is None else log
        others = self.sources.other_calls(log)
        with recorder.FlightRecorder(self.cri, **vars(self.sources.open()), log=log, others=others) as recording:
            yield recording

    # The kernel

    def processes(self, *, others: bool = False) -> tuple[PodProcess, ...]:
        """The node's part of the process tree: init, the runtime, the shims and all below them, as they are now. others: see
        `pods`."""
        return pod_processes.tree(self, *self._settled(others))

    def shims(self, *, others: bool = False) -> tuple[ShimHold, ...]:
        """The shims and what they hold, also while the runtime is down (see `labkit.node.observe.shims`). others: see `pods`;
        a runtime that is down cannot tell whose a Pod is that was not seen before. Raises NodeError."""
        found = shims.shims(self)
        if others or not self.lesson:
            return found
        with contextlib.suppress(CriError):
            listed = self.cri.unrecorded().list_pod_sandbox().items
            self._foreign_sandboxes = {s.id for s in listed if s.labels.get(LESSON) != self.lesson}
        return tuple(each for each in found if each.sandbox not in self._foreign_sandboxes)

    def bundle_directory(self, container_id: str) -> str:
        """Where on the node a running container's OCI bundle is (see `labkit.node.observe.bundles`). Raises NodeError and
        CriError."""
        return bundles.directory(self.cri, self.kernel, container_id)

    def listener(self) -> Process:
        """The process that listens on the runtime's socket, as the kernel tells it. Raises NodeError when nobody does."""
        pid = self.kernel.unix_listener(self.socket_path)
        if pid is None:
            nobody = f"No process listens on {self.socket_path}."
            if self._is_held_down():
                raise NodeError(nobody, "")
            raise NodeError(*(self._why_away() or (nobody, "The runtime is down: `labkit status` says more.")))
        return self.kernel.snapshot(fds=False).processes[pid]

    def host_namespaces(self) -> Mapping[str, int]:
        """The node's own namespaces, type → inode (see `labkit.node.observe.pod_processes`)."""
        return pod_processes.host_namespaces(self.kernel, self.listener())

    def runs(self, pid: int) -> bool:
        """Whether the node has a process of this pid that has not ended; one that waits to be collected has."""
        return pod_processes.is_running(self.kernel, pid)

    def kill(self, pid: int, signal: int = signal.SIGTERM) -> None:
        """Send a signal to a process of a Pod that labkit made. Refuses any other process with NodeError."""
        if pid < 1:
            raise NodeError(
                f"There is no process {pid}: the pid of a container is 0 when it has ended, or was not started.",
                "Start the container, and take its pid from node.pod(NAME) then.",
            )
        owned = {p.pid for pod in self.pods(others=True) if is_ours(pod.labels) for p in pod.processes}
        if pid not in owned and not self.runs(pid):
            raise NodeError(f"The process {pid} has ended.", "Take the pid of one that runs from node.pod(NAME).processes.")
        if pid not in owned:
            raise NodeError(
                f"The process {pid} belongs to no Pod of labkit's, so it is left alone.",
                "Take the pid from node.pod(NAME).processes.",
            )
        self.shell(["kill", f"-{int(signal)}", str(pid)])

    def shell(self, argv: Sequence[str], *, timeout: float = 30.0) -> str:
        """Run a command on the node itself, not in a Pod; its standard output. Raises NodeError with its error message when it
        fails."""
        return self.host.shell(argv, timeout=timeout)

    # Its parts

    @property
    def daemon(self) -> RuntimeDaemon:
        """The node's container runtime itself, to be killed, stopped, started, upgraded (see `labkit.node.lab.daemon`).

        Raises NodeError where it is not labkit's.
        """
        raise NodeError(
            f"The runtime of {self.name} is not labkit's, so labkit does not stop or replace it.",
            "Use a node of kind `containerd`, `vm` or `kind`: `labkit doctor` says which can work here.",
        )

    @property
    def kube(self) -> CoreV1Api:
        """The official client of the cluster that the node is of. Raises NodeError where it is of none."""
        return self.api.kube

    @cached_property
    def cluster(self) -> Cluster:
        """The node's cluster as a learner uses it: apply, wait, events, kubectl (see `labkit.node.pods.cluster`). Raises
        NodeError.

        At its first use it removes what this lesson left there last time.
        """
        made = Cluster(
            self.api.kube, self.api.node_name(), self.api.kubectl, self.lesson, cri_pods.host_paths(self.settings), self.ledger
        )
        if not self._is_held_down():  # no kubelet could remove a Pod
            made.remove_leftovers()
        return made

    @cached_property
    def cni(self) -> CniConfiguration:
        """The node's network configuration, to be broken and repaired (see `labkit.node.observe.cni`). Raises NodeError."""
        return CniConfiguration(self)

    @property
    def cgroups(self) -> Cgroups:
        """The cgroups of the node's Pods (see `labkit.node.observe.cgroups`)."""
        return Cgroups(self, self._settled)

    def close(self) -> None:
        self.cri.close()

    @cached_property
    def _pods(self) -> PodReader:
        return PodReader(self.cri)

    def _settled(self, others: bool = False) -> tuple[Snapshot, tuple[PodSnapshot, ...]]:
        snapshot, pods = pod_processes.settled(self.kernel, self._pods)
        lesson = None if others else self.lesson
        return snapshot, tuple(pod for pod in pods if lesson in (None, (pod.labels or {}).get(LESSON)))

    def _why_away(self) -> tuple[str, str] | None:
        """What was done to a runtime that cannot be reached, and what to do; None where that is not known."""
        if self._is_held_down():
            return f"nobody answers at {self.endpoint}", f"{incident_note.OPEN_HERE}: what it means is for you to find out."
        with contextlib.suppress(NodeError):
            if self.daemon.state == "stopped":
                return (
                    f"containerd on {self.name} was stopped, here or in another notebook.",
                    "Start it with node.daemon.start(), or with `labkit up` in a terminal.",
                )
        return None

    def _incident_holds(self, what: str) -> bool:
        return incident_note.holds(Home.find(), what, self.kind, self.name)

    def _is_held_down(self) -> bool:
        """Whether an open incident has stopped the runtime, and the learner has not started it."""
        with contextlib.suppress(NodeError):
            return self._incident_holds(incident_note.RUNTIME) and self.daemon.state == "stopped"
        return False

    def _start_runtime(self) -> None:
        """Start the node's runtime where a lesson has stopped it and nobody has started it since. Raises NodeError."""
        if self.ledger and not self.ledger.noted("runtime"):  # nor has this lab stopped another's
            return
        with contextlib.suppress(CriError):
            self.cri.version()
            return
        try:
            daemon = self.daemon
        except NodeError:  # it is not labkit's: the next call tells what is wrong with it
            return
        daemon.start()
