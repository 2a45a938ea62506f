"""Removes labkit from a node that is a container: `labkit down` and `labkit clean` for the kinds `kind` and `cri:docker://…`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

from labkit.cri import CriError
from labkit.node.registry import node_registry, share
from labkit.node.remote import kind_cluster, kind_node, undo
from labkit.node.remote.container_access import InContainer
from labkit.node.remote.container_selection import find_socket, need_engine
from labkit.node.remote.engine import NodeContainer, asked
from labkit.node.remote.kind_cluster import CLUSTER
from labkit.node.remote.pod_residue import PLACES
from labkit.node.remote.undo import Part, Place
from labkit.node.state.home import Home
from labkit.node.state.kind_of_node import Cleaned
from labkit.node.state.ledger import Ledger, mark_of
from labkit.node.state.locks import home_lock
from labkit.node.state.node_selector import NodeSelector
from labkit.util.errors import NodeError
from labkit.util.progress import Progress, attempts

ANSWERS_WITHIN_S = 30.0


def down(home: Home, selector: NodeSelector, progress: Progress) -> int:
    """Remove the Pods that this lab made by hand, resume the kubelet, stop the registry; delete the cluster if this home made it.
    Returns how many Pods were removed. Raises NodeError where the node could not be checked, or something was left."""

    def stop_registry(place: Place) -> None:
        if not share.others(runner(place), mark_of(home)):
            place.shell(node_registry.sh(node_registry.STOP))

    with home_lock(home, progress):
        found, left, _ = undo_parts(home, selector, progress, (undo.NETWORK, undo.PODS, undo.HOLD), stop_registry)
    if left:
        raise NodeError(f"Not all is down: {left[0]}.", "Then run this again.")
    return sum(what.startswith("Pod ") for what in found)


def clean(home: Home, selector: NodeSelector, progress: Progress) -> Cleaned:
    """Undo all that this home has changed on a node."""
    with home_lock(home, progress):
        return undo_parts(home, selector, progress, PARTS)


def undo_parts(
    home: Home,
    selector: NodeSelector,
    progress: Progress,
    parts: tuple[Part, ...],
    then: Callable[[Place], None] = lambda place: None,
) -> Cleaned:
    """Delete the cluster if this home made it, else undo `parts` of what it changed on the node. `then` is called with the
    node."""
    found: list[str] = []
    left: list[str] = []
    alone: list[str] = []
    try:
        with asked(selector.engine), relay_ended(home, selector):
            left, alone, gone = delete_cluster(home, selector, progress)
            with contextlib.nullcontext() if gone else reached(home, selector) as place:
                if place:
                    progress(f"undoing labkit's changes on {place.name}")
                    found, still = undo.undo(place, parts)
                    left += still
                    alone += place.alone
                    then(place)
    except (NodeError, CriError) as error:
        left.append(undo.unseen(f"the node {name_of(selector)}", undo.first_line(error)))
    return found, left, alone


@contextlib.contextmanager
def relay_ended(home: Home, selector: NodeSelector) -> Iterator[None]:
    """End the node's relay after the block."""
    try:
        yield
    finally:
        kind_node.stop(home, name_of(selector))


def delete_cluster(home: Home, selector: NodeSelector, progress: Progress) -> tuple[list[str], list[str], bool]:
    """Delete the cluster of a node if this home made it. Returns (what is left, what was left alone, whether the node is
    gone)."""
    if selector.cluster != CLUSTER:
        return [], [], False
    left, alone = kind_cluster.delete(home, progress)
    return left, alone, not left and not alone


def name_of(selector: NodeSelector) -> str:
    """The name of the node's container: of kind "kind" the node's name, of kind "cri" a part of its endpoint,
    docker://NAME/path."""
    return selector.node_name or selector.endpoint.removeprefix("docker://").partition("/")[0] or selector.cluster


def container_of(selector: NodeSelector) -> NodeContainer | None:
    """The container, None where it no longer exists. Raises NodeError where the engine cannot tell."""
    engine = need_engine()
    names = engine.run("ps", "--all", "--format", "{{.Names}}").split()
    return engine.node_container(name_of(selector)) if name_of(selector) in names else None


@contextlib.contextmanager
def reached(home: Home, selector: NodeSelector) -> Iterator[Place | None]:
    """The node, None where it no longer exists and all of labkit's with it. Raises NodeError where it cannot be reached."""
    container = container_of(selector)
    if container is None:
        yield None
        return
    if container.state != "running":
        raise NodeError(f"its container is {container.state}")
    commands = InContainer(need_engine(), container)
    place = Place(container.name, Ledger(home, selector), commands.shell, PLACES)
    begun = restart_runtime(place)
    for _ in attempts(ANSWERS_WITHIN_S if begun else 0.0, 0.5):
        try:
            place.node = open_node(home, selector, container, commands)
            break
        except (NodeError, CriError) as error:
            place.why = undo.first_line(error)
    if begun and place.node:
        place.ledger.drop("runtime")
    try:
        yield place
    finally:
        if place.node:
            place.node.close()


def open_node(home: Home, selector: NodeSelector, container: NodeContainer, commands: InContainer) -> kind_node.KindNode:
    socket = str(PurePosixPath("/", selector.endpoint.removeprefix("docker://").partition("/")[2])) if selector.endpoint else ""
    engine = commands.engine
    return kind_node.KindNode(home, engine, container, socket or find_socket(engine, container), why="", selector=selector)


def restart_runtime(place: Place) -> bool:
    """Start the runtime if this home stopped it. Returns whether it did."""
    units = place.ledger.values("runtime", "unit")
    with contextlib.suppress(NodeError):  # that it does not answer is told afterwards
        for unit in units:
            place.shell(["systemctl", "start", "--", unit])
    return bool(units)


# What all labs of a node share


def runner(place: Place) -> share.Run:
    return lambda argv: place.shell(argv).encode()


def find_shared(place: Place) -> list[str]:
    mark = mark_of(place.ledger.home)
    if others := share.others(runner(place), mark):
        place.alone[:] = sorted({*place.alone, f"the course's registry on {place.name}: the lab of {others[0]} uses it"})
        return [f"mark {share.HOMES}/{mark}"] if share.is_there(runner(place), mark) else []
    node = place.running()
    assert isinstance(node, kind_node.KindNode)
    return node_registry.left(node.cri, node.host.run, node.socket_path)


def remove_shared(place: Place, found: list[str]) -> None:
    mark = mark_of(place.ledger.home)
    if share.others(runner(place), mark):
        return share.leave(runner(place), mark)
    node = place.running()
    assert isinstance(node, kind_node.KindNode)
    node_registry.remove(node.cri, node.host.run, node.socket_path)


PARTS = (
    undo.NETWORK, undo.PODS, undo.HOLD, undo.OBJECTS, undo.SHIMS, undo.LEAVINGS,
    Part("the course's registry", find_shared, remove_shared),
)
"""In this order: no Pod can be removed without a network, and the kubelet deletes the API's Pods once it has resumed."""
