"""Node: the one face of every place where Pods run."""

from __future__ import annotations

import contextlib
import os
import posixpath
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from labkit.cri import CriClient, CriError, verbose
from labkit.cri import pods as joined
from labkit.cri.pods import PodProcess, PodSnapshot
from labkit.cri.v1 import api_pb2
from labkit.figures.pods.model import CgroupLine
from labkit.kernel import LocalKernel, Process, Snapshot
from labkit.kernel.events.connector import watch
from labkit.kernel.events.stream import EventStream
from labkit.kernel.remote import RemoteKernel
from labkit.node.observe import bundles, callers, cgroups, external_calls, shims, ttrpc
from labkit.node.observe.cni import CniConfiguration
from labkit.node.observe.shims import ShimHold
from labkit.node.observe.source import Source
from labkit.node.pods import cri_pods, kubectl, pod_files
from labkit.node.pods import operations as pods
from labkit.node.pods.cluster import NAMESPACE, Cluster
from labkit.node.pods.kubelet_pause import Hold
from labkit.node.state.home import Home
from labkit.node.state.ledger import Ledger, known_pods
from labkit.node.state.node_selector import Choice
from labkit.podspec import DefaultedPod, defaulted, find_container, with_defaults
from labkit.podspec.messages import container_config, dns, sandbox_config
from labkit.podspec.messages.configs import POD_UID
from labkit.podspec.messages.environment import reads_limits
from labkit.podspec.messages.hosts import CLUSTER_DOMAIN, hosts_file
from labkit.recording import recorder
from labkit.recording.calls.log import CallLog
from labkit.util.errors import NodeError
from labkit.util.showable import Absent

MANAGED_BY = "app.kubernetes.io/managed-by"
LESSON = "labkit.lesson"
IMAGES = {"busybox": "registry.lab/busybox:1", "pause": "registry.lab/pause:1", "private": "private.registry.lab/busybox:1"}

EXEC_WITHIN_S = 60.0
"""So long a learner waits for a command without a timeout."""

Manifest = Mapping[str, Any]


class Images(dict[str, str]):
    """The course's images: short name → reference."""

    def __missing__(self, name: str) -> str:
        raise Absent(f"The course has no image {name!r}; it has {', '.join(self)}.")


NO_STREAMS = (
    "crictl exec, attach and port-forward do not work with this node: the runtime answers them with an address on the node's own "
    "loopback, which this machine does not reach. Use crictl exec --sync, or kubectl."
)


