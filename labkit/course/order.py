"""A question about an order: the learner clicks the steps in the order that she expects, before she looks."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Sequence
from functools import cache
from typing import Any

from labkit.course.predict import Seen


class Order:
    """Steps to put in order: buttons in a notebook, plain text elsewhere, always shuffled in the same way.

    `choice` holds the steps clicked so far. `seen(order)` says how the choice and what was seen go together.
    """

    def __init__(self, question: str, steps: tuple[str, ...]) -> None:
        if len(set(steps)) < max(2, len(steps)):
            raise ValueError("An order needs two steps at least, and no step twice.")
        # The same for every learner and every run, and not the order in which the steps were written.
        self.question, self.steps = question, tuple(sorted(steps, key=lambda step: hashlib.sha256(step.encode()).digest()))
        self.choice: list[str] = []
        self._box: Any = None

    def seen(self, order: Sequence[str]) -> Seen:
        """The order that was seen, a step a line, and how many steps had been put into their place.

        Steps that could not be seen may be left out of `order`; the others are then compared without them. Raises ValueError
        for what is no step.
        """
        if strangers := [step for step in order if step not in self.steps]:
            raise ValueError(f"{strangers[0]!r} is none of the steps: {', '.join(self.steps)}.")
        told = ["Seen, in this order:", *(f"  {step}" for step in order)]
        guessed = [step for step in self.choice if step in order]
        if guessed:
            right = sum(a == b for a, b in zip(guessed, order, strict=False))
            told.append(f"You had put {right} of {len(order)} in this place.")
        return Seen("\n".join(told))

    def __repr__(self) -> str:
        return "\n".join([self.question, *(f"( ) {step}" for step in self.steps)])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        if self._box is None:
            self._box = self._widget()
        return {**self._box._repr_mimebundle_(), "text/plain": repr(self)}

    def _widget(self) -> Any:
        import ipywidgets

        layout = {"width": "auto", "align_self": "flex-start"}
        buttons = {step: ipywidgets.Button(description=f"□ {step}", layout=layout) for step in self.steps}
        again = ipywidgets.Button(description="start again", button_style="", layout=layout)

        def show() -> None:
            for step, button in buttons.items():
                number = self.choice.index(step) + 1 if step in self.choice else 0
                button.description, button.disabled = f"{number or '□'}  {step}", bool(number)

        def clicked(step: str) -> None:
            if step not in self.choice:
                self.choice.append(step)
            show()

        def cleared(_: Any) -> None:
            self.choice.clear()
            show()

        for step, button in buttons.items():
            button.on_click(lambda _, step=step: clicked(step))
        again.on_click(cleared)
        question = ipywidgets.HTML(f"<b>{html.escape(self.question)}</b>")
        return ipywidgets.VBox([question, *buttons.values(), again])


@cache
def predict_order(question: str, *steps: str) -> Order:
    """Steps to put in order: `predict_order("What comes first?", "fork", "exec")`.

    The same question is the same object, so that running its cell again keeps the choice.
    """
    return Order(question, steps)
