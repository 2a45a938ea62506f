"""A fault is made on a node, made again where it went with the node, and undone."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from labkit.course.incident import incident_store as store
from labkit.course.incident.evidence import signs
from labkit.course.incident.fault import FAULTS, NEXT, OWN, POD, Fault, Scene, possible
from labkit.course.incident.incident_store import State
from labkit.node.pods.kubectl import NAMESPACE
from labkit.node.state.home import Home
from labkit.node.state.ledger import INCIDENT
from labkit.util import progress
from labkit.util.errors import NodeError

if TYPE_CHECKING:
    from labkit.node import Node

KINDS = "pods,configmaps,secrets"
END = "End it first: labkit.end_incident(node), or `labkit incident end`."
DELETE_WITHIN = "--timeout=120s"


def begin(node: Node, home: Home, chosen: Fault, seed: int | None) -> State:
    """Make the fault on a node from which all that another incident may have left is removed."""
    refuse_strangers(node, chosen)
    undo_all(node)
    store.forget(home)
    state = State(seed, chosen.name, node.kind, node.name, store.now(), holds=list(chosen.holds))
    state.kept["choice"] = [node.selector.cluster, node.selector.node_name]
    make(node, home, state)
    store.note_met(home, chosen.name)
    return state


def make(node: Node, home: Home, state: State) -> None:
    """Whatever interrupts it, what was made is undone. Its progress would give it away, and is not shown."""
    state.phase, state.kept["since"] = "making", since(node)
    store.save(home, state)
    try:
        with progress.summary("making the incident"):
            scene = Scene(node, state.kept)
            FAULTS[state.fault].make(scene)
            state.kept["signs"] = signs(scene)
        state.phase = "open"
        store.save(home, state)
    except BaseException as error:
        undo(node, home, state)
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt("The incident was being made, and is undone.") from None
        raise


def since(node: Node) -> str:
    """When a node of the lab's own was brought up; "" for another one, which keeps its files when it is restarted."""
    return node.daemon.since if node.kind in OWN else ""  # type: ignore[attr-defined]  # theirs is labkit.node.lab.daemon's


def go_on(home: Home, node: Node, state: State) -> bool:
    """Make the fault again where it went with the node, which was brought up anew since; whether it was. A repair that was found
    stays found."""
    if FAULTS[state.fault].lasts or "repair" in state.found or state.kept.get("since") == since(node):
        return False
    restore(node, state)
    make(node, home, state)
    return True


def go_on_alone(home: Home, node: Node) -> None:
    """The same for whoever has brought the node up, where the incident that is open is on it."""
    with store.alone(home), contextlib.suppress(NodeError):
        state = store.load(home)
        if state and state.phase == "open" and is_on(state, node):
            go_on(home, node, state)


def undo(node: Node, home: Home, state: State) -> None:
    """Undo a fault, and forget the incident."""
    restore(node, state)
    store.forget(home)


def close(node: Node, home: Home, state: State) -> State:
    """Undo a fault, and keep the incident's result."""
    restore(node, state)
    state.phase, state.ended, state.holds = "closed", store.now(), []
    store.save(home, state)
    return state


def restore(node: Node, state: State) -> None:
    """Make the node as it was before. The learner may have made the incident's objects again, without their label."""
    chosen = FAULTS[state.fault]
    start_runtime(node)
    chosen.undo(Scene(node, state.kept))
    for kind, name in (("pod", POD), *chosen.objects):
        node.cluster.delete(name, kind=kind)
    remove_labelled(node)


def undo_all(node: Node) -> None:
    """Undo whatever an incident may have left of which nothing is known. What has not its label is not removed."""
    start_runtime(node)
    for undone in {type(each).undo: each for each in possible(node.kind)}.values():
        undone.undo(Scene(node))
    remove_labelled(node)


def start_runtime(node: Node) -> None:
    """Start the runtime of a node of the lab's own: without it nothing is undone."""
    if node.kind in OWN:
        node.daemon.start()


def remove_labelled(node: Node) -> None:
    """Remove the incident's objects, and what was told of its Pods: that would mislead in the next incident."""
    node.cluster.kubectl("delete", KINDS, "-l", INCIDENT, "--wait=true", "--ignore-not-found", DELETE_WITHIN)
    neighbours = {name for each in FAULTS.values() for name in each.neighbours}
    for name in sorted({POD, NEXT, *neighbours}):
        selector = f"involvedObject.kind=Pod,involvedObject.name={name}"
        node.cluster.kube.delete_collection_namespaced_event(NAMESPACE, field_selector=selector)


def is_on(state: State, node: Node) -> bool:
    return (state.kind, state.node) == (node.kind, node.name)


def refuse_another_node(state: State | None, node: Node) -> None:
    """Raises NodeError where an incident is open on another node than this one."""
    if state and state.phase != "closed" and not is_on(state, node):
        happened = f"An incident is open on {state.node} (kind {state.kind}), which is another node than {node.name}."
        raise NodeError(happened, "End it first: `labkit incident end`.")


def refuse_another(state: State, seed: int | None, fault: str) -> None:
    """Raises NodeError where not the open incident is meant."""
    if (seed is not None and seed != state.seed) or (fault and fault != state.fault):
        open_one = f"the incident of seed {state.seed}" if state.seed is not None else "an incident"
        raise NodeError(f"One incident at a time: {open_one} is open.", END)


def refuse_strangers(node: Node, chosen: Fault) -> None:
    """Raises NodeError where an object has a name that the incident needs, and is not the incident's."""
    for kind, name in (("pod", POD), *chosen.objects):
        text = node.cluster.kubectl("get", kind, name, "--ignore-not-found", "-o", "json")
        if text.strip() and INCIDENT not in (json.loads(text)["metadata"].get("labels") or {}):
            raise NodeError(f"The cluster has a {kind} {name}, which no incident made.", "Remove it: the name is needed.")
