"""What a check says: what it saw, what is missing, one hint after another, and where it was taught."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from authoring.lesson import find
from labkit.course import checks
from labkit.course.verdict import Check, passed, refused
from labkit.node import Node
from tests.conftest import ROOT

SOURCES = sorted((ROOT / "labkit/course/checks").glob("*.py"))


class Somebody:
    """In place of a node: a check that looks at nothing needs none."""


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Check]:
    """What the check of the exercise 99.1 finds, call after call."""
    verdicts: list[Check] = []
    monkeypatch.setitem(checks.CHECKS, "99.1", lambda node: verdicts.pop(0))
    return verdicts


def missing(what: str, saw: str = "nothing.") -> Check:
    return refused(saw, what, "Look.", "Look again.", taught="notebook 00, “Connect”")


def asked(node: object) -> str:
    return repr(checks.check("99.1", node))  # type: ignore[arg-type]


def test_a_verdict_says_what_it_saw_what_is_missing_a_hint_and_where_it_was_taught() -> None:
    assert repr(missing("a Pod.")).splitlines() == [
        "Not yet: nothing.", "Missing: a Pod.", "Hint 1 of 2: Look.", "Taught in notebook 00, “Connect”.",
    ]
    assert repr(passed("it runs.")) == "Done: it runs."


def test_without_progress_the_next_hint_is_given_and_at_last_the_last_again(found: list[Check]) -> None:
    node = Somebody()
    found += [missing("a Pod."), missing("a Pod.", "another number."), missing("a Pod.")]
    assert [re.findall(r"Hint (\d)", asked(node))[0] for _ in range(3)] == ["1", "2", "2"]


def test_with_progress_the_hints_begin_again(found: list[Check]) -> None:
    node = Somebody()
    found += [missing("a Pod."), missing("a container."), missing("a Pod.")]
    assert ["Hint 1" in asked(node) for _ in range(3)] == [True, True, True]


def test_another_node_is_given_its_own_first_hint(found: list[Check]) -> None:
    found += [missing("a Pod."), missing("a Pod.")]
    assert "Hint 1" in asked(Somebody()) and "Hint 1" in asked(Somebody())


def test_an_unknown_exercise_is_named_with_those_there_are() -> None:
    with pytest.raises(KeyError, match=r"There is no exercise '99\.9'; there are 00\.1, "):
        checks.check("99.9", Node)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_where_it_was_taught_is_a_heading_of_that_notebook(path: Path) -> None:
    for number, heading in re.findall(r"notebook (\d\d), “([^”]+)”", path.read_text()):
        text = "\n".join(cell.source for cell in find(number).prose).replace("`", "")
        assert re.search(rf"(?m)^#+ {re.escape(heading)}$", text), f"notebook {number} has no heading {heading!r}"
