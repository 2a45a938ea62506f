"""Check of lesson 08, The incident."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.course.incident import incident_store as store
from labkit.course.incident import session
from labkit.course.verdict import Check, exercise, refused
from labkit.node.state.home import Home

if TYPE_CHECKING:
    from labkit.node import Node

SEED = 3


@exercise("08.1")
def closed(node: Node) -> Check:
    """08.1: the incident of seed 3 is closed: its cause and the evidence are named, and the repair holds."""
    home = Home.find()
    state = store.load(home)
    if state is None or state.seed != SEED:
        return refused(
            "no incident of this exercise is open.",
            f"the incident of seed {SEED}. The cell above this one opens it: labkit.open_incident(node, seed={SEED}).",
            taught="notebook 08, “Exercise 08.1”",
        )
    with store.alone(home):
        return session.check(node, home, "", "")
