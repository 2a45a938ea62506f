"""Notebook 02 from its first cell to its last by keyboard alone: cells, every question and its verdict."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote

from playwright.sync_api import Locator, expect

from tests.browser.learner import Learner
from tests.browser.test_jupyterlab import asks, assert_accessible

TABS = 12
"""Keys that a learner presses at most between a cell and its question, or its verdict's explanation."""
COUNT_POINTER = "window.pointers = 0; addEventListener('pointerdown', () => { window.pointers += 1 }, true)"


def test_notebook_02_by_keyboard_alone(learner: Callable[..., Learner]) -> None:
    """Shift-Enter runs a cell, Tab reaches a question, arrows and Space answer it,
    and Enter folds an explanation. A screen reader finds no fault in any of it."""
    notebook = learner("02")
    notebook.page.evaluate(COUNT_POINTER)
    keys = notebook.page.keyboard
    questions = asks(notebook, "labkit.predict(")
    verdicts = [number for number in asks(notebook, ".seen(") if number not in questions]
    asked: dict[int, str] = {}
    assert len(questions) == len(verdicts) >= 9

    for number in range(len(notebook.cells)):
        notebook.runs_to(number) if number in notebook.cells_of("code") else keys.press("Shift+Enter")
        if number in questions:
            group = notebook.cell(number).get_by_role("radiogroup")
            asked[number] = answers(notebook, group, len(asked))
            keys.press("Escape")
            notebook.runs_to(number)  # the question keeps the answer, and the next cell is selected
            expect(group.get_by_role("radio", name=asked[number], exact=True)).to_be_checked()
        if number in verdicts:
            predicted = asked[max(question for question in asked if question < number)]
            said = notebook.output(number)
            assert f"You predicted {predicted}." in said or f"Seen: {predicted}. You predicted the same." in said
            folds(notebook, number)

    assert not notebook.errors() and set(asked) == set(questions)
    assert_accessible(notebook)
    assert notebook.page.evaluate("window.pointers") == 0


def answers(notebook: Learner, group: Locator, turn: int) -> str:
    """Reach the question with Tab, and choose the option whose turn it is with the arrows; what was chosen."""
    buttons = group.get_by_role("radio").all()
    reaches(notebook, group)
    notebook.page.keyboard.press("Space")
    expect(buttons[0]).to_be_checked()
    place = turn % len(buttons)
    for each in range(place):
        notebook.page.keyboard.press("ArrowDown")
        expect(buttons[each + 1]).to_be_checked()
    return unquote(buttons[place].get_attribute("data-value") or "")


def folds(notebook: Learner, number: int) -> None:
    """The explanation is open for who has committed to an answer. Tab reaches it, Enter folds it."""
    explanation = notebook.cell(number).locator("details")
    expect(explanation).to_have_attribute("open", "")
    reaches(notebook, explanation)
    notebook.page.keyboard.press("Enter")
    expect(explanation).not_to_have_attribute("open", "")


def reaches(notebook: Learner, place: Locator) -> None:
    """Go back by one cell with the arrow, and press Tab until the focus is in `place`."""
    keys = notebook.page.keyboard
    keys.press("Escape")
    keys.press("ArrowUp")
    seen = []
    for _ in range(TABS):
        if place.evaluate("element => element.contains(document.activeElement)"):
            return
        keys.press("Tab")
        seen.append(notebook.page.evaluate("() => document.activeElement.outerHTML.slice(0, 120)"))
    raise AssertionError("Tab does not reach it, but: " + "\n".join(seen))
