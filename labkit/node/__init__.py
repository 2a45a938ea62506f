"""Where Pods run: one module a kind, all behind one Node."""

from __future__ import annotations

import os

from labkit.node import containerd, discovery, progress
from labkit.node.base import Node
from labkit.node.discovery import Verdict, examine
from labkit.node.errors import NodeError
from labkit.node.home import Home

__all__ = ["Home", "Node", "NodeError", "Verdict", "connect", "examine"]


def connect(node: str = "auto", lesson: str | None = None) -> Node:
    """Connect to a node, bringing it up when it is down, and remove what `lesson` left behind last time (nothing else).

    `node` is a kind ("auto", "containerd"); the environment variable LABKIT_NODE chooses where it is "auto". `lesson`,
    e.g. "02", is
    carried by every Pod that is started through the returned Node. A notebook is told which kind it is and why. Raises
    NodeError with what to do when no node can be had.
    """
    if node == "auto":
        node = os.environ.get("LABKIT_NODE") or "auto"
    home = Home.find()
    verdict = discovery.choose(node, home)
    with progress.shown() as show:
        connected = containerd.connect(home, why=verdict.why, lesson=lesson, progress=show)
        connected.remove_leftovers()
    if progress.in_notebook():
        print(f"Connected to {connected.name}: {connected.runtime}, kind {connected.kind} ({connected.why}).")
    return connected
