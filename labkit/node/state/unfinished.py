"""What earlier notebooks have left on a node, in a sentence each with what to do: `labkit.connect` says it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Protocol

from labkit.cri import CriClient, CriError
from labkit.node.state import incident_note
from labkit.node.state.home import Home
from labkit.node.state.ledger import HOME, INCIDENT, LESSON, Ledger
from labkit.node.state.runtime_daemon import RuntimeDaemon
from labkit.util.errors import NodeError

INCIDENTS = "08"
"""The notebook of incidents."""


class UnfinishedNode(Protocol):
    """A node, as far as it is needed here."""

    kind: str
    name: str
    lesson: str | None
    ledger: Ledger | None

    @property
    def cri(self) -> CriClient: ...
    @property
    def daemon(self) -> RuntimeDaemon: ...
    def kubelet_held(self) -> Any: ...


def sentences(node: UnfinishedNode) -> list[str]:
    """What is unfinished, but for what `connect` has finished already. What cannot be found out is left out."""
    found: list[str] = []
    for look in (of_version, of_kubelet, of_pods, of_incident):
        with contextlib.suppress(NodeError, CriError):
            found += look(node)
    return found


def of_version(node: UnfinishedNode) -> list[str]:
    """Of a containerd that was replaced."""
    daemon = node.daemon
    if daemon.version == daemon.first_version:
        return []
    now = f"containerd is {daemon.version} instead of {daemon.first_version}"
    back = "`labkit containerd downgrade default`"
    if not daemon.changed_by:
        return [f"{now[0].upper()}{now[1:]}; {back} brings that back."]
    return [f"Notebook {daemon.changed_by} was left half-way: {now}; its last cell brings that back, or {back}."]


def of_kubelet(node: UnfinishedNode) -> list[str]:
    """Of a kubelet that another notebook has suspended."""
    if not node.kubelet_held().others():
        return []
    return [
        f"Another notebook has suspended the kubelet of {node.name}, so Pods made through the API do not start until that"
        " notebook's last cell has run or its kernel has ended."
    ]


def of_pods(node: UnfinishedNode) -> list[str]:
    """Of Pods that other lessons of this home have left running. An incident's are no lesson's."""
    left: dict[str, set[str]] = {}
    for sandbox in node.cri.unrecorded().list_pod_sandbox().items:
        lesson, home = sandbox.labels.get(LESSON), sandbox.labels.get(HOME)
        ours = node.ledger is None or home == node.ledger.mark or node.ledger.has_pod(sandbox.metadata.uid)
        if lesson and lesson != node.lesson and ours and INCIDENT not in sandbox.labels:
            left.setdefault(lesson, set()).add(sandbox.metadata.name)
    return [
        f"Notebook {lesson} has left {'the Pod' if len(pods) == 1 else 'the Pods'} {', '.join(sorted(pods))}; its last cell"
        f" removes {'it' if len(pods) == 1 else 'them'}."
        for lesson, pods in sorted(left.items())
    ]


def of_incident(node: UnfinishedNode) -> list[str]:
    """Of an incident, for every other notebook than its own."""
    if node.lesson in (None, INCIDENTS) or not incident_note.is_open(Home.find(), node.kind, node.name):
        return []
    return [f"{incident_note.OPEN_HERE}, so cells may fail here that otherwise do not. `labkit incident end` ends it."]


def of_stopped(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Of a containerd that `connect` has started. before: the status (`labkit.node.state.status`) that it found."""
    if before["state"] != "stopped" or now["state"] == "stopped":
        return []
    by = before.get("stopped_by")
    what = f"Notebook {by} was left half-way: its containerd" if by else "The node's containerd"
    return [f"{what} was stopped, and has been started again."]


NETWORK = "The network was still broken by notebook 05; it has been repaired."
"""`Node.remove_leftovers` has repaired it."""
