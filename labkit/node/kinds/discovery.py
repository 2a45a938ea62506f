"""The kinds of node: which exist, which can work on this machine, and which node is selected."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from labkit.node.host import lab_processes
from labkit.node.state import node_selector
from labkit.node.state.home import Home
from labkit.node.state.kind_of_node import Availability, KindOfNode, Report, node_report
from labkit.node.state.node_selector import NodeSelector
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
    """The kinds of the course and of other packages, by name. Raises NodeError for one that cannot be used."""
    return {**course_kinds(), **plugin_kinds()}


@cache
def kind_names() -> list[str]:
    """The names of all kinds but "cri", which takes an endpoint; none is loaded."""
    names = [*KINDS, *(point.name for point in entry_points(group=ENTRY_POINTS))]
    return [name for name in dict.fromkeys(names) if name != "cri"]


@cache
def course_kinds() -> dict[str, KindOfNode]:
    """The course's own kinds."""
    return {name: EntryPoint(name, place, ENTRY_POINTS).load() for name, place in KINDS.items()}


@cache
def plugin_kinds() -> dict[str, KindOfNode]:
    """The kinds of other packages: an entry point of the group `labkit.kinds` has the name of the kind and leads to its
    KindOfNode. Raises NodeError for one that cannot be loaded, or that has the name of another."""
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


def probe_all(home: Home, wanted: NodeSelector | None = None) -> list[Availability]:
    """The Availability of every kind of node: of the node of that kind that is `wanted`, else of the one brought up last."""
    brought = brought_up(home)
    found = {wanted.kind: last_fitting(wanted, brought) or wanted} if wanted else {}
    return [kind.probe(home, found.get(name) or last_fitting(NodeSelector(name), brought)) for name, kind in kinds().items()]


def require_known_kind(wanted: NodeSelector) -> None:
    """Raises NodeError where LABKIT_NODE or --node names no kind."""
    if wanted.kind not in ("auto", *kinds()):
        names = ", ".join(["auto", *kind_names(), "cri:ENDPOINT"])
        raise NodeError(f"{wanted.kind!r} is no kind of node.", f"Choose one of {names}.")


def brought_up(home: Home) -> list[NodeSelector]:
    """Every node that was brought up since the last `clean`, the newest last. Where the home's files were deleted, and the list
    with them: the nodes whose programs still run."""
    if listed := node_selector.remembered(home):
        return listed
    machine = [NodeSelector("vm")] if lab_processes.own_processes(home.machine) else []
    return machine + ([NodeSelector("containerd")] if lab_processes.node_owners(home) else [])


def last_used(wanted: NodeSelector, home: Home) -> NodeSelector | None:
    """The last node brought up that fits `wanted`, None where there is none."""
    return last_fitting(wanted, brought_up(home))


def last_fitting(wanted: NodeSelector, brought: Sequence[NodeSelector]) -> NodeSelector | None:
    """The last of these nodes that fits `wanted`, None where there is none."""
    return next((each for each in reversed(brought) if wanted.fits(each)), None)


def resolve(wanted: NodeSelector, home: Home) -> NodeSelector:
    """The selected node, by the rule of `connect` and of every command.

    Of the nodes that fit `wanted`, it is the one that `labkit up` brought up last, whether it can be used now or not. Where there
    is none, it is `wanted` itself, and for "auto" the first kind that can work here. Raises NodeError, with the reason why no
    kind can and what to do.
    """
    require_known_kind(wanted)
    if last := last_used(wanted, home):
        return last
    if wanted.kind != "auto":
        return wanted
    availabilities = probe_all(home)
    for availability in availabilities:
        if availability.usable:
            return NodeSelector(availability.kind)
    reasons = "; ".join(f"{v.kind}: {v.why}" for v in availabilities)
    fixes = " or ".join(v.fix for v in availabilities if v.kind != "cri" and v.fix)
    raise NodeError(f"No kind of node can work here ({reasons})", f"Try: {fixes}. `labkit doctor` shows all of it.")


def resolve_usable(wanted: NodeSelector, home: Home) -> tuple[NodeSelector, str]:
    """The selected node, and why it can be used. Raises NodeError where it cannot."""
    chosen = resolve(wanted, home)
    availability = kinds()[chosen.kind].probe(home, chosen)
    if not availability.usable and chosen.kind != "kind":  # which says more of one node, and can make one where there is none
        todo = f"Try: {availability.fix}" if availability.fix else ""
        raise NodeError(f"A node of kind {chosen.kind} cannot work here. {availability.why}", todo)
    return chosen, availability.why


def report(home: Home, wanted: NodeSelector) -> Report:
    """The report of the selected node, as `up` and `status` print it. Raises NodeError where the kind is unknown."""
    require_known_kind(wanted)
    try:
        chosen = resolve(wanted, home)
    except NodeError as error:
        return node_report(wanted.kind, error=str(error))
    return kinds()[chosen.kind].report(home, chosen)


def probed_report(home: Home, wanted: NodeSelector) -> Report:
    """The report, after each of the programs of a running node was asked. `unanswered` has those that do not answer, with what to
    do; the state is then "degraded" and not "ready"."""
    found = report(home, wanted)
    if found["state"] not in ("ready", "restarting"):
        return found
    if unanswered := kinds()[found["node"]].unanswered(home, found):
        found["unanswered"] = unanswered
        found["state"] = "degraded" if found["state"] == "ready" else found["state"]
    return found
