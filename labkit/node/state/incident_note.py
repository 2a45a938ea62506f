"""Whether a fault has been made on purpose and is to be found (`labkit.course.incident`): nothing of the lab repairs it in
passing, or says which one it is."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from labkit.node.state.home import Home

NAME = "incident"
"""The file in the home's data. Its text is no secret, but nobody reads the fault's name in it who only lists the files."""
NETWORK, RUNTIME = "network", "runtime"
"""What an incident `holds`: the node's network configuration; its container runtime, which does not run."""
OPEN_HERE = "An incident is open on this node"


def encoded(state: Mapping[str, Any]) -> bytes:
    return base64.encodebytes(json.dumps(state).encode())


def decoded(text: bytes) -> dict[str, Any]:
    """Raises ValueError where it is something else."""
    found = json.loads(base64.b64decode(text, validate=False))
    if not isinstance(found, dict):
        raise ValueError("no object")
    return found


def read(home: Home) -> dict[str, Any]:
    """The incident's state; empty where there is none, or its file is damaged."""
    try:
        return decoded((home.data / NAME).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}


def is_open(home: Home, kind: str, node: str = "") -> bool:
    """Whether an incident is open on a node of this kind (and name, where that is known), or is being made there."""
    state = read(home)
    return state.get("phase") in ("making", "open") and state.get("kind") == kind and node in ("", state.get("node"))


def holds(home: Home, what: str, kind: str, node: str = "") -> bool:
    """Whether an incident that is open there has broken this."""
    return is_open(home, kind, node) and what in (read(home).get("holds") or ())


def veiled(home: Home, report: dict[str, Any]) -> dict[str, Any]:
    """A node's report without what would tell the fault of an incident that is open there, the same for all faults: "incident"
    is then its state, where it is up."""
    if report["state"] not in ("ready", "restarting", "stopped", "degraded") or not is_open(home, report["node"]):
        return report
    return {key: report[key] for key in ("node", "endpoint", "pid", "since")} | {"state": "incident", "runtime": None}
