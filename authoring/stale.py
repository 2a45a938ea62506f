"""Find outputs whose words are no longer those of the quizzes: a question, an opening that asks it again, a verdict."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from authoring.lesson import Lesson, lessons
from labkit.course.answer import verdict
from labkit.course.memory import schedule
from labkit.course.memory.opening import in_plain_text
from labkit.course.order import Order
from labkit.course.predict import Prediction
from labkit.course.quiz import Question, quiz

ASKED = re.compile(r'(?:(\w+) *= *)?labkit\.(?:predict|predict_order)\(\s*"([^"]+)"\s*\)')
OPENING = re.compile(r'labkit\.review\(\s*"(\d\d)"\s*\)')
REPORTED = re.compile(r"\b(\w+)\.seen\(")
PLAIN, MARKDOWN = "text/plain", "text/markdown"


def stale(lesson: Lesson) -> Iterator[tuple[int, str]]:
    """Each output that differs from what the cell would show now: its cell, and what differs. Raises NodeError where a quiz
    cannot be read."""
    questions = {name: each for other in lessons(lesson.root) if other.quiz.exists() for name, each in quiz(other.quiz).items()}
    names: dict[str, str] = {}
    for cell in lesson.code:
        shown = [output["data"] for output in cell.outputs if "data" in output]
        plain = ["".join(data.get(PLAIN, "")) for data in shown]
        names |= {name: asked for name, asked in ASKED.findall(cell.source) if name}
        for name, asked in ASKED.findall(cell.source):
            now = question_now(questions.get(asked))
            if now and shows(cell.source, name) and plain and now not in plain:
                yield cell.number, f"its output does not have the question {asked} as it is now"
        for number in OPENING.findall(cell.source):
            again = [questions[name] for name in schedule.chosen(number, [], datetime.now(UTC), questions)]
            if plain and in_plain_text(again) not in plain:
                yield cell.number, "its output does not have the questions of the opening as they are now"
        for name in REPORTED.findall(cell.source):
            asked = questions.get(names.get(name, ""))
            verdicts = [data for data in shown if MARKDOWN in data]
            if asked and verdicts and all(differs(data, asked) for data in verdicts):
                yield cell.number, f"its output does not have the verdict on {asked.id} as it is now"


def shows(source: str, name: str) -> bool:
    """Whether a cell's last expression is the question."""
    last = source.strip().splitlines()[-1].strip()
    return last == name or (not name and last.startswith("labkit."))


def question_now(asked: Question | None) -> str:
    return "" if asked is None else repr(Order(asked) if asked.steps else Prediction(asked))


def differs(data: Mapping[str, Any], asked: Question) -> bool:
    """Whether a verdict of nobody's choice is not the one that the quiz gives now on what was seen then."""
    plain = "".join(data[PLAIN])
    if steps := re.findall(r"(?m)^\d+\. (.*)$", plain):
        return set(steps) != set(asked.steps) or markdown(Order(asked).judged(steps)) != "".join(data[MARKDOWN])
    seen = None if asked.steps else re.match(r"Seen: (.*?)\. You did not commit", plain)
    return seen is not None and markdown(verdict(asked, seen[1], None)) != "".join(data[MARKDOWN])


def markdown(judged: Any) -> str:
    return str(judged._repr_mimebundle_()[MARKDOWN])
