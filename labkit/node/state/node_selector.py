"""Selects a node: its kind, and where there are several of that kind, which one. `labkit up` records it, and notebooks follow."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from labkit.util.errors import NodeError
from labkit.util.outputs import PRIVATE, read_note, write_whole

if TYPE_CHECKING:
    from labkit.node.state.home import Home

NODE, CLUSTER, NODE_NAME = "LABKIT_NODE", "LABKIT_CLUSTER", "LABKIT_NODE_NAME"
"""The environment variables that choose a node; the options --node, --cluster and --node-name set them for one command."""
IN_A_CONTAINER = "docker://"
"""How the endpoint of a socket inside of a container begins."""


@dataclass(frozen=True)
class NodeSelector:
    """`kind` is "kind", "containerd", "vm", "cri" or "auto". `cluster` and `node_name` choose among kind nodes, `endpoint` is
    that of kind "cri". What is empty is left open. `engine`, of a node that was found: whose container it is
    (`labkit.node.remote.engine.Engine.address`)."""

    kind: str
    cluster: str = ""
    node_name: str = ""
    endpoint: str = ""
    engine: str = ""

    @classmethod
    def parse(
        cls, node: str = "auto", cluster: str = "", node_name: str = "", environ: Mapping[str, str] | None = None
    ) -> NodeSelector:
        """From "kind", "cri:unix:///run/x.sock", …; what is left open comes from LABKIT_NODE, LABKIT_CLUSTER, LABKIT_NODE_NAME.

        A name given here makes the names below it in the environment void: --cluster b is not looked for under LABKIT_NODE_NAME
        of cluster a. A cluster or a node's name alone means the kind "kind". Raises NodeError where a kind without clusters is
        asked for one.
        """
        environ = os.environ if environ is None else environ
        theirs, by_name = environ.get(NODE) or "auto", bool(cluster or node_name)
        their_cluster, their_name = environ.get(CLUSTER, ""), environ.get(NODE_NAME, "")
        if not {node, theirs} <= {"auto", "kind"}:
            their_cluster = their_name = ""  # they are of a node of kind "kind"
        if cluster not in ("", their_cluster):
            their_name = ""
        if node_name not in ("", their_name):
            their_cluster = ""
        cluster, node_name = cluster or their_cluster, node_name or their_name
        if node == "auto":
            node = "kind" if cluster or node_name else theirs
        kind, endpoint = split(node)
        if by_name and kind != "kind":
            raise NodeError(
                f"A node of kind {kind} has no cluster to be chosen by.",
                "Leave --cluster and --node-name out, or take --node kind.",
            )
        return cls(kind, cluster, node_name, endpoint)

    def fits(self, known: NodeSelector) -> bool:
        """Whether all that is chosen here is so of a node that is known."""
        pairs = zip(asdict(self).items(), asdict(known).values(), strict=True)
        return all(mine in (theirs, "auto" if name == "kind" else "") for (name, mine), theirs in pairs)

    def environ(self) -> dict[str, str]:
        """The environment in which commands mean the same node."""
        node = f"cri:{self.endpoint}" if self.endpoint else self.kind
        words = {NODE: node, CLUSTER: self.cluster, NODE_NAME: self.node_name}
        return {name: word for name, word in words.items() if word and word != "auto"}

    def command(self, verb: str) -> str:
        """A command of labkit's that means this node, to be advised: "labkit up --node vm"."""
        words = self.environ().items()
        options = [w for name, word in words for w in (f"--{name.removeprefix('LABKIT_').lower().replace('_', '-')}", word)]
        return shlex.join(["labkit", verb, *options])

    def __str__(self) -> str:
        return self.node_name or self.endpoint or self.kind


def split(node: str) -> tuple[str, str]:
    """("cri", its endpoint in one spelling) of "cri:ENDPOINT"; of any other kind (the kind, "")."""
    kind, _, endpoint = node.partition(":")
    if kind != "cri" or not endpoint:
        return (node if endpoint else kind), ""
    if "://" in endpoint and not endpoint.startswith(("unix://", IN_A_CONTAINER)):
        raise NodeError(
            f"labkit speaks CRI over a Unix socket, not to {endpoint}.", "Write cri:unix:///PATH or cri:docker://NODE/PATH."
        )
    if not endpoint.startswith(IN_A_CONTAINER):
        endpoint = "unix:///" + endpoint.removeprefix("unix:").lstrip("/")
    return kind, endpoint


def remember(home: Home, selector: NodeSelector, *, as_last: bool = False) -> None:
    """Note a node that was brought up: the last one is what "auto" means from now on, all of them are what `clean` cleans.

    One that is known keeps its place, so that connecting to it changes no other command; `up` puts it last.
    """
    known = remembered(home)
    if selector not in known or as_last:
        home.make()
        write(home, [*(c for c in known if c != selector), selector])


def remembered(home: Home) -> list[NodeSelector]:
    """Every node that was brought up since the last `clean`, the newest last."""
    return [found for entry in read_note(home.data / "nodes.json", list) if (found := of_note(entry))]


def of_note(entry: Any) -> NodeSelector | None:
    """The NodeSelector whose fields were recorded, None where they are no NodeSelector's."""
    with contextlib.suppress(TypeError):
        found = NodeSelector(**entry)
        if all(isinstance(value, str) for value in asdict(found).values()):
            return found
    return None


def forget(home: Home, selector: NodeSelector) -> None:
    if (home.data / "nodes.json").exists():
        write(home, [c for c in remembered(home) if c != selector])


def write(home: Home, known: list[NodeSelector]) -> None:
    write_whole(home.data / "nodes.json", json.dumps([asdict(c) for c in known], indent=1).encode(), PRIVATE)
