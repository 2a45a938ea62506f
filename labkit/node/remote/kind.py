"""Node kind `kind`: a node of a learner's cluster that is a container of Docker (or Podman), made by kind or minikube.

labkit needs no root for it, only the right to use Docker: commands go through `docker exec`, CRI through the relay. Where the
learner is root on the node's own kernel, the socket is reached directly below /proc/PID/root.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from labkit.cri import CriClient, CriError, verbose
from labkit.kernel import LocalKernel, Process
from labkit.kernel.events.poll import watch_by_polling
from labkit.kernel.events.stream import EventStream
from labkit.kernel.remote import RemoteKernel
from labkit.node.host import relay
from labkit.node.lab.lifecycle import only_one
from labkit.node.node import Node
from labkit.node.observe.noting import NotingClient
from labkit.node.observe.source import Source, on_this_machine
from labkit.node.packages.programs import ensure_programs
from labkit.node.pods import kubectl
from labkit.node.pods.api_client import api_client
from labkit.node.pods.kubelet_pause import Hold, kubelet_held
from labkit.node.registry import node_registry as inside
from labkit.node.registry import share
from labkit.node.remote.commands_in import InContainer
from labkit.node.remote.engine import COMMANDS, KIND_CLUSTER, Engine, NodeContainer
from labkit.node.remote.kind_cluster import CLUSTER, made_here, make
from labkit.node.remote.kind_daemon import KindDaemon
from labkit.node.state import node_selector as choices
from labkit.node.state.availability import Verdict
from labkit.node.state.home import Home
from labkit.node.state.ledger import Ledger, mark_of
from labkit.node.state.node_selector import Choice
from labkit.podspec.messages import dns
from labkit.util.errors import NodeError
from labkit.util.progress import in_notebook

SOCKETS = (
    "/run/containerd/containerd.sock",
    "/var/run/crio/crio.sock",
    "/run/crio/crio.sock",
    "/run/k3s/containerd/containerd.sock",
)
KUBELET_CONFIGURATION = "/var/lib/kubelet/config.yaml"


class KindNode(InContainer, Node):
    """One node container of a cluster. Pids are the node's own; where this machine shows the node's processes too,
    `host_pids` maps them."""

    streams_here = False

    def __init__(
        self, home: Home, engine: Engine, container: NodeContainer, socket: str, *, why: str, lesson: str | None = None,
        choice: Choice | None = None,
    ) -> None:  # fmt: skip
        InContainer.__init__(self, engine, container)
        self.home, self.socket = home, socket
        path = start_relay(home, engine, container, socket)
        with explained(home, engine, container), CriClient(f"unix://{path}") as cri:
            said = cri.version(timeout=10)
            driver = verbose.cgroup_driver(cri)
        Node.__init__(
            self,
            kind="kind",
            name=container.name,
            endpoint=f"unix://{path}",
            runtime=f"{said.runtime_name} {said.runtime_version}",
            why=why,
            lesson=lesson,
            settings=settings(driver),
            kernel=RemoteKernel(self.run),
        )
        self.ledger = Ledger(home, choice or choice_of(engine, container))
        self.cri.close()
        self.use(NotingClient(self.endpoint, self.ledger))
        self.images_by = inside.Supply("")

    def dns_of(self, pod: Mapping[str, Any]) -> dns.Dns | None:
        """With the cluster's own servers, where its kubelet has such."""
        said = self.kubelet_configuration
        return dns.of_pod(pod, self.own_dns, said.get("clusterDNS") or (), said.get("clusterDomain") or "")

    @property
    def cluster_domain(self) -> str:
        return str(self.kubelet_configuration.get("clusterDomain") or super().cluster_domain)

    @cached_property
    def kubelet_configuration(self) -> dict[str, Any]:
        """The KubeletConfiguration of the node's kubelet, as kubeadm writes it; {} where there is none."""
        import yaml

        with contextlib.suppress(NodeError, yaml.YAMLError):
            return dict(yaml.safe_load(self.shell(["cat", KUBELET_CONFIGURATION])) or {})
        return {}

    def socket_path(self) -> str:
        return self.socket

    def is_runtime(self, process: Process) -> bool:
        return process.comm in ("containerd", "crio")

    def process_events(self) -> EventStream:
        """By a poll of the node's processes: it says so, and what it may miss."""
        return watch_by_polling(self.kernel)

    def event_source(self) -> Source:
        """The kernel's own events where this machine's kernel is the node's and root asks, else the poll."""
        return on_this_machine(self) or super().event_source()

    def console(self, since: float) -> str:
        return self.engine.run("logs", "--since", f"{since:.3f}", self.container.name, timeout=30.0)

    def kubelet_held(self) -> Hold:
        return kubelet_held(self, asks=not self.is_made_here(), mark=mark_of(self.home))

    def is_made_here(self) -> bool:
        """Whether this home made the node's cluster."""
        return self.container.cluster == CLUSTER and made_here(self.home, self.engine, [self.container])

    @property
    def context(self) -> str:
        """The context that kind or minikube wrote into the kubeconfig. Raises NodeError for a container of no cluster: without
        a name a client takes the user's current context."""
        if not self.container.cluster:
            raise self.of_no_cluster()
        return f"kind-{self.container.cluster}" if KIND_CLUSTER in self.container.labels else self.container.cluster

    def kubectl_options(self) -> Sequence[str]:
        return ("--context", self.context)

    def environment(self) -> dict[str, str]:
        return kubectl.users_environment(self.home)

    def shell_environment(self, warn: Callable[[str], None]) -> dict[str, str]:
        """The engine, and a kubeconfig in which the node's cluster is the only one: no variable names a context to kubectl."""
        found = self.engine.environment()
        if self.container.cluster:
            path = kubeconfig(self.home, self.engine, self.container.name)
            try:
                kubectl.write_config_of(self.home, self.context, path)
            except (NodeError, OSError) as error:
                fix = f"kind export kubeconfig --name {self.container.cluster}"
                warn(f"kubectl of this shell does not reach the cluster {self.container.cluster} ({error}). Try: {fix}")
            else:
                found |= {kubectl.USERS_OWN: kubectl.users_own(self.home), kubectl.CONFIG: str(path)}
        return found

    @property
    def kube(self) -> Any:
        """`kubernetes.client.CoreV1Api`, by the context that kind or minikube wrote into the kubeconfig. Raises NodeError."""
        from kubernetes import client, config

        context = self.context
        try:
            # As it is now: the client would take the one that was set when it was imported.
            named = kubectl.users_own(self.home) or "~/.kube/config"
            return client.CoreV1Api(api_client(named, context))
        except (config.ConfigException, OSError) as error:
            fix = f"kind export kubeconfig --name {self.container.cluster}"
            raise NodeError(
                f"There is no kubeconfig for the cluster {self.container.cluster} ({error}).", f"Try: {fix}"
            ) from None

    @property
    def daemon(self) -> KindDaemon:
        """The node's containerd itself: kill, stop, start, restart. It is the cluster's, so it is not upgraded."""
        return KindDaemon(self)

    def cluster_name(self) -> str:
        """What the cluster calls this node: kubeadm's choice for sim-worker, else the host's name."""
        return (
            "sim-worker"
            if self.container.cluster == CLUSTER and self.container.role == "worker"
            else self.shell(["hostname"]).strip()
        )

    def host_paths(self) -> str:
        return f"{inside.DIRECTORY}/hostpath"

    def dial(self, address: str, port: int) -> socket.socket:
        """Through the engine: this machine has no route to the node's Pods."""
        return relay.dial(self.engine.argv("exec", "--interactive", self.container.name), address, port)

    def host_pids(self) -> Mapping[int, int]:
        """The node's pids → this machine's, where this machine's /proc shows the node (Docker on Linux); else empty."""
        root = self.engine.node_container(self.container.name).pid
        if sys.platform != "linux" or not root:
            return {}
        snapshot = LocalKernel().snapshot(fds=False)
        if root not in snapshot.processes:
            return {}
        inside = [snapshot.processes[root], *snapshot.descendants(root)]
        depth = len(snapshot.processes[root].ns_pids) - 1
        return {p.ns_pids[depth]: p.pid for p in inside if len(p.ns_pids) > depth} if depth else {}

    def provide_images(self, progress: Any, *, again: bool = False) -> None:
        """Make the course's images available on the node (see `labkit.node.registry.node_registry.provide`)."""
        assert self.ledger
        self.ledger.note("registry")
        share.register(self.run, self.ledger.mark, str(self.home.data))
        programs = ensure_programs(self.home.cache, progress)
        self.images_by = inside.provide(
            self.cri, self.run, programs, self.home.data, progress, self.socket, again=again
        )  # fmt: skip


