"""A question that the learner answers before she looks."""

from __future__ import annotations

import html
from functools import cache
from typing import Any


class Seen(str):
    """A sentence that a notebook shows without quotation marks."""

    def __repr__(self) -> str:
        return str(self)


class Prediction:
    """A question with options to choose from, shown as buttons in a notebook and as plain text elsewhere.

    `choice` is the option chosen, None before. `seen(answer)` says how the choice and what was seen go together.
    """

    def __init__(self, question: str, options: tuple[str, ...]) -> None:
        if len(options) < 2:
            raise ValueError("A prediction needs two options at least.")
        self.question, self.options = question, options
        self._buttons: Any = None

    @property
    def choice(self) -> str | None:
        return self._buttons.value if self._buttons is not None else None

    def seen(self, answer: str) -> Seen:
        """One sentence: what was predicted, what was seen. `answer` must be one of the options (ValueError)."""
        if answer not in self.options:
            raise ValueError(f"{answer!r} is none of the options: {', '.join(self.options)}.")
        if self.choice is None:
            return Seen(f"Seen: {answer}.")
        if self.choice == answer:
            return Seen(f"Seen: {answer}. You predicted the same.")
        return Seen(f"Seen: {answer}. You had predicted: {self.choice}.")

    def __repr__(self) -> str:
        return "\n".join([self.question, *(f"( ) {option}" for option in self.options)])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        import ipywidgets

        if self._buttons is None:
            self._buttons = ipywidgets.RadioButtons(options=list(self.options), value=None, layout={"width": "auto"})
        box = ipywidgets.VBox([ipywidgets.HTML(f"<b>{html.escape(self.question)}</b>"), self._buttons])
        return {**box._repr_mimebundle_(), "text/plain": repr(self)}


@cache
def predict(question: str, *options: str) -> Prediction:
    """A question to commit to: `predict("Does the address change?", "yes", "no")`.

    The same question is the same object, so that running its cell again, which a click and Shift-Enter do, keeps the choice.
    """
    return Prediction(question, options)
