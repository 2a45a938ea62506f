"""What every command shares: how it answers, and which node it speaks of."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any, Protocol

from labkit.node import Choice, Home, NodeError, choice, connect, discovery
from labkit.showable import showable_lines


class AddVerb(Protocol):
    """Adds a command to the parser: its name, what runs it, one line of help, an example; `reports`: it has --json."""

    def __call__(
        self, name: str, run: Callable[[argparse.Namespace], Any], text: str, example: str, *, reports: bool = True
    ) -> argparse.ArgumentParser: ...


def say(text: str) -> None:
    """Progress, for people: on standard error, so that standard output holds only the answer."""
    print(f"labkit: {showable_lines(text)}", file=sys.stderr, flush=True)


def answer(arguments: argparse.Namespace, data: Any, text: Callable[[], str]) -> None:
    print(json.dumps(data, indent=1) if arguments.json else text())


def state(home: Home) -> dict[str, Any]:
    """The state of the node that `up` brought last, as `up` and `status` report it.

    Raises NodeError where LABKIT_NODE names no kind.
    """
    discovery.refuse_unknown(Choice.parse("auto"))
    last = choice.remembered(home)[-1:] or [Choice("containerd")]
    report: dict[str, Any] = discovery.KINDS[last[0].kind].report(home, last[0])
    return report


def describe(report: dict[str, Any]) -> str:
    runtime = report["runtime"] or {"name": report["node"], "version": "(not answering yet)"}
    return f"{runtime['name']} {runtime['version']} at {report['endpoint']}"


def running_node() -> Any:
    """The node, which must be up: a command that reports does not start one."""
    now = state(Home.find())["state"]
    if now == "stopped":
        raise NodeError("The node's containerd is stopped.", "Start it with `labkit containerd start`.")
    if now not in ("ready", "restarting"):
        raise NodeError("The node is down.", "Start it with `labkit up`.")
    return connect()