def settings(driver: str) -> dict[str, Any]:
    return {
        "sandbox": {"cgroup_driver": driver, "cgroup_root": "/labkit", "log_root": f"{inside.DIRECTORY}/log/pods"},
        "container": {"kubelet_root": f"{inside.DIRECTORY}/kubelet"},
    }


def choice_of(engine: Engine, container: NodeContainer) -> Choice:
    """The choice that means this node alone."""
    return Choice("kind", container.cluster, container.name, engine=engine.address())


PLAIN = "[A-Za-z0-9_.-]"
"""Letters of an engine's names (moby: daemon/names), which a path may have."""
NAME_LETTERS = 40
"""A relay's name is part of a socket's path, which may not be long."""


def relay_name(engine: Engine, node_name: str) -> str:
    """Another one for each node, also where several engines have nodes of the same name: whoever uses one stays with it."""
    decides = engine.address()
    name = f"kind-{node_name}"
    if decides == COMMANDS[0] and len(name) <= NAME_LETTERS and re.fullmatch(f"{PLAIN}+", name):
        return name
    digest = hashlib.sha256(repr((node_name, decides)).encode()).hexdigest()[:8]
    return f"{re.sub(f'(?!{PLAIN}).', '_', name, flags=re.DOTALL)[: NAME_LETTERS - len(digest) - 1]}-{digest}"


