"""What a check of an exercise says, and which checks there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labkit.node import Node


@dataclass(frozen=True)
class Check:
    """The verdict on an exercise. Its repr is one line; `done` is for programs."""

    done: bool
    says: str

    def __repr__(self) -> str:
        return f"{'Done' if self.done else 'Not yet'}: {self.says}"


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
