"""What several checks look for in a Pod."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.pods import PodProcess, PodSnapshot

if TYPE_CHECKING:
    from labkit.node import Node


def find(node: Node, name: str) -> PodSnapshot | None:
    return next((p for p in node.pods() if p.name == name and p.state == "Ready"), None)


def applications(pod: PodSnapshot) -> list[PodProcess]:
    return [p for p in pod.processes if p.role == "application"]
