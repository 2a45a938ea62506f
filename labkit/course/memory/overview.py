"""The map of the course: of each lesson what was read, predicted and solved, and what is due again."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from labkit.course.memory import cells, schedule
from labkit.course.memory.progress_store import LearnerEvent, of_this_learner
from labkit.course.verdict import CHECKS
from labkit.util.errors import NodeError
from labkit.util.showable import Absent

SAME = "The map of the course: what you have read, predicted and solved, and what is due again. `labkit progress` prints it."
COLUMNS = ("lesson", "read", "predicted", "solved", "due again")


@dataclass(frozen=True)
class LessonProgress:
    """A lesson: cells reached of all code cells; questions answered, and rightly at the last time; exercises solved, and hints
    shown on the way; questions that are due again."""

    lesson: str
    title: str
    cells: int
    cells_reached: int
    questions: int
    predicted: int
    right: int
    exercises: int
    solved: int
    hints: int
    due: int

    def texts(self) -> tuple[str, ...]:
        """The row as COLUMNS names it."""
        right = f", {self.right} right" if self.predicted else ""
        hints = f", {self.hints} hint{'s' * (self.hints != 1)}" if self.hints else ""
        return (
            f"{self.lesson} {self.title}",
            f"{self.cells_reached} of {self.cells} cells",
            f"{self.predicted} of {self.questions}{right}",
            f"{self.solved} of {self.exercises}{hints}",
            str(self.due) if self.due else "–",
        )


@cache
def titles() -> dict[str, str]:
    """The lessons' titles by number, from the course's notebooks."""
    from labkit.course.jupyter.copy import source

    found = {}
    try:
        for path in sorted(source().glob("[0-9][0-9]-*.ipynb")):
            title = re.search(rf'"# {path.name[:2]} · ([^"\\]+)', path.read_text())
            found[path.name[:2]] = title[1] if title else path.stem[3:].replace("-", " ")
    except (NodeError, OSError, ValueError):
        return found
    return found


def known(lesson: str) -> str:
    """The lesson's title. Raises Absent, naming the lessons there are."""
    if lesson not in titles():
        raise Absent(f"There is no lesson {lesson!r}; there are {', '.join(titles())}.")
    return titles()[lesson]


def rows(events: Sequence[LearnerEvent], now: datetime) -> list[LessonProgress]:
    answers, asked = schedule.cards(events), schedule.questions()
    reached = {(event.lesson, event.item) for event in events if event.kind == "cell"}
    checks = [event for event in events if event.kind == "check"]
    solved = {event.item for event in checks if event.detail.get("done") is True}
    hints = {(event.item, event.detail["missing"], event.detail["hint"]) for event in checks if event.detail.get("hint")}
    return [
        LessonProgress(
            lesson,
            title,
            cells=len(cells.of_lesson(lesson)),
            cells_reached=sum((lesson, cell) in reached for cell in cells.of_lesson(lesson)),
            questions=sum(name[:2] == lesson for name in asked),
            predicted=sum(name[:2] == lesson for name in answers if name in asked),
            right=sum(name[:2] == lesson and not each.wrong for name, each in answers.items() if name in asked),
            exercises=sum(name[:2] == lesson for name in CHECKS),
            solved=sum(name[:2] == lesson for name in solved if name in CHECKS),
            hints=sum(name[:2] == lesson for name, *_ in hints),
            due=sum(name[:2] == lesson and each.is_due(now) for name, each in answers.items() if name in asked),
        )
        for lesson, title in titles().items()
    ]


class Progress:
    """The map at this moment: `print` shows it as text. What a notebook saves of it is the same for everybody."""

    def __init__(self) -> None:
        self.rows = rows(of_this_learner().events(), datetime.now(UTC))
        self._box: Any = None

    def __str__(self) -> str:
        table = [COLUMNS, *(row.texts() for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ("   ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in table)
        return "\n".join(line.rstrip() for line in lines)

    def __repr__(self) -> str:
        return SAME

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        import ipywidgets

        if self._box is None:
            self._box = ipywidgets.HTML(self.html())
        return {**self._box._repr_mimebundle_(), "text/plain": repr(self)}

    def html(self) -> str:
        head = "".join(f'<th scope="col" style="text-align: left">{name}</th>' for name in COLUMNS)
        body = ""
        for row in self.rows:
            first, *others = (html.escape(text) for text in row.texts())
            marks = "".join(f'<td style="text-align: left">{text}</td>' for text in others)
            body += f'<tr><th scope="row" style="text-align: left; font-weight: normal">{first}</th>{marks}</tr>'
        return f"<table><caption>The map of the course</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def report(self) -> dict[str, Any]:
        return {"file": str(of_this_learner().place), "lessons": [asdict(row) for row in self.rows]}


def progress() -> Progress:
    """The map of the course for the learner who runs this: `labkit.progress()` in a notebook, `labkit progress` in a shell."""
    return Progress()
