"""`labkit incident`: one fault on the node, drawn by a seed, to be found from its user's complaint and repaired."""

from __future__ import annotations

import argparse
import contextlib
import textwrap
from pathlib import Path
from typing import Any

import yaml

from labkit.cli.common import AddVerb, answer, say
from labkit.course.incident import incident_store as store
from labkit.course.incident import making, session
from labkit.course.incident.fault import FAULTS, POD, draw, possible, seed_of
from labkit.course.incident.result import Result
from labkit.node import Home, Node, NodeError, NodeSelector, connect
from labkit.node.kinds import discovery

ACTIONS = {
    "start": "make a fault and show the user's complaint; with --seed always the same one",
    "status": "show the complaint, what is found and the points (without an action: this, and start where --seed is given)",
    "causes": "list the causes among which to choose",
    "manifest": "print the manifest of the user's Pod, as she applied it; --pod NAME that of another user's Pod",
    "hint": f"give the next hint, which costs {store.HINT} points",
    "check": "judge --cause and --evidence, and look whether the repair holds",
    "report": "print what was found, when, with which commands; --html FILE writes a page that prints well",
    "end": "end the incident, found or not, and undo its fault",
}
FAULTS_LISTED = "faults"
"""For teachers (docs/teaching.md), and not in the help: the faults that this kind of node can have; with --seeds the first seed
that draws each, which every result page of this home says from then on."""


def add(verb: AddVerb) -> None:
    text = "make one fault on the node, to be found from its user's complaint and repaired (notebook 08)"
    command = verb("incident", incident, text, "labkit incident --seed 7")
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.description = "\n".join([f"{text[0].upper()}{text[1:]}.", "", *(f"  {k:10}{v}" for k, v in ACTIONS.items())])
    command.add_argument("action", nargs="?", choices=(*ACTIONS, FAULTS_LISTED), metavar="ACTION", help=", ".join(ACTIONS))
    command.add_argument("--seed", metavar="NUMBER", help="draw the fault of this number; the same one for everybody")
    command.add_argument("--fault", metavar="NAME", default="", help="for teachers: make the fault of this name")
    command.add_argument("--cause", metavar="NAME", default="", help="for check: a name of `labkit incident causes`")
    command.add_argument("--evidence", metavar="TEXT", default="", help="for check: what on the node shows the cause")
    command.add_argument("--pod", metavar="NAME", default=POD, help=f"for manifest: another Pod than {POD}")
    command.add_argument("--seeds", action="store_true", help=argparse.SUPPRESS)
    command.add_argument("--html", metavar="FILE", help="for report: write it as a page")


def incident(arguments: argparse.Namespace) -> int:
    action = arguments.action or ("start" if arguments.seed or arguments.fault else "status")
    home = Home.find()
    if arguments.seed is not None:
        seed_of(arguments.seed)
    if action == "start":
        check_start(arguments, home)
        made = session.open_incident(connect(), arguments.seed, fault=arguments.fault)
        report = Result(home, store.load(home)).report()
        drawn = f"Seed {report['seed']}. " if report["seed"] is not None else ""
        answer(arguments, report, lambda: f"{made!r}\n{drawn}Find the cause, then run `labkit incident check`.")
    elif action in ("causes", FAULTS_LISTED):
        listed(arguments, action)
    elif action == "hint":
        with store.alone(home):
            text = session.hint(home)
        answer(arguments, {"hint": str(text)}, lambda: str(text))
    elif action == "manifest":
        made_from = session.manifest(session.opened(home), arguments.pod)
        answer(arguments, made_from, lambda: yaml.safe_dump(made_from, sort_keys=False).strip())
    elif action == "check":
        return check(arguments, home)
    elif action == "end":
        ended = session.end_incident(its_node(home))
        answer(arguments, ended.report() if isinstance(ended, Result) else {"state": "none"}, lambda: repr(ended))
    else:
        show(arguments, home, action)
    return 0


