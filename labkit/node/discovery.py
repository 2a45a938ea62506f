"""Which kinds of node there are, which can work on this machine, and which is meant."""

from __future__ import annotations

from types import ModuleType

from labkit.node import choice as choices
from labkit.node import containerd, endpoint, kind, vm
from labkit.node.choice import Choice
from labkit.node.errors import NodeError
from labkit.node.home import Home
from labkit.node.verdict import Verdict

KINDS: dict[str, ModuleType] = {"kind": kind, "containerd": containerd, "vm": vm, "cri": endpoint}
"""Each kind is a module with look, connect, up, report, down and clean, in the order in which "auto" prefers them."""


def examine(home: Home) -> list[Verdict]:
    """A verdict for every kind of node."""
    return [module.look(home) for module in KINDS.values()]


def refuse_unknown(wanted: Choice) -> None:
    """Raises NodeError where LABKIT_NODE or --node names no kind."""
    if wanted.kind not in ("auto", *KINDS):
        raise NodeError(f"{wanted.kind!r} is no kind of node.", f"Choose one of auto, {', '.join(KINDS)}:ENDPOINT.")


def choose(wanted: Choice, home: Home) -> tuple[Choice, str]:
    """The choice with its kind decided, and why that one. Raises NodeError, saying why none can be had and what to do.

    "auto" is the node that `labkit up` brought last, else the first kind that can work here.
    """
    refuse_unknown(wanted)
    if wanted.kind == "auto":
        for known in reversed(choices.remembered(home)):
            verdict: Verdict = KINDS[known.kind].look(home, known)
            if verdict.usable and wanted.cluster in ("", known.cluster) and wanted.node_name in ("", known.node_name):
                return known, verdict.why
        # Not a machine of its own in place of a node that was brought up here and cannot be used now: rather say why it cannot.
        verdicts = [v for v in examine(home) if v.kind != "vm" or not choices.remembered(home)]
        for verdict in verdicts:
            if verdict.usable:
                return Choice(verdict.kind, wanted.cluster, wanted.node_name), verdict.why
        reasons = "; ".join(f"{v.kind}: {v.why}" for v in verdicts)
        fixes = " or ".join(v.fix for v in verdicts if v.kind in KINDS and v.kind != "cri" and v.fix)
        raise NodeError(f"No kind of node can work here ({reasons})", f"Try: {fixes}. `labkit doctor` shows all of it.")
    verdict = KINDS[wanted.kind].look(home, wanted)
    if not verdict.usable and not (wanted.kind == "kind" and "makes one" in verdict.fix):
        raise NodeError(
            f"A node of kind {wanted.kind} cannot work here. {verdict.why}", f"Try: {verdict.fix}" if verdict.fix else ""
        )
    return wanted, verdict.why
