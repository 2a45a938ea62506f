"""What each kind of node can do: one type for all, so that a package can bring another kind (entry points `labkit.kinds`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from labkit.node.state.home import Home
from labkit.node.state.node_selector import NodeSelector
from labkit.util.progress import Progress

if TYPE_CHECKING:
    from labkit.node.node import Node

Report = dict[str, Any]
"""The state of a node, as `labkit status --json` prints it (see `node_report`)."""

Cleaned = tuple[list[str], list[str], list[str]]
"""What was there, what is there still or could not be looked at, and what was left alone since another lab made it."""


@dataclass(frozen=True)
class Availability:
    """Whether a kind of node can work here: a row of `labkit doctor`. `why` is why it can or cannot; `fix` is the command or the
    step that would make it usable, "" where it is."""

    kind: str
    usable: bool
    why: str
    fix: str


def node_report(
    kind: str,
    state: str = "down",
    *,
    endpoint: str | None = None,
    runtime: Mapping[str, str] | None = None,
    pid: int | None = None,
    since: str | None = None,
    **more: Any,
) -> Report:
    """The report of a node of that kind.

    state: "down", "starting", "ready", "restarting", "stopped" (its runtime alone), or "failed", with the reason as `error`.
    runtime: its name and version. pid: of the process that owns the node. since: when it was started (RFC 3339). more: what else
    this kind of node reports; left out where None.
    """
    more = {name: value for name, value in more.items() if value is not None}
    return {"node": kind, "state": state, "endpoint": endpoint, "runtime": runtime, "pid": pid, "since": since, **more}


class Connect(Protocol):
    def __call__(self, home: Home, selector: NodeSelector, *, why: str, lesson: str | None, progress: Progress) -> Node: ...


@dataclass(frozen=True)
class KindOfNode:
    """What a kind does. Every function may raise NodeError.

    probe: whether it can work here. up: bring the node up where it is down; its report. connect: to a node, brought up where it
    is down. report: its state, without bringing it up. unanswered: of a node that is up, the lab's programs that do not answer,
    by name. down: stop it; how many Pods were removed. clean: undo all that this lab has changed on it; what it has put on this
    machine below its home is removed by `labkit clean` itself.
    """

    probe: Callable[[Home, NodeSelector | None], Availability]
    up: Callable[[Home, NodeSelector, Progress], Report]
    connect: Connect
    report: Callable[[Home, NodeSelector], Report]
    unanswered: Callable[[Home, Report], dict[str, Report]]
    down: Callable[[Home, NodeSelector, Progress], int]
    clean: Callable[[Home, NodeSelector, Progress], Cleaned] = lambda home, selector, progress: ([], [], [])
