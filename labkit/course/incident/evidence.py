"""Whether what a learner names as evidence shows the fault: something that only this fault has, or the words of a warning."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from labkit.course.incident.fault import Fault, Scene

SHORTEST_QUOTE = 15
"""So many letters of a message are no accident."""
GENERAL = {"Failed", "Error", "Completed", "ContainerCreating", "PodInitializing"}
"""Reasons that any Pod may have, or that are words of every day."""


def signs(scene: Scene) -> dict[str, list[str]]:
    """What the cluster tells of the user's Pod: the reasons and messages of its warnings and of its containers' states."""
    reasons, messages = set[str](), set[str]()
    if pod := scene.pod():
        for event in scene.node.cluster.warnings(pod["metadata"]["name"]):
            reasons.add(event.reason)
            messages.add(event.message)
        statuses = pod.get("status", {})
        for status in [*statuses.get("initContainerStatuses", []), *statuses.get("containerStatuses", [])]:
            for state in (*status.get("state", {}).values(), *status.get("lastState", {}).values()):
                reasons.add(state.get("reason", ""))
                messages.add(state.get("message", ""))
    return {"reasons": sorted(reasons - GENERAL - {""}), "messages": sorted(messages - {""})}


def merged(*found: Mapping[str, list[str]]) -> dict[str, list[str]]:
    return {part: sorted({text for each in found for text in each.get(part, [])}) for part in ("reasons", "messages")}


def shows(chosen: Fault, kept: Mapping[str, Any], text: str) -> bool:
    """Whether the text has what only this fault has (a value, a name, a path), a warning's reason, or a part of its message that
    does not stand in the user's manifest."""
    if any(re.search(pattern, text, re.IGNORECASE) for pattern in chosen.evidence):
        return True
    if {*kept.get("values", ())} & {*words(text)}:
        return True
    signs = kept.get("signs", {})
    if {reason.lower() for reason in signs.get("reasons", ())} & {*words(text)}:
        return True
    return is_quoted(text, signs.get("messages", ()), {*words(str(kept.get("manifest", "")))})


def is_quoted(text: str, messages: Iterable[str], known: set[str]) -> bool:
    sources = [f" {' '.join(words(message))} " for message in messages]
    return any(f" {' '.join(run)} " in source for run in runs(words(text), known) for source in sources)


def runs(found: list[str], known: set[str]) -> Iterator[list[str]]:
    """Words, one or successive ones, that are long enough to be a quote, and not all `known`."""
    for first in range(len(found)):
        for last in range(first + 1, len(found) + 1):
            run = found[first:last]
            if len("".join(run)) >= SHORTEST_QUOTE and not known.issuperset(run):
                yield run


def words(text: str) -> list[str]:
    return [word for word in (each.strip(".:/-=") for each in re.findall(r"[\w.:/@=%-]+", text.lower())) if word]
