"""Node kind `kind`: a node of a learner's cluster that is a container (`KindNode` in `labkit.node.remote`), found or made."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Mapping
from typing import Any

from labkit.cri import CriClient, CriError
from labkit.node.host import relay
from labkit.node.remote import kind_clean
from labkit.node.remote.container_access import explained, relay_name
from labkit.node.remote.container_selection import describe, find_socket, may_make, need_engine, pick
from labkit.node.remote.engine import Engine, NodeContainer
from labkit.node.remote.kind_cluster import make
from labkit.node.remote.kind_node import KindNode, selector_of
from labkit.node.state import node_selector, unfinished
from labkit.node.state.home import Home
from labkit.node.state.kind_of_node import Availability, KindOfNode, Report, node_report
from labkit.node.state.ledger import Ledger
from labkit.node.state.locks import home_lock
from labkit.node.state.node_selector import NodeSelector
from labkit.util.errors import NodeError
from labkit.util.progress import Progress, in_notebook


def probe(home: Home, selector: NodeSelector | None = None) -> Availability:
    """Whether a node of a kind cluster can be had here; with a selector that names one, whether that one can. Never raises."""
    engine = Engine.find()
    if engine is None:
        fix = "install Docker (https://docs.docker.com/get-docker), then kind, then `labkit up --node kind`"
        return Availability("kind", False, "There is no docker, podman or nerdctl command here.", fix)
    try:
        found = engine.node_containers()
    except NodeError as error:
        return Availability("kind", False, error.happened, error.todo)
    running = [n for n in found if n.state == "running"]
    if selector and (selector.cluster or selector.node_name) and not may_make(selector, found):
        try:
            running = [pick(engine, selector)]
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


def connect(home: Home, selector: NodeSelector, *, why: str, lesson: str | None, progress: Progress) -> KindNode:
    """A Node for the chosen cluster node, with the course's images on it. Raises NodeError."""
    with home_lock(home, progress):
        return prepared(home, selector, why=why, lesson=lesson, progress=progress)


def prepared(
    home: Home, selector: NodeSelector, *, why: str, lesson: str | None, progress: Progress, again: bool = False
) -> KindNode:
    engine = need_engine()
    container = pick(engine, selector)
    before = start_stopped(Ledger(home, selector_of(engine, container)), engine, container.name)
    node = KindNode(home, engine, container, find_socket(engine, container), why=why, lesson=lesson)
    node.provide_images(progress, again=again)
    node.remarks += unfinished.of_stopped(before, {"state": "ready"})
    if remark := import_only(node):
        node.remarks.append(remark)
        if not in_notebook():
            print(f"labkit: {remark}", file=sys.stderr, flush=True)
    node.selector = selector_of(engine, container)
    node_selector.remember(home, node.selector)
    return node


def start_stopped(ledger: Ledger, engine: Engine, container: str) -> Mapping[str, Any]:
    """Start the runtime that a lesson of this home has stopped, and that it has not started again; the state that it was in, and
    which lesson has stopped it. Raises NodeError."""
    units, lessons = (ledger.values("runtime", key) for key in ("unit", "lesson"))
    if not units:
        return {"state": "ready"}
    engine.run("exec", container, "systemctl", "start", *sorted(units))
    ledger.drop("runtime")
    return {"state": "stopped", "stopped_by": " and ".join(sorted(lessons - {""}))}


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


def up(home: Home, selector: NodeSelector, progress: Progress) -> Report:
    """Connect to the cluster's node once, so that relay and images are there; makes the cluster `labkit` when there is
    none. Its status."""
    with home_lock(home, progress):
        engine = need_engine()
        if may_make(selector, engine.node_containers()):
            make(home, engine, progress)
        node = prepared(home, selector, why="", lesson=None, progress=progress, again=True)
        node_selector.remember(home, node.selector, as_last=True)
    node.close()
    return report(home, node.selector)


def report(home: Home, selector: NodeSelector) -> Report:
    """The node's state, asked at this moment."""
    try:
        engine = need_engine()
        container = pick(engine, selector)
        path = relay.socket_of(home, relay_name(engine, container.name))
        if not path.exists():
            return node_report("kind", cluster=container.cluster, name=container.name)
        with explained(home, engine, container), CriClient(f"unix://{path}", timeout=10) as cri:
            version = cri.version()
    except (NodeError, CriError) as error:
        return node_report("kind", error=str(error))
    return node_report(
        "kind",
        "ready",
        endpoint=f"unix://{path}",
        runtime={"name": version.runtime_name, "version": version.runtime_version},
        pid=container.pid,
        since=engine.inspect(container.name)[0]["State"].get("StartedAt"),
        cluster=container.cluster,
        name=container.name,
        kubelet_held=kubelet_is_held(engine, container),
    )


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


def unanswered(home: Home, report: Report) -> dict[str, Report]:
    """The engine and the node's containerd were asked for the report; nothing else of the lab serves it."""
    return {}


KIND = KindOfNode(probe, up, connect, report, unanswered, kind_clean.down, kind_clean.clean)
