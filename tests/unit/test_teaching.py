"""docs/teaching.md names what the lessons have: their times, and the wrong answers of their quizzes."""

from __future__ import annotations

import re

import pytest

from authoring.lesson import find, lessons
from labkit.course.quiz import question
from tests.conftest import ROOT

PAGE = (ROOT / "docs/teaching.md").read_text()
MISCONCEPTIONS = re.findall(r"(?m)^\| [^|]+ \| (\d\d\.[a-z0-9-]+) \| ([^|]+) \|$", PAGE)


def test_times_are_those_of_the_notebooks() -> None:
    named = dict(re.findall(r"(?m)^\| (\d\d) [^|]+ \| (\d+) \|", PAGE))
    own = {each.number: re.search(r"\(about (\d+) minutes", each.cells[0].source) for each in lessons()}
    assert named == {number: found[1] for number, found in own.items() if found}


@pytest.mark.parametrize(("identifier", "answer"), MISCONCEPTIONS)
def test_a_misconception_is_a_wrong_answer_of_a_quiz(identifier: str, answer: str) -> None:
    asked = question(identifier, find(identifier[:2]).quiz.parent.parent)
    assert answer in [option.answer for option in asked.options if option.tempts]


def test_every_lesson_meets_a_misconception() -> None:
    assert {identifier[:2] for identifier, _ in MISCONCEPTIONS} == {lesson.number for lesson in lessons()}


def test_the_workshop_takes_three_hours() -> None:
    workshop = PAGE[PAGE.index("## A workshop") : PAGE.index("## A term")]
    assert sum(map(int, re.findall(r"(?m)^\| (\d+) \|", workshop))) == 180


def test_the_exercises_of_the_term_are_there() -> None:
    term = PAGE[PAGE.index("## A term") : PAGE.index("## Collect")]
    exercises = re.findall(r"\d\d\.\d", term)
    assert exercises and [name for name in exercises if name not in find(name[:2]).starters()] == []
