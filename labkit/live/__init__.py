"""Panels that follow a node while a learner works, and the replay of a recording: widgets that show labkit's own figures.

    labkit.live.tree(node)        the processes of the node and its Pods
    labkit.live.namespaces(node)  who shares which namespace
    labkit.live.pods(node)        the Pods, and their events from the cluster's API
    labkit.live.menu(node)        three buttons, which open them
    flight.replay()               a recording, at any speed and step by step

A panel looks at the node when something there has changed (`feeds.py` says who tells it), never because time has passed. It ends
with the kernel of the notebook, with `.close()`, and when another panel of the same kind is opened for the same node. Where
no widget is shown, it is the figure as it was when its cell ran.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from labkit.live import follower, views
from labkit.live.panel import Menu, Panel
from labkit.live.replaying import Replay as Replay


def tree(node: Any) -> Panel:
    """A panel with the node's processes (`labkit.process_tree`). node: a Node. It opens also on a node that is down, says so, and
    shows the node as soon as it is up. Raises TypeError for what is no node."""
    return follower.of(node).join(Panel(views.TREE))


def namespaces(node: Any) -> Panel:
    """A panel with the namespaces of the node's Pods (`labkit.namespace_matrix`). As `tree`."""
    return follower.of(node).join(Panel(views.NAMESPACES))


def pods(node: Any) -> Panel:
    """A panel with the node's Pods as a table, and the newest events of the namespace "default" where the node is of a cluster
    (`labkit.event_log`). As `tree`."""
    return follower.of(node).join(Panel(views.PODS))


def menu(node: Any) -> Menu:
    """Three buttons that open the panels, each in place of the one before. Nothing runs until one is pressed. Raises TypeError
    for what is no node."""
    follower.refuse_other(node)
    openers = {"Process tree": tree, "Namespaces": namespaces, "Pods and events": pods}
    return Menu({name: partial(opener, node) for name, opener in openers.items()})