class Node:
    """A machine with a kernel, a container runtime and, perhaps, Pods.

    `cri` speaks CRI to its runtime; `kernel` reads its /proc; `shell` runs a command on it. Pods that labkit starts carry the
    label app.kubernetes.io/managed-by=labkit and, in a lesson, labkit.lesson=NN: labkit touches no other Pod. `choice` chooses
    the same node again.
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
        kernel: LocalKernel | RemoteKernel | None = None,
    ) -> None:
        self.kind, self.name, self.endpoint, self.runtime, self.why, self.lesson = kind, name, endpoint, runtime, why, lesson
        self.use(CriClient(endpoint))
        self.kernel = kernel or LocalKernel()
        self.images: dict[str, str] = Images(IMAGES)
        self.settings = dict(settings or {})
        self.choice = Choice(kind)

    def use(self, cri: CriClient) -> None:
        """Make this client the node's."""
        cri.away, cri.exec_within = self.why_away, EXEC_WITHIN_S
        self.cri = cri

    def unrecorded(self) -> CriClient:
        """A client for what is asked while a learner waits, which is no call of hers."""
        own = CriClient(self.endpoint)
        own.away = self.why_away
        return own

    def why_away(self) -> tuple[str, str] | None:
        """What was done to a runtime that cannot be reached, and what to do; None where that is not known."""
        with contextlib.suppress(NodeError):
            if self.daemon.state == "stopped":
                return (
                    f"containerd on {self.name} was stopped, here or in another notebook.",
                    "Start it with node.daemon.start(), or with `labkit up` in a terminal.",
                )
        return None

    def __repr__(self) -> str:
        return f"<Node {self.name}: kind {self.kind}, {self.runtime}, {self.endpoint}>"

    ledger: Ledger | None = None
    """What this home has changed on the node; None where the node is the home's own."""
    remark = ""
    """What a learner should know of this node before she begins, in a sentence."""

    # Pods

    def manifest(self, pod: Manifest | Any) -> dict[str, Any]:
        """The manifest as a node sees it: the API server's defaults filled in (a uid too), and labkit's labels. Raises
        ManifestError."""
        return dict(self._own_pod(pod))

    def _own_pod(self, pod: Manifest | Any) -> DefaultedPod:
        filled = with_defaults(pod, node_name=self.name)
        labels = filled["metadata"].setdefault("labels", {})
        labels[MANAGED_BY] = "labkit"
        if self.lesson:
            labels.setdefault(LESSON, self.lesson)
        self.note(filled)
        return DefaultedPod(filled)

    def note(self, pod: Manifest) -> None:
        """Write down that this Pod may be made by hand: its uid, by which it is known as this lab's."""
        uid = pod["metadata"].get("uid")
        if self.ledger and uid and is_ours(pod["metadata"].get("labels")):
            self.ledger.note("pod", uid=str(uid))

    def is_own(self, sandbox: Any) -> bool:
        """Whether this lab made a Pod: labkit's label is on it and, on a node that other labs may use too, its uid was noted."""
        return is_ours(sandbox.labels) and (self.ledger is None or sandbox.metadata.uid in known_pods(self.ledger.home))

    def is_of_lesson(self, sandbox: Any) -> bool:
        """Whether this lesson made a Pod: what a cell that is run again may replace."""
        return bool(self.lesson) and sandbox.labels.get(LESSON) == self.lesson and self.is_own(sandbox)

    def sandbox_config(self, pod: Manifest, **more: Any) -> Any:
        """The PodSandboxConfig that this node's kubelet would make of a manifest (see `labkit.podspec.messages`)."""
        pod = defaulted(pod)
        if "dns" not in more:
            more["dns"] = self.dns_of(pod)
        self.note(pod)
        more.setdefault("cluster_domain", self.cluster_domain)
        return sandbox_config(pod, **{**self.settings.get("sandbox", {}), **more})

    streams_here = True
    """Whether this machine's loopback is the runtime's, which serves exec, attach and port-forward there."""

    @property
    def cluster_domain(self) -> str:
        """What the full names of Pods with a subdomain end in."""
        return CLUSTER_DOMAIN

    def dns_of(self, pod: Manifest) -> dns.Dns | None:
        """What the dnsPolicy of a Pod stands for on this node. pod: a manifest with its defaults."""
        return dns.of_pod(pod, self.own_dns)

    @cached_property
    def own_dns(self) -> dns.Dns | None:
        """What the node's own /etc/resolv.conf says; None where it cannot be read or names no server. LABKIT_RESOLV_CONF names
        another file on the node, as a kubelet's --resolv-conf does."""
        with contextlib.suppress(NodeError):
            return dns.of_node(self.shell(["cat", os.environ.get("LABKIT_RESOLV_CONF") or "/etc/resolv.conf"]))
        return None

    def container_config(self, pod: Manifest, name: str, **more: Any) -> Any:
        """The ContainerConfig for one container of a manifest. `pod_ip` is asked of the runtime where it is not given.

        Makes what a kubelet makes on the node before CreateContainer: the directory of the container's log, and the files that
        its mounts name.
        """
        pod = defaulted(pod)
        if "pod_ip" not in more:
            more["pod_ip"] = self.pod_ip(pod)
        if "allocatable" not in more and reads_limits(find_container(pod, name)):
            more["allocatable"] = self.allocatable()
        config = container_config(pod, name, **{**self.settings.get("container", {}), **more})
        ips = [more["pod_ip"]] if isinstance(more["pod_ip"], str) else more["pod_ip"] or []
        hosts = hosts_file(pod, ips, lambda: self.shell(["cat", "/etc/hosts"]), self.cluster_domain)
        pod_files.make(pod, config, self.write_file, self.make_directory, hosts=hosts)
        log = posixpath.join(self.sandbox_config(pod).log_directory, config.log_path)
        self.make_directory(posixpath.dirname(log), 0o755)  # containerd makes it where it is missing, CRI-O does not
        return config

    def allocatable(self) -> Mapping[str, str]:
        """What the node gives to Pods, as its status has it; {} where no API answers."""
        from kubernetes.client import ApiException

        with contextlib.suppress(NodeError, ApiException):
            return dict(self.kube.read_node(self.cluster_name()).status.allocatable)
        return {}

    def pod_ip(self, pod: Manifest) -> str:
        """The address of a manifest's Pod, as the runtime reports it; "" while it has none."""
        wanted = {"label_selector": {POD_UID: defaulted(pod)["metadata"]["uid"]}, "state": {"state": api_pb2.SANDBOX_READY}}
        with contextlib.suppress(CriError):
            for sandbox in self.cri.list_pod_sandbox(filter=wanted).items:
                return str(self.cri.pod_sandbox_status(pod_sandbox_id=sandbox.id).status.network.ip)
        return ""

    def start_pod(self, pod: Manifest | Any, *, auth: Mapping[str, str] | None = None, runtime_handler: str = "") -> PodSnapshot:
        """Start a Pod by CRI calls, as the kubelet does: sandbox, image, init containers one by one, then the containers.

        `auth` is CRI's AuthConfig, e.g. {"username": "learner", "password": "container"}. Raises ManifestError,
        CriError or NodeError; a Pod that could not be started is removed again. Returns the Pod as it runs.
        """
        return cri_pods.start(self, self._own_pod(pod), auth, runtime_handler)

    def remove_pod(self, pod: PodSnapshot | Manifest | str) -> None:
        """Stop and remove a Pod (given as `start_pod` returned it, as manifest, or by name), its containers, files and cgroups.

        A Pod that is gone already is no error. Refuses a Pod that labkit did not make.
        """
        for sandbox in self.sandboxes(pod):
            if not self.is_own(sandbox):
                who = "this lab" if is_ours(sandbox.labels) else "labkit"
                raise NodeError(
                    f"The Pod {sandbox.metadata.name} was not made by {who}.", "Remove it with the tool that made it."
                )
            self.remove_sandbox(sandbox)

    def remove_sandbox(self, sandbox: Any) -> None:
        """Stop and remove a sandbox as the runtime listed it, with its containers, files and cgroups."""
        pods.remove_sandbox(self.cri, sandbox.id)
        self.remove_leavings(sandbox)

    def remove_container(self, pod: PodSnapshot | Manifest | str, name: str, attempt: int = 0) -> None:
        """Stop and remove a Pod's containers of that name, from an attempt on, so that they can be created again. Where there is
        none, nothing is done. Leaves a Pod alone that labkit did not make."""
        for sandbox in filter(self.is_own, self.sandboxes(pod)):
            pods.remove_containers(self.cri, sandbox.id, name, attempt)

    def remove_leavings(self, sandbox: Any) -> None:
        """What the runtime does not remove: the kubelet's files and cgroup of a Pod. A node that has a kubelet leaves
        it to that."""

    def sandboxes(self, pod: PodSnapshot | Manifest | str) -> list[Any]:
        if isinstance(pod, PodSnapshot):
            return list(self.cri.list_pod_sandbox(filter={"id": pod.id}).items)
        if isinstance(pod, str):
            return [s for s in self.cri.list_pod_sandbox().items if s.metadata.name == pod]
        metadata = pod["metadata"]
        wanted = {"name": metadata["name"], "namespace": metadata.get("namespace", "default"), "uid": metadata.get("uid")}
        return [
            s for s in self.cri.list_pod_sandbox().items if all(v in (None, getattr(s.metadata, k)) for k, v in wanted.items())
        ]

    def pod(self, pod: PodSnapshot | Manifest | str) -> PodSnapshot:
        """The Pod as it is now: state, address, containers, processes, namespaces. Raises NodeError when there is none."""
        wanted = {s.id for s in self.sandboxes(pod)}
        found = [p for p in self.pods() if p.id in wanted]
        if not found:
            raise self.no_pod(pod)
        return sorted(found, key=lambda p: p.state != "Ready")[0]

    def no_pod(self, pod: PodSnapshot | Manifest | str) -> NodeError:
        """Why `pod` finds none."""
        name = pod if isinstance(pod, str) else pod.name if isinstance(pod, PodSnapshot) else pod["metadata"]["name"]
        there = [p.name for p in self.pods()]
        if name in there:
            return NodeError(
                f"Your Pod {name} is gone: another run of a cell, or another notebook, has started the {name} that is here now.",
                "Run the notebook again from its first cell.",
            )
        return NodeError(f"There is no Pod {name} on this node.", f"It has {', '.join(there) or 'none'}.")

    def pods(self) -> tuple[PodSnapshot, ...]:
        """Every Pod on the node, labkit's or not, with its processes; sorted by namespace and name."""
        return self.settled()[1]

    @cached_property
    def _pods(self) -> joined.PodReader:
        return joined.PodReader(self.cri)

    def settled(self) -> tuple[Snapshot, tuple[PodSnapshot, ...]]:
        """The kernel's view and the Pods in it, taken when no container is between two programs.

        StartContainer answers when runc has let the container's process go; that process, still `runc init`, becomes the
        application a moment later. Half a second is waited for it, no longer.
        """
        for _ in range(25):
            snapshot = self.kernel.snapshot(fds=False)
            pods = self._pods.read(snapshot)
            if not any(p.comm.startswith("runc:") for pod in pods for p in pod.processes if p.role in ("pause", "application")):
                break
            time.sleep(0.02)
        return snapshot, pods

    def remove_leftovers(self) -> list[str]:
        """Remove the Pods that this lesson made by hand and left behind; their names. Touches no other lesson's Pod.

        Starts the runtime first where a lesson has stopped it, and repairs the network where one was left broken: without them no
        Pod can be removed.
        """
        if not self.lesson:
            return []
        self.start_runtime()
        if self.ledger is None or self.ledger.noted("network"):
            with contextlib.suppress(NodeError):
                self.cni.repair()
        wanted = {"label_selector": {LESSON: self.lesson, MANAGED_BY: "labkit"}}
        left = [s for s in self.cri.list_pod_sandbox(filter=wanted).items if self.is_own(s)]
        for sandbox in left:
            self.remove_sandbox(sandbox)
        return sorted(s.metadata.name for s in left)

    def start_runtime(self) -> None:
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

    # The flight recorder

    def process_events(self) -> EventStream:
        """Fork, exec and exit on this node's kernel from now on (see `labkit.kernel.events.stream`). Raises EventsError."""
        return watch()

    @contextlib.contextmanager
    def record(self, log: CallLog | None = None) -> Iterator[recorder.Recording]:
        """Record CRI calls and process events while the block runs: `with node.record() as flight: …`, then `flight.plot()`.

        What it yields is empty until the block ends, and as good as a Flight then. Calls are those made through `node.cri`, those
        of other programs as far as the node can tell them (`labkit.node.observe.external_calls`), and those in `log` besides.
        Raises EventsError where the kernel's events cannot be had.
        """
        log = CallLog() if log is None else log
        others = external_calls.listening(self, self.listener().pid, log, ahead_ns=self.clock_ahead_ns(), caller=self.log_caller)
        with recorder.FlightRecorder(self.cri, **vars(self.event_source()), log=log, others=others) as recording:
            yield recording

    def event_source(self) -> Source:
        """What a recording takes the node's processes from. Raises EventsError."""
        return Source(self.process_events(), self.kernel, self.listener().pid)

    def call_feeds(self) -> Sequence[Path]:
        """Where the lab's own callers on this node tell their calls (`labkit.recording.calls.feed`)."""
        return ()

    def log_caller(self) -> str:
        """The caller of the calls that only the runtime's log has: see `labkit.node.observe.callers`."""
        return callers.UNKNOWN if self.call_feeds() else callers.caller(self, self.socket_path(), self.own_programs())

    def own_programs(self) -> Mapping[int, str]:
        """The lab's own programs on this node that call its runtime, by their pids."""
        return {}

    def clock_ahead_ns(self) -> int:
        """By how much the node's wall clock is ahead of this machine's, where it has one of its own."""
        return 0

    def console(self, since: float) -> str:
        """What the node's first process and its children wrote to their console since a time (s since 1970), "" where there is
        none."""
        return ""

    # The kernel

    def processes(self) -> tuple[PodProcess, ...]:
        """The node's part of the process tree: init, the runtime, each shim and all below it, as they are now."""
        snapshot, pods = self.settled()
        runtime = self.kernel.unix_listener(self.socket_path())  # of several containerds of a machine this node's
        in_pods = {p.pid: p for pod in pods for p in pod.processes}
        shown = dict(in_pods)
        for process in snapshot.processes.values():
            if process.pid not in shown and runtime in (None, process.pid) and self.is_runtime(process):
                shown[process.pid] = joined.as_member(process, "containerd", None)
        for member in list(shown.values()):
            ancestor = snapshot.processes.get(member.ppid)
            while ancestor and ancestor.pid not in shown:
                shown[ancestor.pid] = joined.as_member(ancestor, "host", None)
                ancestor = snapshot.processes.get(ancestor.ppid)
        return tuple(sorted(shown.values(), key=lambda p: (snapshot.processes[p.pid].start_ns, p.pid)))

    def shims(self) -> tuple[ShimHold, ...]:
        """Every Pod's shim and what it holds: also while the runtime is away (see `labkit.node.observe.shims`). Raises
        NodeError."""
        return shims.shims(self)

    def runs(self, pid: int) -> bool:
        """Whether the node has a process of this pid that has not ended; one that waits to be collected has."""
        process = self.kernel.snapshot(fds=False).processes.get(pid)
        return process is not None and process.state not in "ZX"

    def listener(self) -> Process:
        """The process that listens on the runtime's socket, as the kernel tells it. Raises NodeError when nobody does."""
        path = self.socket_path()
        pid = self.kernel.unix_listener(path)
        if pid is None:
            known = self.why_away() or (f"No process listens on {path}.", "The runtime is down: `labkit status` says more.")
            raise NodeError(*known)
        return self.kernel.snapshot(fds=False).processes[pid]

    def is_runtime(self, process: Process) -> bool:
        return process.comm in ("containerd", "crio")

    def host_namespaces(self) -> Mapping[str, int]:
        """The node's own namespaces, type → inode: those of its process 1, and where these may not be read (a process 1 with more
        capabilities than root has here) those of the runtime, which stays in them."""
        processes = self.kernel.snapshot(fds=False).processes
        return {**self.listener().namespaces, **(processes[1].namespaces if 1 in processes else {})}

    def kill(self, pid: int, signal: int = signal.SIGTERM) -> None:
        """Send a signal to a process of a Pod that labkit made. Refuses any other process with NodeError."""
        if pid < 1:
            raise NodeError(
                f"There is no process {pid}: the pid of a container is 0 when it has ended, or was not started.",
                "Start the container, and take its pid from node.pod(NAME) then.",
            )
        owned = {p.pid for pod in self.pods() if is_ours(pod.labels) for p in pod.processes}
        if pid not in owned and not self.runs(pid):
            raise NodeError(f"The process {pid} has ended.", "Take the pid of one that runs from node.pod(NAME).processes.")
        if pid not in owned:
            raise NodeError(
                f"The process {pid} belongs to no Pod of labkit's, so it is left alone.",
                "Take the pid from node.pod(NAME).processes.",
            )
        self.shell(["kill", f"-{int(signal)}", str(pid)])

    def bundle_directory(self, container_id: str) -> str:
        """Where on the node a running container's OCI bundle is (see `labkit.node.observe.bundles`). Raises NodeError and
        CriError."""
        info = verbose.info(self.cri.container_status(container_id=container_id, verbose=True))
        sandbox = str(verbose.at(info, "sandboxID") or "")
        found = bundles.find(self.kernel.snapshot(fds=False).processes.values(), container_id, sandbox)
        if found is None:
            words = f"The bundle of the container {container_id[:13]} was not found: no shim or conmon of it runs."
            raise NodeError(words, "Start the container first. Of other runtimes labkit does not know where their bundles are.")
        return found

    def wait_exit(self, container_id: str, timeout: float = 30.0) -> int:
        """Wait, seconds at most, until a container has exited; its exit code (128 + signal where a signal ended it)."""
        try:
            with self.unrecorded() as own:
                return pods.wait_exit(own, container_id, timeout)
        except TimeoutError:
            raise NodeError(f"The container {container_id[:13]} still runs after {timeout:.0f} s.", "") from None

    def wait_not_ready(self, sandbox_id: str, timeout: float = 30.0) -> None:
        """Wait, seconds at most, until the runtime has noticed that a sandbox ended."""
        deadline = time.monotonic() + timeout
        with self.unrecorded() as own:
            while own.pod_sandbox_status(pod_sandbox_id=sandbox_id).status.state == api_pb2.SANDBOX_READY:
                if time.monotonic() > deadline:
                    raise NodeError(f"The sandbox {sandbox_id[:13]} is still ready after {timeout:.0f} s.", "")
                time.sleep(pods.POLL_S)

    def kubelet_held(self) -> Hold:
        """Hold the node's kubelet still while Pods are made by hand; where there is none it does nothing (see
        `labkit.node.pods.kubelet_pause`)."""
        return Hold()

    @property
    def daemon(self) -> Any:
        """The node's container runtime itself, to be killed, stopped, started, upgraded (see `labkit.node.lab.daemon`).

        Raises NodeError where it is not labkit's.
        """
        raise NodeError(
            f"The runtime of {self.name} is not labkit's, so labkit does not stop or replace it.",
            "Use a node of kind `containerd`, `vm` or `kind`: `labkit doctor` says which can work here.",
        )

    @property
    def kube(self) -> Any:
        """`kubernetes.client.CoreV1Api` of the cluster that the node is of. Raises NodeError where it is of none."""
        raise self.of_no_cluster()

    @cached_property
    def cluster(self) -> Cluster:
        """The node's cluster as a learner uses it: apply, wait, events, kubectl (see `labkit.node.pods.cluster`). Raises
        NodeError.

        At its first use it removes what this lesson left there last time.
        """

        def run(arguments: Sequence[str], stdin: str | None) -> str:
            options = [*self.kubectl_options(), "--namespace", NAMESPACE]  # the context may name another by default
            return kubectl.run([*options, *arguments], self.environment(), stdin)

        made = Cluster(self.kube, self.cluster_name(), run, self.lesson, self.host_paths(), self.ledger)
        made.remove_leftovers()
        return made

    def cluster_name(self) -> str:
        """What the cluster calls this node."""
        return self.name

    def host_paths(self) -> str:
        """Where on the node a Pod's hostPath volumes may lie."""
        return "/tmp"

    @cached_property
    def cni(self) -> CniConfiguration:
        """The node's network configuration, to be broken and repaired (see `labkit.node.observe.cni`). Raises NodeError."""
        return CniConfiguration(self)

    def cgroups(self) -> tuple[CgroupLine, ...]:
        """The cgroups of the node's Pods as a tree, for `labkit.cgroup_tree`. Raises NodeError."""
        return cgroups.pod_cgroups(self)

    def cgroup_file(self, pod: str, container: str, *files: str) -> str:
        """The text of the first of `files` ("cpu.max", "cpu.cfs_quota_us") that a container's cgroup has. Raises NodeError."""
        return cgroups.cgroup_file(self, pod, container, *files)

    def dial(self, address: str, port: int) -> socket.socket:
        """A connection to a port of a Pod, or of the node. Raises OSError."""
        return socket.create_connection((address, port), timeout=5.0)

    def dial_unix(self, path: str) -> socket.socket:
        """A connection to a Unix socket of the node. Raises OSError."""
        return ttrpc.connect(path)

    def environment(self) -> dict[str, str]:
        """What other programs need in their environment to find the node's Kubernetes API; empty where the user's own do."""
        return {}

    def shell_environment(self, warn: Callable[[str], None]) -> dict[str, str]:
        """What a shell needs in its environment so that its commands, kubectl among them, find the node and its cluster. Calls
        `warn` with what cannot be had."""
        found = self.environment()
        return {kubectl.USERS_OWN: kubectl.users_own(Home.find()), **found} if kubectl.CONFIG in found else found

    def kubectl_options(self) -> Sequence[str]:
        """What kubectl needs before all other arguments to speak with the node's cluster. Raises NodeError where it is of none:
        kubectl by itself would speak with the user's own."""
        raise self.of_no_cluster()

    def of_no_cluster(self) -> NodeError:
        return NodeError(
            f"The node {self.name} is of no cluster, so there is no Kubernetes API.",
            "Use node.cri, or a node of kind `containerd`, `vm` or `kind`: `labkit doctor` says which can work here.",
        )

    def remove_all_pods(self) -> int:
        """Remove every Pod that labkit made on this node, of any lesson; how many."""
        own = [s for s in self.cri.list_pod_sandbox().items if self.is_own(s)]
        for sandbox in own:
            self.remove_sandbox(sandbox)
        return len(own)

    def host_pids(self) -> Mapping[int, int]:
        """The node's pids → this machine's, where the two differ and this machine shows both; else empty."""
        return {}

    def provide_images(self, progress: Callable[[str], None], *, again: bool = False) -> None:
        """Make the course's images available to the node's runtime. A private node has them from its own registry."""

    # Files and commands on the node itself

    def socket_path(self) -> str:
        """Where the runtime's socket is on the node itself."""
        return self.cri.path

    def shell(self, argv: Sequence[str], *, timeout: float = 30.0) -> str:
        """Run a command on the node itself, not in a Pod; its standard output. Raises NodeError with what it said when
        it fails."""
        raise NotImplementedError

    def write_file(self, path: str, text: str) -> None:
        raise NotImplementedError

    def make_directory(self, path: str, mode: int) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.cri.close()


def is_ours(labels: Mapping[str, str] | None) -> bool:
    """Whether a Pod's labels say that labkit made it."""
    return (labels or {}).get(MANAGED_BY) == "labkit"


def run_local(argv: Sequence[str], timeout: float) -> str:
    """Run a command here; its standard output. Raises NodeError."""
    try:
        done = subprocess.run(list(argv), capture_output=True, encoding="utf-8", errors="replace", timeout=timeout)
    except FileNotFoundError:
        raise NodeError(f"The node has no program {argv[0]}.", "") from None
    except subprocess.TimeoutExpired:
        raise NodeError(f"{argv[0]} did not end within {timeout:.0f} s.", "Give a longer timeout=.") from None
    if done.returncode:
        raise NodeError(f"{argv[0]} exited with code {done.returncode}: {done.stderr.strip()}", "")
    return done.stdout
