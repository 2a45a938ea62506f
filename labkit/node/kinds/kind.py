"""Node kind `kind`: a node of a learner's cluster that is a container (`KindNode` in `labkit.node.remote`), found or made."""

from __future__ import annotations

import contextlib
import shutil
import sys
from typing import Any

from labkit.cri import CriClient, CriError
from labkit.node.host import relay
from labkit.node.remote import kind_clean
from labkit.node.remote.container_access import explained, relay_name
from labkit.node.remote.container_choice import describe, find_socket, may_make, need_engine, pick
from labkit.node.remote.engine import Engine, NodeContainer
from labkit.node.remote.kind_cluster import make
from labkit.node.remote.kind_node import KindNode, choice_of
from labkit.node.state import node_selector as choices
from labkit.node.state import unfinished
from labkit.node.state.home import Home
from labkit.node.state.kind_of_node import Availability, KindOfNode
from labkit.node.state.ledger import Ledger
from labkit.node.state.node_selector import Choice
from labkit.node.state.turns import only_one
from labkit.util.errors import NodeError
from labkit.util.progress import Progress, in_notebook


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
    node.remarks += unfinished.of_stopped({"state": "stopped"}, {"state": "ready"}) if was_stopped else []
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


KIND = KindOfNode(probe, up, connect, report, unanswered, kind_clean.down, kind_clean.clean)
