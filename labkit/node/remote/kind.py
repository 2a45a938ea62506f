"""Node kind `kind`: a node of a learner's cluster that is a container of Docker (or Podman), made by kind or minikube.

labkit needs no root for it, only the right to use Docker: commands go through `docker exec`, CRI through the relay. Where the
learner is root on the node's own kernel, the socket is reached directly below /proc/PID/root.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from typing import Any

from labkit.cri import CriClient, CriError, verbose
from labkit.kernel.remote import RemoteKernel
from labkit.node.host import relay
from labkit.node.node import Node
from labkit.node.observe.source import ContainerSources
from labkit.node.packages.programs import ensure_programs
from labkit.node.pods.api_access import UsersApi
from labkit.node.pods.kubelet_pause import Hold, kubelet_held
from labkit.node.pods.node_dns import KubeletDns
from labkit.node.pods.own_pods import OwnPods
from labkit.node.registry import node_registry as inside
from labkit.node.registry import share
from labkit.node.remote import leavings
from labkit.node.remote.container_access import InContainer, explained, kubeconfig, relay_name, start_relay
from labkit.node.remote.container_choice import describe, find_socket, may_make, need_engine, pick
from labkit.node.remote.engine import COMMANDS, KIND_CLUSTER, Engine, NodeContainer
from labkit.node.remote.kind_cluster import CLUSTER, made_here, make
from labkit.node.remote.kind_daemon import KindDaemon
from labkit.node.state import node_selector as choices
from labkit.node.state import unfinished
from labkit.node.state.home import Home
from labkit.node.state.kind_of_node import Availability
from labkit.node.state.ledger import Ledger, mark_of
from labkit.node.state.node_selector import Choice
from labkit.node.state.turns import only_one
from labkit.util.errors import NodeError
from labkit.util.progress import Progress, in_notebook


class KindNode(Node):
    """One node container of a cluster. Pids are the node's own; where this machine shows the node's processes too,
    `host.pids_here` maps them."""

    host: InContainer

    def __init__(
        self, home: Home, engine: Engine, container: NodeContainer, socket: str, *, why: str, lesson: str | None = None,
        choice: Choice | None = None,
    ) -> None:  # fmt: skip
        self.home, self.engine, self.container = home, engine, container
        host = InContainer(engine, container)
        path = start_relay(home, engine, container, socket)
        with explained(home, engine, container), CriClient(f"unix://{path}") as cri:
            version = cri.version(timeout=10)
            driver = verbose.cgroup_driver(cri)
        super().__init__(
            kind="kind",
            name=container.name,
            endpoint=f"unix://{path}",
            runtime=f"{version.runtime_name} {version.runtime_version}",
            why=why,
            lesson=lesson,
            settings=settings(driver),
            host=host,
            kernel=RemoteKernel(host.run),
            ledger=Ledger(home, choice or choice_of(engine, container)),
            socket_path=socket,
        )
        self.own_pods = OwnPods(self, lambda sandbox: leavings.remove_of_pod(host.shell, leavings.PLACES, sandbox))
        self.api = users_api(home, host)
        self.dns = KubeletDns(host)
        self.sources = EngineSources(self)
        self.images_by = inside.Supply("")

    def kubelet_held(self) -> Hold:
        return kubelet_held(self, asks=not self.is_made_here(), mark=mark_of(self.home))

    def is_made_here(self) -> bool:
        """Whether this home made the node's cluster."""
        return self.container.cluster == CLUSTER and made_here(self.home, self.engine, [self.container])

    @property
    def daemon(self) -> KindDaemon:
        """The node's containerd itself: kill, stop, start, restart. It is the cluster's, so it is not upgraded."""
        return KindDaemon(self)

    def provide_images(self, progress: Progress, *, again: bool = False) -> None:
        """Make the course's images available on the node (see `labkit.node.registry.node_registry.provide`)."""
        assert self.ledger
        self.ledger.note("registry")
        run = self.host.run
        share.register(run, self.ledger.mark, str(self.home.data))
        programs = ensure_programs(self.home.cache, progress)
        self.images_by = inside.provide(self.cri, run, programs, self.home.data, progress, self.socket_path, again=again)


class EngineSources(ContainerSources):
    """With the console that the engine keeps."""

    node: KindNode

    def console(self, since: float) -> str:
        return self.node.engine.run("logs", "--since", f"{since:.3f}", self.node.container.name, timeout=30.0)