def start_relay(home: Home, engine: Engine, container: NodeContainer, socket: str) -> Path:
    """The relay's socket. The relay keeps the environment of its start, by which it asks the engine that `relay_name` means."""
    argv = relay_argv(engine, container, socket)
    return relay.start_relay(home, relay_name(engine, container.name), argv, engine.pinned())


def kubeconfig(home: Home, engine: Engine, node_name: str) -> Path:
    """Of the lab's own, for shells: `KindNode.shell_environment` writes it."""
    return home.run / f"{relay_name(engine, node_name)}.kubeconfig"


def relay_argv(engine: Engine, container: NodeContainer, socket: str) -> list[str]:
    """Directly where this user may enter the node's root, else through the engine."""
    engine = Engine(shutil.which(engine.command) or engine.command)  # the relay has the PATH of the shell that started it
    if os.geteuid() == 0 and container.pid and Path(f"/proc/{container.pid}/root{socket}").exists():
        return relay.direct(socket, engine.argv("inspect", "--format", "{{.State.Pid}}", container.name))
    return relay.inside(engine.argv("exec", "--interactive", container.name), socket)


@contextlib.contextmanager
def explained(home: Home, engine: Engine, container: NodeContainer) -> Any:
    """A CRI call that fails because of the relay says what the relay heard."""
    try:
        yield
    except CriError as error:
        if heard := relay.relay_error(home, relay_name(engine, container.name)):
            raise NodeError(
                f"The node {container.name} cannot be reached: {heard}", "See `labkit doctor`, then run `labkit up` again."
            ) from None
        raise error from None


def probe(home: Home, choice: Choice | None = None) -> Verdict:
    """Whether a node of a kind cluster can be had here; with a choice that names one, whether that one can. Never raises."""
    engine = Engine.find()
    if engine is None:
        fix = "install Docker (https://docs.docker.com/get-docker), then kind, then `labkit up --node kind`"
        return Verdict("kind", False, "There is no docker, podman or nerdctl command here.", fix)
    try:
        found = engine.node_containers()
    except NodeError as error:
        return Verdict("kind", False, error.happened, error.todo)
    running = [n for n in found if n.state == "running"]
    if choice and (choice.cluster or choice.node_name) and not may_make(choice, found):
        try:
            running = [pick(engine, choice)]
        except NodeError as error:
            return Verdict("kind", False, error.happened, error.todo)
    if running:
        return Verdict("kind", True, f"a cluster in {engine.command}: {describe(running)}", "")
    if found:
        return Verdict("kind", False, f"No cluster runs; there is {describe(found)}.", f"{engine.command} start {found[0].name}")
    if shutil.which("kind"):
        return Verdict("kind", False, "There is no cluster yet.", "labkit up --node kind makes one called labkit")
    return Verdict(
        "kind",
        False,
        f"{engine.command} runs, but there is no cluster and no kind command to make one.",
        "install kind (https://kind.sigs.k8s.io), then `labkit up --node kind`",
    )


