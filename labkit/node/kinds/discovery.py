"""Which kinds of node there are, which can work on this machine, and which node is meant."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from labkit.node.host import lab_processes
from labkit.node.state import node_selector as choices
from labkit.node.state.home import Home
from labkit.node.state.kind_of_node import Availability, KindOfNode
from labkit.node.state.node_selector import Choice
from labkit.util.errors import NodeError

ENTRY_POINTS = "labkit.kinds"
KINDS = {
    "kind": "labkit.node.kinds.kind:KIND",
    "containerd": "labkit.node.kinds.containerd:KIND",
    "vm": "labkit.node.kinds.vm:KIND",
    "cri": "labkit.node.kinds.cri:KIND",
}
"""The course's own kinds, in the order in which "auto" prefers them: where the KindOfNode of each is."""


def kinds() -> dict[str, KindOfNode]:
    """The course's kinds of node, and those that other packages bring. Raises NodeError for one that cannot be used."""
    return {**own(), **brought()}


@cache
def own() -> dict[str, KindOfNode]:
    """The course's own kinds."""
    return {name: EntryPoint(name, place, ENTRY_POINTS).load() for name, place in KINDS.items()}


@cache
def brought() -> dict[str, KindOfNode]:
    """The kinds of other packages: an entry point of the group `labkit.kinds` names the kind and leads to its KindOfNode. Raises
    NodeError for one that cannot be loaded, or has the name of another."""
    found: dict[str, KindOfNode] = {}
    for point in entry_points(group=ENTRY_POINTS):
        package = point.dist.name if point.dist else point.value
        try:
            kind_of_node = point.load()
        except Exception as error:
            happened = f"The kind of node {point.name!r} of {package} cannot be loaded ({error})."
            raise NodeError(happened, f"Update or remove {package}.") from error
        if not isinstance(kind_of_node, KindOfNode):
            raise NodeError(f"{point.value} of {package} is no KindOfNode.", f"Update or remove {package}.")
        if point.name in {*KINDS, *found}:
            raise NodeError(f"{package} brings a second kind of node {point.name!r}.", f"Remove {package}.")
        found[point.name] = kind_of_node
    return found


def examine(home: Home, wanted: Choice | None = None) -> list[Availability]:
    """A verdict for every kind of node: for the node of that kind that is `wanted`, else for the one that was brought up last."""
    found = {wanted.kind: last_used(wanted, home) or wanted} if wanted else {}
    return [kind.probe(home, found.get(name) or last_used(Choice(name), home)) for name, kind in kinds().items()]


def refuse_unknown(wanted: Choice) -> None:
    """Raises NodeError where LABKIT_NODE or --node names no kind."""
    if wanted.kind not in ("auto", *kinds()):
        names = ("auto", *(f"{name}:ENDPOINT" if name == "cri" else name for name in kinds()))
        raise NodeError(f"{wanted.kind!r} is no kind of node.", f"Choose one of {', '.join(names)}.")


def brought_up(home: Home) -> list[Choice]:
    """Every node that was brought up since the last `clean`, the newest last. Where the home's files were deleted, and the list
    with them: the nodes whose programs still run."""
    if listed := choices.remembered(home):
        return listed
    machine = [Choice("vm")] if lab_processes.own_processes(home.machine) else []
    return machine + ([Choice("containerd")] if lab_processes.node_owners(home) else [])


def last_used(wanted: Choice, home: Home) -> Choice | None:
    """Of the nodes that fit, the one that was brought up last; None where none was."""
    return next((c for c in reversed(brought_up(home)) if wanted.fits(c)), None)


def meant(wanted: Choice, home: Home) -> Choice:
    """The one node that is meant: the rule of `connect` and of every command.

    Of the nodes that fit what is wanted, it is the one that `labkit up` brought last, whether it can be used now or not. Where
    none was brought, it is what is wanted, and for "auto" the first kind that can work here. Raises NodeError, saying why none
    can be had and what to do.
    """
    refuse_unknown(wanted)
    if last := last_used(wanted, home):
        return last
    if wanted.kind != "auto":
        return wanted
    verdicts = examine(home)
    for verdict in verdicts:
        if verdict.usable:
            return Choice(verdict.kind)
    reasons = "; ".join(f"{v.kind}: {v.why}" for v in verdicts)
    fixes = " or ".join(v.fix for v in verdicts if v.kind != "cri" and v.fix)
    raise NodeError(f"No kind of node can work here ({reasons})", f"Try: {fixes}. `labkit doctor` shows all of it.")


def choose(wanted: Choice, home: Home) -> tuple[Choice, str]:
    """The node that is meant, and why it can be used. Raises NodeError where it cannot."""
    chosen = meant(wanted, home)
    verdict = kinds()[chosen.kind].probe(home, chosen)
    if not verdict.usable and chosen.kind != "kind":  # which says more of one node, and can make one where there is none
        raise NodeError(
            f"A node of kind {chosen.kind} cannot work here. {verdict.why}", f"Try: {verdict.fix}" if verdict.fix else ""
        )
    return chosen, verdict.why


def report(home: Home, wanted: Choice) -> dict[str, Any]:
    """The state of the node that is meant, as `up` and `status` report it. Raises NodeError where the kind is unknown."""
    refuse_unknown(wanted)
    try:
        chosen = meant(wanted, home)
    except NodeError as error:
        return {**DOWN, "node": wanted.kind, "error": str(error)}
    return kinds()[chosen.kind].report(home, chosen)


def asked(home: Home, wanted: Choice) -> dict[str, Any]:
    """The report, after each of the lab's programs on a node that is up was asked. `unanswered` has those that do not answer,
    with what to do; the node is then not "ready" but "degraded"."""
    found = report(home, wanted)
    if found["state"] not in ("ready", "restarting"):
        return found
    if unanswered := kinds()[found["node"]].unanswered(home, found):
        found["unanswered"] = unanswered
        found["state"] = "degraded" if found["state"] == "ready" else found["state"]
    return found


DOWN = {"node": "", "state": "down", "endpoint": None, "runtime": None, "pid": None, "since": None}
"""What is always in a report."""
