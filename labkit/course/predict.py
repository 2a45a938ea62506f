"""A question that the learner answers before she looks."""

from __future__ import annotations

import html
from functools import cache
from typing import Any

from labkit.course.answer import Verdict, unseen, verdict
from labkit.course.memory import noted
from labkit.course.quiz import Question, learner, question, shuffled
from labkit.util.errors import NodeError

QUIZ_CLASS = "labkit-quiz"
"""What the extension for JupyterLab (labkit/figures/jupyterlab) finds the buttons of a quiz by, to name and group them."""


class PlainSentence(str):
    """A sentence that a notebook shows without quotation marks."""

    def __repr__(self) -> str:
        return str(self)


class Prediction:
    """A question with options: buttons in a notebook, plain text elsewhere.

    `options` are in the order of the quiz's file; the learner sees them shuffled. `choice` is the option chosen, None before.
    """

    def __init__(self, asked: Question) -> None:
        self.question = asked
        self.options = tuple(option.answer for option in asked.options)
        self.choice: str | None = None
        self._buttons: Any = None
        self._noted = False

    def choose(self, answer: str) -> None:
        """Commit to an answer where there are no buttons to click. Raises ValueError where it is no option."""
        self.choice = self._known(answer)
        if self._buttons is not None:
            self._buttons.value = answer

    def seen(self, answer: str) -> Verdict:
        """What was predicted, what was seen, and why; `answer` is an option, or what the node showed instead."""
        judged = verdict(self.question, answer, self.choice)
        if self.choice is not None and not self._noted:  # the cell that is run again with the answer on the screen does not count
            self._noted = True
            noted.answer("prediction", self.question.id, self.choice, answer, self.choice == answer)
        return judged

    def unseen(self, why: str) -> Verdict:
        """In place of `seen` on a node that cannot show the answer: `why` says what is missing."""
        return unseen(self.question, why, self.choice)

    def _known(self, answer: str) -> str:
        if answer not in self.options:
            raise ValueError(f"{answer!r} is none of the options: {', '.join(self.options)}.")
        return answer

    def __repr__(self) -> str:
        return "\n".join([self.question.text, *self.lines()])

    def lines(self) -> list[str]:
        """The options in plain text, in the order that is the same for everybody."""
        return [f"( ) {option}" for option in shuffled(self.question.id, self.options)]

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {**box(self.question.text, self.buttons())._repr_mimebundle_(), "text/plain": repr(self)}

    def buttons(self) -> list[Any]:
        import ipywidgets

        if self._buttons is None:
            shown = shuffled(self.question.id, self.options, learner())
            self._buttons = ipywidgets.RadioButtons(options=shown, value=self.choice, layout={"width": "auto"})
            self._buttons.observe(lambda change: setattr(self, "choice", change["new"]), "value")
        return [self._buttons]


def box(text: str, buttons: list[Any]) -> Any:
    """The widget of a quiz: the question above its buttons."""
    import ipywidgets

    widget = ipywidgets.VBox([ipywidgets.HTML(f"<b>{html.escape(text)}</b>"), *buttons])
    widget.add_class(QUIZ_CLASS)
    return widget


def refuse_old(options: tuple[str, ...]) -> None:
    """Raises NodeError where a notebook gives the texts itself: the learner's copy stays when labkit is updated."""
    if options:
        raise NodeError(
            "This notebook is older than the labkit that it uses.",
            "labkit course --reset 03 takes the course's lesson 03, for example, and keeps yours under another name.",
        )


@cache
def predict(identifier: str, *options: str) -> Prediction:
    """A question of the notebook's quiz to commit to: `predict("02.pause")`.

    The same question is the same object, so that running its cell again keeps the choice. Raises NodeError where the quiz has no
    such question, or where the notebook has the options itself, as older ones do; ValueError where it asks for an order.
    """
    refuse_old(options)
    asked = question(identifier)
    noted.opened(identifier[:2])
    if asked.steps:
        raise ValueError(f"{identifier} asks for an order: use labkit.predict_order.")
    return Prediction(asked)