def describe(nodes: Sequence[NodeContainer]) -> str:
    return ", ".join(f"{n.name} (cluster {n.cluster}{'' if n.state == 'running' else ', ' + n.state})" for n in nodes)


def advice(nodes: Sequence[NodeContainer]) -> str:
    """The commands that choose each of the nodes."""
    clusters = [n.cluster for n in nodes]
    named = [Choice("kind", n.cluster, n.name if clusters.count(n.cluster) > 1 else "") for n in nodes]
    return " or ".join(f"`{c.command('up')}`" for c in named)


def may_make(choice: Choice, found: Sequence[NodeContainer]) -> bool:
    """Whether `up` makes the cluster that is meant: labkit's own by its name, or where there is none at all and none is named."""
    return not any(n.cluster == CLUSTER for n in found) and (
        choice.cluster == CLUSTER or not (found or choice.cluster or choice.node_name)
    )


def pick(engine: Engine, choice: Choice) -> NodeContainer:
    """The node container that is meant. Raises NodeError with a list where several could be, or with what is wrong with
    the one."""
    found = engine.node_containers()
    meant = [n for n in found if choice.cluster in ("", n.cluster) and choice.node_name in ("", n.name)]
    if not meant:
        if choice.cluster or choice.node_name:
            wanted = " ".join(
                filter(None, [choice.cluster and f"cluster {choice.cluster}", choice.node_name and f"node {choice.node_name}"])
            )
            todo = f"There is {describe(found)}: {advice(found)}." if found else "`labkit up --node kind` makes a cluster."
            raise NodeError(f"{engine.command} has no {wanted}.", todo)
        raise NodeError("There is no kind cluster.", "`labkit up --node kind` makes one where the kind command is installed.")
    own = [n for n in meant if n.cluster == CLUSTER and n.role == "worker"]
    if len(meant) > 1 and not own:
        raise NodeError(
            f"Several nodes could be meant: {describe(meant)}.",
            f"Choose one: {advice(meant)}, or set {choices.CLUSTER} or {choices.NODE_NAME}.",
        )
    node = (own or meant)[0]
    if node.state == "paused":
        raise NodeError(f"The node {node.name} is paused.", f"Let it go on with `{engine.command} unpause {node.name}`.")
    if node.state != "running":
        raise NodeError(
            f"The node {node.name} does not run (it is {node.state}).", f"Start it with `{engine.command} start {node.name}`."
        )
    return node


def find_socket(engine: Engine, container: NodeContainer) -> str:
    """Where the runtime listens inside of the node. Raises NodeError."""
    script = "for s in " + " ".join(SOCKETS) + '; do [ -S "$s" ] && echo "$s"; done; true'
    said = engine.run("exec", container.name, "sh", "-c", script, timeout=20).split()
    if not said:
        raise NodeError(
            f"No container runtime listens in the node {container.name}.",
            f"Looked for {', '.join(SOCKETS)}. Is the node still starting?",
        )
    return said[0]


def need_engine() -> Engine:
    engine = Engine.find()
    if engine is None:
        raise NodeError("There is no docker, podman or nerdctl command here.", "Install Docker, then kind, and run this again.")
    return engine


def connect(home: Home, choice: Choice, *, why: str, lesson: str | None, progress: Any) -> KindNode:
    """A Node for the chosen cluster node, with the course's images on it. Raises NodeError."""
    with only_one(home, progress):
        return prepared(home, choice, why=why, lesson=lesson, progress=progress)


