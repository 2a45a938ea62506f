"""The opening of a notebook: up to three questions from earlier ones, and first those that the learner answered wrongly."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from labkit.course.answer import Verdict, verdict
from labkit.course.memory import noted, overview, schedule
from labkit.course.memory.progress_store import of_this_learner
from labkit.course.order import Order
from labkit.course.predict import Prediction, box
from labkit.course.quiz import Question

HEAD = "Before you begin, three questions from earlier notebooks:"
NONE = "There is no earlier notebook to ask about."


class ReviewQuestion:
    """A question that is asked again. `right` is what the learner's own node showed the last time, else the course's answer."""

    def __init__(self, asked: Question, seen: Any) -> None:
        self.question = asked
        self.options = tuple(option.answer for option in asked.options) or asked.steps
        own = seen if isinstance(seen, str) else tuple(seen or ())
        fits = own in self.options if isinstance(own, str) else bool(own) and set(own) <= set(asked.steps)
        self.right: Any = own if fits else next((o.answer for o in asked.options if o.right), asked.steps)
        self.verdict_shown = ""
        self._shown: Any = None

    def answer(self, choice: str | Sequence[str]) -> None:
        """Judge an answer, and remember the first one."""
        if isinstance(choice, str):
            right, judged = choice == self.right, verdict(self.question, self.right, choice)
        else:
            order = Order(self.question)
            order.choose(*choice)
            right, judged = tuple(choice) == tuple(self.right), order.judged(self.right)
        if not self.verdict_shown:
            noted.answer("review", self.question.id, choice, self.right, right)
        self.verdict_shown = as_html(judged)
        if self._shown is not None:
            self._shown.value = self.verdict_shown

    def widget(self) -> Any:
        """The question with its buttons, one that shows the answer, and the place where the verdict appears."""
        import ipywidgets

        done = ipywidgets.Button(description="Show the answer", layout={"width": "auto", "align_self": "flex-start"})
        self._shown = ipywidgets.HTML(self.verdict_shown)
        asked = Order(self.question) if self.question.steps else Prediction(self.question)
        done.on_click(lambda _: self.answer(asked.choice) if asked.choice else self._ask())
        return box(worded(self.question), [*asked.buttons(), done, self._shown])

    def _ask(self) -> None:
        self._shown.value = "<p>Choose an answer first.</p>"


class Review:
    """The opening's questions. In plain text it is the same for everybody: the questions that a new learner is asked."""

    def __init__(self, lesson: str) -> None:
        known = schedule.questions()
        events, now = of_this_learner().events(), datetime.now(UTC)
        cards = schedule.cards(events)
        self.asked = [
            ReviewQuestion(known[name], cards[name].seen if name in cards else None)
            for name in schedule.chosen(lesson, events, now)
        ]
        self._same = [known[name] for name in schedule.chosen(lesson, [], now)]
        self._box: Any = None

    def __repr__(self) -> str:
        return in_plain_text(self._same)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        if not self.asked:
            return {"text/plain": repr(self)}
        if self._box is None:
            import ipywidgets

            head = ipywidgets.HTML(f"<p>{HEAD}</p>")
            self._box = ipywidgets.VBox([head, *(each.widget() for each in self.asked)])
        return {**self._box._repr_mimebundle_(), "text/plain": repr(self)}


def in_plain_text(asked: Sequence[Question]) -> str:
    """The opening where there are no buttons, the same for everybody."""
    lines = (line for each in asked for line in (worded(each), *Prediction(each).lines()))
    return "\n".join([HEAD, *lines]) if asked else NONE


def review(lesson: str) -> Review:
    """Up to three questions from the notebooks before `lesson` ("03"). Raises Absent where there is no such lesson."""
    overview.known(lesson)
    noted.opened(lesson)
    return Review(lesson)


def worded(asked: Question) -> str:
    return f"(Notebook {asked.id[:2]}) {asked.later or asked.text}"


def as_html(judged: Verdict) -> str:
    """A verdict for a widget, which knows no Markdown."""
    code = re.compile("`([^`]+)`")
    lines = [f"<b>{html.escape(line)}</b>" for line in judged.line.replace("Seen: ", "The answer: ", 1).splitlines()]
    texts = [f"<i>{html.escape(label)}:</i> {html.escape(text)}" for label, text in judged.paragraphs]
    paragraphs = (code.sub(r"<code>\1</code>", text) for text in ("<br>".join(lines), *texts))
    return "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
