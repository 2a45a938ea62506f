"""Every option of every question is what a notebook's own code reports, given a state of the node.

The cell that reports runs as it is in the notebook; what it reads from the node, and from cells before it, is in quiz_states.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace as Some
from unittest.mock import MagicMock

import pytest

from authoring.lesson import Cell, lessons
from authoring.stale import ASKED
from labkit.course.quiz import quiz
from tests.unit.quiz_states import STATES, State, lab, node

LESSONS = list(lessons())


def cells() -> Iterator[tuple[str, str, Cell]]:
    """Each question's id, the name that its notebook gives it, and the cell that reports to it."""
    for lesson in LESSONS:
        names: dict[str, str] = {}
        for cell in lesson.code:
            names |= {name: asked for name, asked in ASKED.findall(cell.source) if name}
            yield from ((asked, name, cell) for name, asked in names.items() if f"{name}.seen(" in cell.source)


CELLS = {asked: (name, cell) for asked, name, cell in cells()}
QUESTIONS = {name: asked for lesson in LESSONS for name, asked in quiz(lesson.quiz).items() if asked.options}


def reported(asked: str, state: State) -> list[str]:
    """What the notebook's cell reports to the question in that state."""
    name, cell = CELLS[asked]
    seen: list[str] = []
    answers: Callable[[str], None] = seen.append
    options = tuple(option.answer for option in QUESTIONS[asked].options)
    names = {
        "node": node(),
        "cluster": MagicMock(),
        "labkit": lab(),
        "pod": MagicMock(),
        name: Some(seen=answers, options=options),
    }
    exec(compile(cell.source, f"notebook {asked[:2]}, cell {cell.number}", "exec"), {**names, **state})
    return seen


@pytest.mark.parametrize(("asked", "option"), [(asked, option) for asked, rows in STATES.items() for option in rows])
def test_a_state_of_the_node_makes_the_notebook_report_the_option(asked: str, option: str) -> None:
    assert reported(asked, STATES[asked][option]) == [option]


def test_every_option_of_every_question_has_its_state() -> None:
    assert {asked: set(rows) for asked, rows in STATES.items()} == {
        name: {option.answer for option in asked.options} for name, asked in QUESTIONS.items()
    }