def prepared(
    home: Home, choice: Choice, *, why: str, lesson: str | None, progress: Any, again: bool = False
) -> KindNode:
    engine = need_engine()
    container = pick(engine, choice)
    start_stopped(Ledger(home, choice_of(engine, container)), engine, container.name)
    node = KindNode(home, engine, container, find_socket(engine, container), why=why, lesson=lesson)
    node.provide_images(progress, again=again)
    node.remark = import_only(node)
    if node.remark and not in_notebook():
        print(f"labkit: {node.remark}", file=sys.stderr, flush=True)
    node.choice = choice_of(engine, container)
    choices.remember(home, node.choice)
    return node


def start_stopped(ledger: Ledger, engine: Engine, container: str) -> None:
    """Start the runtime that a lesson of this home has stopped, and that it has not started again. Raises NodeError."""
    if units := ledger.values("runtime", "unit"):
        engine.run("exec", container, "systemctl", "start", *sorted(units))
        ledger.drop("runtime")


PULLING = ("03", "05", "07")
"""The notebooks that remove an image and pull it again, or pull without asking whether it is there."""


def import_only(node: KindNode) -> str:
    """What cannot work where images can only be imported, and what to do; "" where it does not concern the lesson."""
    if node.images_by.by != "import" or (node.lesson and node.lesson not in PULLING):
        return ""
    concerned = f"notebook {node.lesson}" if node.lesson else f"notebooks {', '.join(PULLING[:-1])} and {PULLING[-1]}"
    return (
        f"{concerned} cannot pull images on {node.name}, and will fail where PullImage is called: images were imported instead."
        f" {node.images_by.why} To change that, name one directory as the config_path of registries in the node's"
        " /etc/containerd/config.toml (containerd's docs/hosts.md), restart its containerd, and run `labkit up`."
    )


def up(home: Home, choice: Choice, progress: Any) -> dict[str, Any]:
    """Connect to the cluster's node once, so that relay and images are there; makes the cluster `labkit` when there is
    none. Its status."""
    with only_one(home, progress):
        engine = need_engine()
        if may_make(choice, engine.node_containers()):
            make(home, engine, progress)
        node = prepared(home, choice, why="", lesson=None, progress=progress, again=True)
        choices.remember(home, node.choice, as_last=True)
    node.close()
    return report(home, node.choice)


def report(home: Home, choice: Choice) -> dict[str, Any]:
    """The node's state, asked at this moment."""
    down = {"node": "kind", "state": "down", "endpoint": None, "runtime": None, "pid": None, "since": None}
    try:
        engine = need_engine()
        container = pick(engine, choice)
        path = relay.socket_of(home, relay_name(engine, container.name))
        if not path.exists():
            return {**down, "cluster": container.cluster, "name": container.name}
        with explained(home, engine, container), CriClient(f"unix://{path}", timeout=10) as cri:
            said = cri.version()
    except (NodeError, CriError) as error:
        return {**down, "error": str(error)}
    started = engine.inspect(container.name)[0]["State"].get("StartedAt")
    runtime = {"name": said.runtime_name, "version": said.runtime_version}
    return {
        "node": "kind",
        "state": "ready",
        "endpoint": f"unix://{path}",
        "runtime": runtime,
        "pid": container.pid,
        "since": started,
        "cluster": container.cluster,
        "name": container.name,
        "kubelet_held": kubelet_is_held(engine, container),
    }


KUBELET_STOPPED = """
for stat in /proc/[0-9]*/stat; do
    read -r pid comm state rest <"$stat" 2>/dev/null && [ "$comm $state" = "(kubelet) T" ] && echo held
done
true
"""


def kubelet_is_held(engine: Engine, container: NodeContainer) -> bool:
    """Whether a kubelet on the node is stopped, as the node's kernel says."""
    with contextlib.suppress(NodeError):
        return "held" in engine.run("exec", container.name, "sh", "-c", KUBELET_STOPPED)
    return False


def unanswered(home: Home, report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The engine and the node's containerd were asked for the report; nothing else of the lab serves it."""
    return {}


def stop(home: Home, node_name: str) -> None:
    """End the relay of a node, and with it every `docker exec` that it runs; remove the kubeconfig that `labkit env` wrote."""
    engine = Engine.find() or Engine(COMMANDS[0])
    relay.stop_relay(home, relay_name(engine, node_name))
    kubeconfig(home, engine, node_name).unlink(missing_ok=True)
