"""Note what a learner does: an answer, a check, a cell. Nothing of this fails."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from labkit.course.memory import cells
from labkit.course.memory.progress_store import LearnerEvent, of_this_learner


def answer(kind: str, question: str, choice: str | Sequence[str], seen: str | Sequence[str], right: bool) -> None:
    """An answer that the learner committed to: kind "prediction" in its lesson, "review" where it was asked again."""
    detail = {"choice": plain(choice), "seen": plain(seen), "right": right}
    of_this_learner().add(LearnerEvent(datetime.now(UTC), kind, question[:2], question, detail))
    if kind == "prediction":
        cells.watch(question[:2])


def check(exercise: str, done: bool, missing: str = "", hint: int = 0) -> None:
    """A check of an exercise, and the number of the hint that was shown; 0 for none."""
    detail = {"done": True} if done else {"done": False, "missing": missing, "hint": hint}
    of_this_learner().add(LearnerEvent(datetime.now(UTC), "check", exercise[:2], exercise, detail))
    cells.watch(exercise[:2])


def opened(lesson: str) -> None:
    """The lesson's notebook runs in this kernel."""
    cells.watch(lesson)


def plain(answer: str | Sequence[str]) -> str | list[str]:
    return answer if isinstance(answer, str) else list(answer)
