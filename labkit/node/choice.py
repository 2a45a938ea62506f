"""Which node is meant: a kind, and where there are several of that kind, which. `labkit up` writes it down; notebooks follow."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from labkit.node.home import Home


@dataclass(frozen=True)
class Choice:
    """`kind` is "kind", "containerd", "vm", "cri" or "auto". `cluster` and `node_name` choose among kind nodes, `endpoint` is
    that of kind "cri"."""

    kind: str
    cluster: str = ""
    node_name: str = ""
    endpoint: str = ""

    @classmethod
    def parse(cls, node: str, cluster: str = "", node_name: str = "", environ: Mapping[str, str] | None = None) -> Choice:
        """From "kind", "cri:unix:///run/x.sock", …; what is left open comes from LABKIT_NODE, LABKIT_CLUSTER and
        LABKIT_NODE_NAME."""
        environ = os.environ if environ is None else environ
        if node == "auto":
            node = environ.get("LABKIT_NODE") or "auto"
        kind, _, endpoint = node.partition(":")
        return cls(kind, cluster or environ.get("LABKIT_CLUSTER", ""), node_name or environ.get("LABKIT_NODE_NAME", ""), endpoint)


def remember(home: Home, choice: Choice) -> None:
    """Note a node that `up` brought: the last one is what "auto" means from now on, all of them are what `clean` cleans."""
    known = [c for c in remembered(home) if c != choice]
    home.data.mkdir(parents=True, exist_ok=True, mode=0o711)
    (home.data / "nodes.json").write_text(json.dumps([asdict(c) for c in [*known, choice]], indent=1))


def remembered(home: Home) -> list[Choice]:
    """Every node that `up` brought since the last `clean`, the newest last."""
    try:
        return [Choice(**c) for c in json.loads((home.data / "nodes.json").read_text())]
    except (OSError, ValueError, TypeError):
        return []


def forget(home: Home, choice: Choice) -> None:
    known = [c for c in remembered(home) if c != choice]
    if (home.data / "nodes.json").exists():
        (home.data / "nodes.json").write_text(json.dumps([asdict(c) for c in known], indent=1))