def check_start(arguments: argparse.Namespace, home: Home) -> None:
    """Raises NodeError for what cannot begin, before any node is brought up for it."""
    kind = discovery.resolve(NodeSelector.parse(), home).kind
    wanted = session.check_words(kind, arguments.seed, arguments.fault)
    found = store.load(home)
    if found and found.phase != "closed" and found.kind != kind:
        raise NodeError(f"An incident is open on a node of kind {found.kind}.", "End it first: `labkit incident end`.")
    if found and found.phase == "open":
        making.refuse_another(found, wanted, arguments.fault)


def its_node(home: Home) -> Node:
    """The node of the incident that is open, whichever was brought up last; where none is open, the selected one."""
    found = None
    with contextlib.suppress(NodeError):  # a damaged file
        found = store.load(home)
    if found is None or found.phase == "closed":
        return connect()
    selector = selector_of(found)
    return connect(selector.kind, cluster=selector.cluster, node_name=selector.node_name)


def selector_of(state: store.State) -> NodeSelector:
    """How its node is chosen."""
    cluster, node_name = state.kept["choice"]
    return NodeSelector(state.kind, cluster=cluster, node_name=node_name)


def node_is_down(home: Home, state: store.State) -> bool:
    with contextlib.suppress(NodeError):
        return bool(discovery.report(home, selector_of(state))["state"] in ("down", "failed"))
    return False


def listed(arguments: argparse.Namespace, action: str) -> None:
    if action == "causes":
        causes = [{"name": name, "cause": FAULTS[name].cause} for name in sorted(FAULTS)]
        return answer(arguments, causes, lambda: "\n".join(f"{each['name']:20}{each['cause']}" for each in causes))
    home = Home.find()
    kind = discovery.resolve(NodeSelector.parse(), home).kind
    here = possible(kind)
    rows: list[dict[str, Any]] = [{"name": each.name, "cause": each.cause} for each in here]
    if arguments.seeds:
        seeds = first_seeds(kind)
        rows = [{**row, "seed": seeds.get(row["name"])} for row in rows]
        store.note_seeds_listed(home)
        say("Noted: the result pages of incidents in this home say that the seeds were listed.")
    lines = [f"{row['name']:20}{str(row['seed']).rjust(5) + '  ' if arguments.seeds else ''}{row['cause']}" for row in rows]
    if left_out := [name for name in sorted(FAULTS) if FAULTS[name] not in here]:
        lines.append(f"Not on a node of kind {kind}: {', '.join(left_out)}.")
    answer(arguments, rows, lambda: "\n".join(lines))


def first_seeds(kind: str) -> dict[str, int]:
    """Of each fault the first seed that draws it on this kind of node."""
    seeds: dict[str, int] = {}
    for seed in range(1000):
        seeds.setdefault(draw(seed, kind).name, seed)
    return seeds


def check(arguments: argparse.Namespace, home: Home) -> int:
    """0 where all is found."""
    kept = store.load(home)
    if kept is None or kept.phase == "making":
        session.opened(home)
    with store.alone(home):
        found = session.check(its_node(home), home, arguments.cause, arguments.evidence)
    report = {"done": found.done, "saw": found.saw, "missing": found.missing}
    answer(arguments, report, lambda: repr(found))
    return 0 if found.done else 1


def show(arguments: argparse.Namespace, home: Home, action: str) -> None:
    result = Result(home, store.load(home))
    if arguments.html:
        saved = result.save(Path(arguments.html))
        answer(arguments, {"file": arguments.html}, lambda: saved)
    elif action == "report":
        answer(arguments, result.report(), result.text)
    else:
        complaint = textwrap.fill(f"The user says: “{result.state.complaint}”", 100)
        is_down = result.state.phase == "open" and node_is_down(home, result.state)
        down = f"\nIts node {result.state.node} is down: `labkit up` brings it up, with its fault." if is_down else ""
        answer(arguments, {**result.report(), "node_down": is_down}, lambda: f"{complaint}\n{result!r}{down}")
