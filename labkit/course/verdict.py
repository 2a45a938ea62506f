"""What a check of an exercise says, and which checks there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labkit.node import Node


@dataclass(frozen=True)
class Check:
    """The verdict on an exercise: what the check saw; while it is not done also what is missing, a hint, and where it was taught.

    `hints` go from the first to the plainest; none is the solution. The repr shows the one of number `given`.
    """

    done: bool
    saw: str
    missing: str = ""
    hints: tuple[str, ...] = ()
    taught: str = ""
    given: int = 0

    def with_hint(self, number: int) -> Check:
        """With the hint of that number, or with the last."""
        return replace(self, given=max(0, min(number, len(self.hints) - 1)))

    @property
    def says(self) -> str:
        return f"{self.saw} {self.missing}".strip()

    def __repr__(self) -> str:
        if self.done:
            return f"Done: {self.saw}"
        lines = [f"Not yet: {self.saw}", f"Missing: {self.missing}"]
        lines += [f"Hint {self.given + 1} of {len(self.hints)}: {self.hints[self.given]}"] if self.hints else []
        return "\n".join([*lines, f"Taught in {self.taught}."])


def passed(saw: str) -> Check:
    """The exercise is done."""
    return Check(True, saw)


def refused(saw: str, missing: str, *hints: str, taught: str) -> Check:
    """The exercise is not done. taught: "notebook 02, “Who shares what?”"."""
    return Check(False, saw, missing, hints, taught)


CHECKS: dict[str, Callable[[Node], Check]] = {}
"""The check of each exercise, filled by `exercise`."""


def exercise(number: str) -> Callable[[Callable[[Node], Check]], Callable[[Node], Check]]:
    """Register the check of exercise "00.1", "02.2", …: `@exercise("00.1")`. Raises ValueError where there is one already."""

    def register(check: Callable[[Node], Check]) -> Callable[[Node], Check]:
        if number in CHECKS:
            raise ValueError(f"There are two checks of exercise {number}: {CHECKS[number].__name__} and {check.__name__}.")
        CHECKS[number] = check
        return check

    return register
