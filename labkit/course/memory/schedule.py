"""When a question comes back: by FSRS, the rule that spaced-repetition programs use (https://github.com/open-spaced-repetition).

A question's state is computed from its answers each time, so the file needs no second truth.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.course.memory.progress_store import LearnerEvent
from labkit.course.quiz import Question, directory, quiz, shuffled
from labkit.util.errors import NodeError

if TYPE_CHECKING:
    from fsrs import Scheduler

ANSWERS = ("prediction", "review")
MOST = 3
MOMENT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Remembered:
    """A question that was answered: whether the last answer was wrong, what the learner's node showed, and when it is due."""

    question: str
    wrong: bool
    seen: Any
    due: datetime

    def is_due(self, now: datetime) -> bool:
        return self.wrong or self.due <= now


@cache
def scheduler() -> Scheduler:
    """FSRS without its steps of minutes, which are for a list of words, and without chance."""
    from fsrs import Scheduler

    return Scheduler(learning_steps=(), relearning_steps=(), enable_fuzzing=False)


def cards(events: Iterable[LearnerEvent]) -> dict[str, Remembered]:
    """What is remembered of each question that was answered, by its id."""
    answers = [event for event in events if event.kind in ANSWERS and isinstance(event.detail.get("right"), bool)]
    if not answers:
        return {}
    from fsrs import Card, Rating

    found: dict[str, tuple[Any, Remembered]] = {}
    for event in answers:
        card = found[event.item][0] if event.item in found else Card(card_id=1)
        at = max(event.at, card.last_review + MOMENT) if card.last_review else event.at  # a clock may be put back
        rating = Rating.Good if event.detail["right"] else Rating.Again
        card, _ = scheduler().review_card(card, rating, review_datetime=at)
        remembered = Remembered(event.item, not event.detail["right"], event.detail.get("seen"), card.due)
        found[event.item] = (card, remembered)
    return {item: remembered for item, (_, remembered) in found.items()}


def chosen(
    lesson: str, events: Iterable[LearnerEvent], now: datetime, among: Mapping[str, Question] | None = None
) -> list[str]:
    """Up to three questions of earlier lessons: those answered wrongly first, then those that are due, then others that can be
    asked apart from their experiment, the unanswered before the answered. among: instead of the questions of this course."""
    known = cards(events)
    earlier = {name: each for name, each in (questions() if among is None else among).items() if name[:2] < lesson}
    asked = sorted((each for name, each in known.items() if name in earlier), key=lambda each: (not each.wrong, each.due))
    again = [each.question for each in asked if each.is_due(now)]
    apart = tuple(name for name, each in earlier.items() if each.later and name not in again)
    others = shuffled(f"the opening of {lesson}", apart)
    return [*again, *sorted(others, key=lambda name: name in known)][:MOST]


def questions() -> dict[str, Question]:
    """The questions of all lessons by id; those of a file that cannot be read are left out."""
    found: dict[str, Question] = {}
    with contextlib.suppress(NodeError):
        for path in sorted(directory().glob("[0-9][0-9].yaml")):
            found |= _questions(path)
    return found


@cache
def _questions(path: Path) -> dict[str, Question]:
    try:
        return quiz(path)
    except NodeError:
        return {}
