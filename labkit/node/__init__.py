"""Where Pods run: one module a kind, all behind one Node."""

from __future__ import annotations

from labkit.node.kinds import discovery
from labkit.node.kinds.discovery import probe_all
from labkit.node.node import Node
from labkit.node.state import lesson_lock, unfinished
from labkit.node.state.home import Home
from labkit.node.state.kind_of_node import Availability
from labkit.node.state.node_selector import NodeSelector
from labkit.util import environment, progress
from labkit.util.errors import NodeError

__all__ = ["Availability", "Home", "Node", "NodeError", "NodeSelector", "connect", "probe_all"]


def connect(
    node: str = "auto", lesson: str | None = None, *, cluster: str = "", node_name: str = "", take_over: bool = False
) -> Node:
    """Connect to a node, bringing it up when it is down, and remove what `lesson` left behind last time (nothing else).

    `node` is "auto", "containerd", "kind", "vm" or "cri:ENDPOINT"; the environment variable LABKIT_NODE chooses where it is
    "auto". `cluster` and `node_name` choose among several kind nodes. `lesson`, e.g. "02", is carried by every Pod that is
    started through the returned Node. A notebook is told which kind it is and why, and a second notebook on one lesson is
    refused, unless it is to `take_over`. The Node's `remarks`, which a notebook prints, say what other notebooks have left.
    Raises NodeError with what to do when no node can be had.
    """
    if not isinstance(lesson, str | None):
        raise NodeError(f"A lesson is a text, not {lesson!r}.", 'Write lesson="04", in quotation marks.')
    environment.prepare_client()
    progress.only_errors()
    home = Home.find()
    selector, why = discovery.resolve_usable(NodeSelector.parse(node, cluster, node_name), home)
    if lesson and progress.in_notebook():
        lesson_lock.claim(home, selector, lesson, take_over=take_over)
    with progress.shown() as show:
        connected = discovery.kinds()[selector.kind].connect(home, selector, why=why, lesson=lesson, progress=show)
        connected.remove_leftovers()
        connected.remarks += unfinished.sentences(connected)
    if progress.in_notebook():  # on one line: what differs between nodes is compared by no test of a notebook
        note = f" Note: {' '.join(connected.remarks)}" if connected.remarks else ""
        print(f"Connected to {connected.name}: {connected.runtime}, kind {connected.kind} ({connected.why}).{note}")
    return connected
