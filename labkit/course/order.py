"""A question about an order: the learner clicks the steps in the order that she expects, before she looks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from labkit.course.answer import NOT_COMMITTED, Verdict
from labkit.course.memory import noted
from labkit.course.predict import box, refuse_old
from labkit.course.quiz import Question, learner, question, shuffled


class Order:
    """Steps to put in order: buttons in a notebook, plain text elsewhere, shuffled.

    `choice` holds the steps chosen so far. A step that is chosen already is taken out again by a second click.
    """

    def __init__(self, asked: Question) -> None:
        self.question, self.steps = asked, asked.steps
        self.choice: list[str] = []
        self._box: Any = None
        self._buttons: dict[str, Any] = {}
        self._noted = False

    def choose(self, *steps: str) -> None:
        """Commit to an order where there are no buttons to click. Raises ValueError for what is no step."""
        self._known(steps)
        self.choice[:] = dict.fromkeys(steps)
        self._show()

    def seen(self, order: Sequence[str]) -> Verdict:
        """The order that was seen, a step a line, and how many steps the learner had put into their place.

        Steps that could not be seen may be left out of `order`; the others are then compared without them. Raises ValueError
        for what is no step.
        """
        judged = self.judged(order)
        guessed = [step for step in self.choice if step in order]
        if guessed and not self._noted:  # the cell that is run again with the order on the screen does not count
            self._noted = True
            noted.answer("prediction", self.question.id, self.choice, order, guessed == list(order))
        return judged

    def judged(self, order: Sequence[str]) -> Verdict:
        """As `seen`, and nothing is remembered of it."""
        self._known(order)
        lines = ["Seen, in this order:", *(f"{number}. {step}" for number, step in enumerate(order, 1))]
        guessed = [step for step in self.choice if step in order]
        paragraphs: list[tuple[str, str]] = []
        if guessed:
            right = sum(a == b for a, b in zip(guessed, order, strict=False))
            lines.append(f"You had put {right} of {len(order)} in this place.")
        else:
            lines.append(NOT_COMMITTED)
        for swap in self.question.swaps:
            if all(step in guessed and step in order for step in (swap.first, swap.then)) and (
                guessed.index(swap.first) < guessed.index(swap.then) and order.index(swap.first) > order.index(swap.then)
            ):
                paragraphs += [(f"Why “{swap.first}” before “{swap.then}” is tempting", swap.tempts)]
                paragraphs += [("What shows that it is wrong", swap.shows), ("Source", swap.source)]
        paragraphs += [("Why this order", self.question.right), ("Source", self.question.source)]
        return Verdict("\n".join(lines), tuple(paragraphs), bool(guessed))

    def _known(self, order: Sequence[str]) -> None:
        if strangers := [step for step in order if step not in self.steps]:
            raise ValueError(f"{strangers[0]!r} is none of the steps: {', '.join(self.steps)}.")

    def __repr__(self) -> str:
        return "\n".join([self.question.text, *(f"( ) {step}" for step in shuffled(self.question.id, self.steps))])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        if self._box is None:
            self._box = box(self.question.text, self.buttons())
        return {**self._box._repr_mimebundle_(), "text/plain": repr(self)}

    def buttons(self) -> list[Any]:
        import ipywidgets

        layout = {"width": "auto", "align_self": "flex-start"}
        for step in shuffled(self.question.id, self.steps, learner()):
            self._buttons[step] = ipywidgets.Button(layout=layout)
            self._buttons[step].on_click(lambda _, step=step: self._clicked(step))
        again = ipywidgets.Button(description="start again", layout=layout)
        again.on_click(lambda _: self.choose())
        self._show()
        return [*self._buttons.values(), again]

    def _clicked(self, step: str) -> None:
        self.choice.remove(step) if step in self.choice else self.choice.append(step)
        self._show()

    def _show(self) -> None:
        """Each button's text says the step and its place; no button is disabled, so that the focus stays on it."""
        for step, button in self._buttons.items():
            place = self.choice.index(step) + 1 if step in self.choice else None
            button.description = f"{place}. {step}" if place else f"–  {step}"
            button.tooltip = f"place {place}: click to take it out" if place else "click to give it the next place"


@cache
def predict_order(identifier: str, *steps: str) -> Order:
    """A question of the notebook's quiz that asks for an order: `predict_order("03.steps")`.

    The same question is the same object, so that running its cell again keeps the choice. Raises NodeError where the quiz has no
    such question, or where the notebook has the steps itself; ValueError where it asks for no order.
    """
    refuse_old(steps)
    asked = question(identifier)
    if not asked.steps:
        raise ValueError(f"{identifier} asks for no order: use labkit.predict.")
    return Order(asked)
