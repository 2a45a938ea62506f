"""Selects the container that is the node, and finds the socket of its runtime."""

from __future__ import annotations

from collections.abc import Sequence

from labkit.node.remote.engine import Engine, NodeContainer
from labkit.node.remote.kind_cluster import CLUSTER
from labkit.node.state import node_selector
from labkit.node.state.node_selector import NodeSelector
from labkit.util.errors import NodeError

SOCKETS = (
    "/run/containerd/containerd.sock",
    "/var/run/crio/crio.sock",
    "/run/crio/crio.sock",
    "/run/k3s/containerd/containerd.sock",
)


def describe(nodes: Sequence[NodeContainer]) -> str:
    return ", ".join(f"{n.name} (cluster {n.cluster}{'' if n.state == 'running' else ', ' + n.state})" for n in nodes)


def advice(nodes: Sequence[NodeContainer]) -> str:
    """The commands that choose each of the nodes."""
    clusters = [n.cluster for n in nodes]
    named = [NodeSelector("kind", n.cluster, n.name if clusters.count(n.cluster) > 1 else "") for n in nodes]
    return " or ".join(f"`{c.command('up')}`" for c in named)


def may_make(selector: NodeSelector, found: Sequence[NodeContainer]) -> bool:
    """Whether `up` may make a cluster: labkit's own by its name, or any where there is none and none is named."""
    return not any(n.cluster == CLUSTER for n in found) and (
        selector.cluster == CLUSTER or not (found or selector.cluster or selector.node_name)
    )


def pick(engine: Engine, selector: NodeSelector) -> NodeContainer:
    """The node container that is selected. Raises NodeError with a list where several fit, or with the reason why the one cannot
    be used."""
    found = engine.node_containers()
    selected = [n for n in found if selector.cluster in ("", n.cluster) and selector.node_name in ("", n.name)]
    if not selected:
        if selector.cluster or selector.node_name:
            parts = [selector.cluster and f"cluster {selector.cluster}", selector.node_name and f"node {selector.node_name}"]
            wanted = " ".join(filter(None, parts))
            todo = f"There is {describe(found)}: {advice(found)}." if found else "`labkit up --node kind` makes a cluster."
            raise NodeError(f"{engine.command} has no {wanted}.", todo)
        raise NodeError("There is no kind cluster.", "`labkit up --node kind` makes one where the kind command is installed.")
    own = [n for n in selected if n.cluster == CLUSTER and n.role == "worker"]
    if len(selected) > 1 and not own:
        raise NodeError(
            f"Several nodes fit: {describe(selected)}.",
            f"Choose one: {advice(selected)}, or set {node_selector.CLUSTER} or {node_selector.NODE_NAME}.",
        )
    node = (own or selected)[0]
    if node.state == "paused":
        raise NodeError(f"The node {node.name} is paused.", f"Resume it with `{engine.command} unpause {node.name}`.")
    if node.state != "running":
        raise NodeError(
            f"The node {node.name} does not run (it is {node.state}).", f"Start it with `{engine.command} start {node.name}`."
        )
    return node


def find_socket(engine: Engine, container: NodeContainer) -> str:
    """The path of the runtime's socket in the node. Raises NodeError."""
    script = "for s in " + " ".join(SOCKETS) + '; do [ -S "$s" ] && echo "$s"; done; true'
    paths = engine.run("exec", container.name, "sh", "-c", script, timeout=20).split()
    if not paths:
        raise NodeError(
            f"No container runtime listens in the node {container.name}.",
            f"Looked for {', '.join(SOCKETS)}. Is the node still starting?",
        )
    return paths[0]


def need_engine() -> Engine:
    engine = Engine.find()
    if engine is None:
        raise NodeError("There is no docker, podman or nerdctl command here.", "Install Docker, then kind, and run this again.")
    return engine
