"""Whether a kind of node can work here: a row of `labkit doctor`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """`why` is why it can or cannot; `fix` is the command or the step that would make it usable, "" where it is."""

    kind: str
    usable: bool
    why: str
    fix: str
