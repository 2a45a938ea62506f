"""Whether a fault has been made on purpose and is to be found (`labkit.course.incident`): no lesson repairs it in passing."""

from __future__ import annotations

from labkit.node.state.home import Home
from labkit.util.outputs import read_note

NAME = "incident.json"
NETWORK = "network"
"""What an incident `holds`: the node's network configuration."""


def holds(home: Home, what: str) -> bool:
    """Whether an incident that is open has broken this."""
    state = read_note(home.data / NAME, dict)
    return state.get("phase") in ("making", "open") and what in (state.get("holds") or ())
