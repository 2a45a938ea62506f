"""Which kinds of node there are, which can work on this machine, and which node is meant."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from labkit.node.lab import containerd
from labkit.node.remote import endpoint, kind
from labkit.node.state import node_selector as choices
from labkit.node.state.availability import Verdict
from labkit.node.state.home import Home
from labkit.node.state.node_selector import Choice
from labkit.node.vm import vm
from labkit.util.errors import NodeError

KINDS: dict[str, ModuleType] = {"kind": kind, "containerd": containerd, "vm": vm, "cri": endpoint}
"""Each kind is a module with look, connect, up, report, unanswered, down and clean, in the order in which "auto" prefers them."""


def examine(home: Home) -> list[Verdict]:
    """A verdict for every kind of node; of a kind of which a node was brought up, for that one."""
    return [module.look(home, known(Choice(name), home)) for name, module in KINDS.items()]


def refuse_unknown(wanted: Choice) -> None:
    """Raises NodeError where LABKIT_NODE or --node names no kind."""
    if wanted.kind not in ("auto", *KINDS):
        raise NodeError(f"{wanted.kind!r} is no kind of node.", f"Choose one of auto, {', '.join(KINDS)}:ENDPOINT.")


def known(wanted: Choice, home: Home) -> Choice | None:
    """Of the nodes that fit, the one that was brought up last; None where none was."""
    return next((c for c in reversed(choices.remembered(home)) if wanted.fits(c)), None)


def meant(wanted: Choice, home: Home) -> Choice:
    """The one node that is meant: the rule of `connect` and of every command.

    Of the nodes that fit what is wanted, it is the one that `labkit up` brought last, whether it can be used now or not. Where
    none was brought, it is what is wanted, and for "auto" the first kind that can work here. Raises NodeError, saying why
    none can be had and what to do.
    """
    refuse_unknown(wanted)
    if last := known(wanted, home):
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
    verdict: Verdict = KINDS[chosen.kind].look(home, chosen)
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
    found: dict[str, Any] = KINDS[chosen.kind].report(home, chosen)
    return found


def asked(home: Home, wanted: Choice) -> dict[str, Any]:
    """The report, after each of the lab's programs on a node that is up was asked. `unanswered` has those that do not answer,
    with what to do; the node is then not "ready" but "degraded"."""
    found = report(home, wanted)
    if found["state"] not in ("ready", "restarting"):
        return found
    if unanswered := KINDS[found["node"]].unanswered(home, found):
        found["unanswered"] = unanswered
        found["state"] = "degraded" if found["state"] == "ready" else found["state"]
    return found


DOWN = {"node": "", "state": "down", "endpoint": None, "runtime": None, "pid": None, "since": None}
"""What is always in a report."""
