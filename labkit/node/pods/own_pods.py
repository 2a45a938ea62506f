"""`node.own_pods`: which Pods of a node this lab made by hand, and their removal. It touches no other Pod."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from labkit.cri import CriClient
from labkit.cri.pods import PodSnapshot
from labkit.cri.v1 import api_pb2
from labkit.node.pods import operations
from labkit.node.state.ledger import LESSON, MANAGED_BY, Ledger
from labkit.podspec import DefaultedPod, with_defaults
from labkit.util.errors import NodeError

Manifest = Mapping[str, Any]
RemoveFiles = Callable[[api_pb2.PodSandbox], None]
"""Removes what the runtime does not: a kubelet's files and cgroup of a Pod."""


class OwnPodsNode(Protocol):
    """A node, as far as it is needed here."""

    name: str
    lesson: str | None
    ledger: Ledger | None

    @property
    def cri(self) -> CriClient: ...


class OwnPods:
    """The Pods that this lab made on a node by CRI calls. Each carries the labels MANAGED_BY and, in a lesson, LESSON."""

    def __init__(self, node: OwnPodsNode, remove_files: RemoveFiles = lambda sandbox: None) -> None:
        self.node, self.remove_files = node, remove_files

    def manifest(self, pod: Manifest | Any) -> DefaultedPod:
        """The manifest with the API server's defaults and labkit's labels; its uid is noted. Raises ManifestError."""
        filled = with_defaults(pod, node_name=self.node.name)
        labels = filled["metadata"].setdefault("labels", {})
        labels[MANAGED_BY] = "labkit"
        if self.node.lesson:
            labels.setdefault(LESSON, self.node.lesson)
        self.note(filled)
        return DefaultedPod(filled)

    def note(self, pod: Manifest) -> None:
        """Write down that this Pod may be made by hand: its uid, by which it is known as this lab's."""
        uid = pod["metadata"].get("uid")
        if self.node.ledger and uid and is_ours(pod["metadata"].get("labels")):
            self.node.ledger.note("pod", uid=str(uid))

    def has(self, sandbox: api_pb2.PodSandbox) -> bool:
        """Whether this lab made a Pod: labkit's label is on it and, on a node that other labs may use too, its uid was noted."""
        ledger = self.node.ledger
        return is_ours(sandbox.labels) and (ledger is None or ledger.has_pod(sandbox.metadata.uid))

    def is_of_lesson(self, sandbox: api_pb2.PodSandbox) -> bool:
        """Whether this lesson made a Pod: what a cell that is run again may replace."""
        return bool(self.node.lesson) and sandbox.labels.get(LESSON) == self.node.lesson and self.has(sandbox)

    def sandboxes(self, pod: PodSnapshot | Manifest | str) -> list[api_pb2.PodSandbox]:
        """The sandboxes of a Pod as the runtime lists them, whoever made it: none, one, or several of which one is ready."""
        if isinstance(pod, PodSnapshot):
            return list(self.node.cri.list_pod_sandbox(filter={"id": pod.id}).items)
        listed = self.node.cri.list_pod_sandbox().items
        if isinstance(pod, str):
            return [s for s in listed if s.metadata.name == pod]
        metadata = pod["metadata"]
        wanted = {"name": metadata["name"], "namespace": metadata.get("namespace", "default"), "uid": metadata.get("uid")}
        return [s for s in listed if all(v in (None, getattr(s.metadata, k)) for k, v in wanted.items())]

    def remove(self, pod: PodSnapshot | Manifest | str) -> None:
        """See `Node.remove_pod`."""
        for sandbox in self.sandboxes(pod):
            if not self.has(sandbox):
                who = "this lab" if is_ours(sandbox.labels) else "labkit"
                raise NodeError(
                    f"The Pod {sandbox.metadata.name} was not made by {who}.", "Remove it with the tool that made it."
                )
            self.remove_sandbox(sandbox)

    def remove_sandbox(self, sandbox: api_pb2.PodSandbox) -> None:
        """Stop and remove a sandbox as the runtime listed it, with its containers, files and cgroups."""
        operations.remove_sandbox(self.node.cri, sandbox.id)
        self.remove_files(sandbox)

    def remove_container(self, pod: PodSnapshot | Manifest | str, name: str, attempt: int) -> None:
        """See `Node.remove_container`."""
        for sandbox in filter(self.has, self.sandboxes(pod)):
            operations.remove_containers(self.node.cri, sandbox.id, name, attempt)

    def remove_all(self, labels: Mapping[str, str] | None = None) -> list[str]:
        """Remove the Pods of this lab, those with certain labels only where any are given; their names."""
        wanted = {"label_selector": {MANAGED_BY: "labkit", **(labels or {})}}
        own = [s for s in self.node.cri.list_pod_sandbox(filter=wanted).items if self.has(s)]
        for sandbox in own:
            self.remove_sandbox(sandbox)
        return sorted(s.metadata.name for s in own)


def is_ours(labels: Mapping[str, str] | None) -> bool:
    """Whether a Pod's labels say that labkit made it."""
    return (labels or {}).get(MANAGED_BY) == "labkit"


def no_pod(pod: PodSnapshot | Manifest | str, there: Sequence[str]) -> NodeError:
    """Why a node has no such Pod. there: the names of those that it has."""
    name = pod if isinstance(pod, str) else pod.name if isinstance(pod, PodSnapshot) else pod["metadata"]["name"]
    if name in there:
        return NodeError(
            f"Your Pod {name} is gone: another run of a cell, or another notebook, has started the {name} that is here now.",
            "Run the notebook again from its first cell.",
        )
    return NodeError(f"There is no Pod {name} on this node.", f"It has {', '.join(there) or 'none'}.")