def users_api(home: Home, host: InContainer) -> UsersApi:
    """The API of the node's cluster. kubeadm calls a node by its host's name, but for the one that `kind_cluster` names."""
    engine, container = host.engine, host.container
    is_labs = container.cluster == CLUSTER and container.role == "worker"
    prefix = "kind-" if KIND_CLUSTER in container.labels else ""
    return UsersApi(
        home,
        container.name,
        cluster=container.cluster,
        context=container.cluster and prefix + container.cluster,
        find_name=lambda: "sim-worker" if is_labs else host.shell(["hostname"]).strip(),
        own_config=kubeconfig(home, engine, container.name),
        engine=engine.environment(),
    )


def settings(driver: str) -> dict[str, Any]:
    return {
        "sandbox": {"cgroup_driver": driver, "cgroup_root": "/labkit", "log_root": f"{share.DIRECTORY}/log/pods"},
        "container": {"kubelet_root": f"{share.DIRECTORY}/kubelet"},
    }


def choice_of(engine: Engine, container: NodeContainer) -> Choice:
    """The choice that means this node alone."""
    return Choice("kind", container.cluster, container.name, engine=engine.address())


def probe(home: Home, choice: Choice | None = None) -> Availability:
    """Whether a node of a kind cluster can be had here; with a choice that names one, whether that one can. Never raises."""
    engine = Engine.find()
    if engine is None:
        fix = "install Docker (https://docs.docker.com/get-docker), then kind, then `labkit up --node kind`"
        return Availability("kind", False, "There is no docker, podman or nerdctl command here.", fix)
    try:
        found = engine.node_containers()
    except NodeError as error:
        return Availability("kind", False, error.happened, error.todo)
    running = [n for n in found if n.state == "running"]
    if choice and (choice.cluster or choice.node_name) and not may_make(choice, found):
        try:
            running = [pick(engine, choice)]
        except NodeError as error:
            return Availability("kind", False, error.happened, error.todo)
    if running:
        return Availability("kind", True, f"a cluster in {engine.command}: {describe(running)}", "")
    if found:
        return Availability(
            "kind", False, f"No cluster runs; there is {describe(found)}.", f"{engine.command} start {found[0].name}"
        )
    if shutil.which("kind"):
        return Availability("kind", False, "There is no cluster yet.", "labkit up --node kind makes one called labkit")
    return Availability(
        "kind",
        False,
        f"{engine.command} runs, but there is no cluster and no kind command to make one.",
        "install kind (https://kind.sigs.k8s.io), then `labkit up --node kind`",
    )


def connect(home: Home, choice: Choice, *, why: str, lesson: str | None, progress: Progress) -> KindNode:
    """A Node for the chosen cluster node, with the course's images on it. Raises NodeError."""
    with only_one(home, progress):
        return prepared(home, choice, why=why, lesson=lesson, progress=progress)


def prepared(home: Home, choice: Choice, *, why: str, lesson: str | None, progress: Progress, again: bool = False) -> KindNode:
    engine = need_engine()
    container = pick(engine, choice)
    was_stopped = start_stopped(Ledger(home, choice_of(engine, container)), engine, container.name)
    node = KindNode(home, engine, container, find_socket(engine, container), why=why, lesson=lesson)
    node.provide_images(progress, again=again)
    node.remarks += unfinished.of_stopped({"state": "stopped"}) if was_stopped else []
    if remark := import_only(node):
        node.remarks.append(remark)
        if not in_notebook():
            print(f"labkit: {remark}", file=sys.stderr, flush=True)
    node.choice = choice_of(engine, container)
    choices.remember(home, node.choice)
    return node


def start_stopped(ledger: Ledger, engine: Engine, container: str) -> bool:
    """Start the runtime that a lesson of this home has stopped, and that it has not started again; whether there was one. Raises
    NodeError."""
    units = ledger.values("runtime", "unit")
    if units:
        engine.run("exec", container, "systemctl", "start", *sorted(units))
        ledger.drop("runtime")
    return bool(units)


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


def up(home: Home, choice: Choice, progress: Progress) -> dict[str, Any]:
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
            version = cri.version()
    except (NodeError, CriError) as error:
        return {**down, "error": str(error)}
    started = engine.inspect(container.name)[0]["State"].get("StartedAt")
    runtime = {"name": version.runtime_name, "version": version.runtime_version}
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
