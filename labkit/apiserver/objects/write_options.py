"""How an object is written or deleted: what a request's parameters say, and DeleteOptions."""

from __future__ import annotations

from dataclasses import dataclass, field

ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"
"""Finalizers by which a deletion waits for the garbage collector."""


@dataclass(frozen=True)
class Options:
    """How a write is meant. `validation` is Strict, Warn or Ignore (unknown fields); words for the client go to `warnings`.
    `twice`: words about fields that the body has twice."""

    manager: str = "labkit"
    dry_run: bool = False
    validation: str = "Ignore"
    force: bool = False
    warnings: list[str] = field(default_factory=list)
    twice: tuple[str, ...] = ()


@dataclass(frozen=True)
class Deletion:
    """DeleteOptions: seconds of grace (None: the Pod's own), what the object must still be, and what becomes of its dependents
    (Foreground, Background, Orphan; "": what its finalizers say, else Background)."""

    grace: int | None = None
    uid: str = ""
    resource_version: str = ""
    propagation: str = ""

    def finalizers(self, there: list[str]) -> list[str]:
        """The object's finalizers from now on."""
        own = {"Orphan": ORPHAN, "Foreground": FOREGROUND}.get(self.propagation)
        kept = [each for each in there if each not in (ORPHAN, FOREGROUND)] if self.propagation else there
        return [*kept, own] if own else kept


DEFAULT = Options()
BY_ITS_OWN = Deletion()
