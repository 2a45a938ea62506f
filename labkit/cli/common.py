"""What all commands share: how they print, and how they select a node."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import Any, Protocol

from labkit.node import Home, NodeError, NodeSelector, connect
from labkit.node.kinds import discovery
from labkit.node.state import incident_note, node_selector
from labkit.util.showable import showable_lines

ANSWER = 10_000_000
"""The most letters that a result may have."""


class AddVerb(Protocol):
    """Adds a command to the parser: its name, its function, one line of help, an example. `reports`: it has --json. `node`: it
    has the options that select a node."""

    def __call__(
        self,
        name: str,
        run: Callable[[argparse.Namespace], Any],
        text: str,
        example: str,
        *,
        reports: bool = True,
        node: bool = True,
    ) -> argparse.ArgumentParser: ...


def add_node_options(parser: argparse.ArgumentParser) -> None:
    """--node, --cluster and --node-name: the same words for every command."""
    options = parser.add_argument_group("which node (default: the one brought up last, else the first kind that can work)")
    kinds = ", ".join([*discovery.kind_names(), "cri:ENDPOINT"])
    options.add_argument("--node", metavar="KIND", default="auto", help=f"{kinds} (LABKIT_NODE)")
    options.add_argument("--cluster", metavar="NAME", default="", help="of that kind cluster (LABKIT_CLUSTER)")
    options.add_argument("--node-name", metavar="NAME", default="", help="of that name in the cluster (LABKIT_NODE_NAME)")


def choose_node(arguments: argparse.Namespace) -> None:
    """Put the options that select a node into the environment, for this command and for those that it runs. Raises NodeError."""
    if "node_name" in arguments and (arguments.node != "auto" or arguments.cluster or arguments.node_name):
        wanted = NodeSelector.parse(arguments.node, arguments.cluster, arguments.node_name)
        discovery.require_known_kind(wanted)
        variables = (node_selector.NODE, node_selector.CLUSTER, node_selector.NODE_NAME)
        os.environ.update(dict.fromkeys(variables, "") | wanted.environ())


def say(text: str) -> None:
    """Print progress on standard error, so that standard output has only the result."""
    print(f"labkit: {showable_lines(text)}", file=sys.stderr, flush=True)


def answer(arguments: argparse.Namespace, data: Any, text: Callable[[], str]) -> None:
    print(json.dumps(data, indent=1) if arguments.json else showable_lines(text(), ANSWER))


def state(home: Home) -> dict[str, Any]:
    """The report of the selected node, as `up` and `status` print it. Raises NodeError where LABKIT_NODE names no kind."""
    return discovery.report(home, NodeSelector.parse())


def describe(report: dict[str, Any]) -> str:
    runtime = report["runtime"] or {"name": report["node"], "version": "(not answering yet)"}
    return f"{runtime['name']} {runtime['version']} at {report['endpoint']}"


def need_up(home: Home) -> str:
    """The state of the selected node. Raises NodeError where it is down: a command that reports starts none."""
    report = state(home)
    if report["state"] == "down":
        raise NodeError("The node is down.", report.get("error") or f"Start it with `{NodeSelector.parse().command('up')}`.")
    if report["state"] == "failed":
        raise NodeError(f"The node is not up. {report.get('error', '')}".strip(), f"Try `{NodeSelector.parse().command('up')}`.")
    return str(report["state"])


def running_node() -> Any:
    """The selected node, which must be up with its runtime."""
    now = need_up(Home.find())
    if now == "stopped" and not is_held_down():
        raise NodeError("The node's containerd is stopped.", "Start it with `labkit containerd start`.")
    if now not in ("ready", "restarting", "stopped"):
        raise NodeError(f"The node is {now}.", "Wait until `labkit status` says ready.")
    return connect()


def is_held_down() -> bool:
    """Whether an open incident has stopped the runtime of the selected node, so that it answers nobody."""
    home = Home.find()
    return incident_note.holds(home, incident_note.RUNTIME, discovery.resolve(NodeSelector.parse(), home).kind)
