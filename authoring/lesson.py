"""Where the files of a lesson are, and what is in its notebook."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nbformat

from labkit.course.quiz import DIRECTORY

ROOT = Path(__file__).resolve().parent.parent


class LessonError(Exception):
    """One sentence of what happened, one of what to do."""


@dataclass(frozen=True)
class Cell:
    """A cell of a notebook; `number` counts from 0, as `lint` and nbval show it."""

    number: int
    kind: str
    source: str
    metadata: dict[str, Any]
    outputs: list[Any]
    executed: bool

    @property
    def texts(self) -> list[str]:
        """What the cell printed and returned, as text."""
        shown = (o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in self.outputs)
        return [text for text in shown if text]


@dataclass(frozen=True)
class Lesson:
    """A lesson of the repository `root`, by its notebook."""

    notebook: Path
    root: Path = ROOT

    @property
    def number(self) -> str:
        return self.notebook.name[:2]

    @cached_property
    def cells(self) -> list[Cell]:
        """Raises LessonError where the notebook cannot be read."""
        return [
            Cell(i, c.cell_type, c.source, c.metadata, c.get("outputs", []), bool(c.get("execution_count")))
            for i, c in enumerate(read(self.notebook).cells)
        ]

    @cached_property
    def code(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.kind == "code"]

    @cached_property
    def prose(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.kind == "markdown"]

    def starters(self) -> dict[str, Cell]:
        """The cell in which a learner does each exercise and runs its check."""
        found: dict[str, Cell] = {}
        for cell in self.code:
            if "labkit.check(" in cell.source:
                found |= dict.fromkeys(re.findall(rf"\"({self.number}\.\d+)\"", cell.source), cell)
        return found

    @property
    def checks(self) -> Path:
        return self.root / "labkit" / "course" / "checks" / f"lesson_{self.number}.py"

    @property
    def quiz(self) -> Path:
        return self.root / "notebooks" / DIRECTORY / f"{self.number}.yaml"

    def solution(self, exercise: str) -> Path:
        return self.root / "notebooks" / "solutions" / f"{exercise}.py"

    def wrong(self, exercise: str) -> Path:
        return self.root / "tests" / "notebooks" / "wrong" / f"{exercise}.py"

    def wrong_answers(self, exercise: str) -> dict[str, str]:
        """Code by the reason for which the check must refuse it."""
        return answers(self.wrong(exercise))

    def right_answers(self, exercise: str) -> dict[str, str]:
        """Code by what is unusual about it: the check must pass it as it does the solution. Few exercises have any."""
        return answers(self.root / "tests" / "notebooks" / "right" / f"{exercise}.py")


def answers(path: Path) -> dict[str, str]:
    """The blocks of a file, each below a line `# %% name`, by their names. What is above the first belongs to each of them."""
    if not path.exists():
        return {}
    above, *blocks = re.split(r"(?m)^# %% *(.*)\n", path.read_text())
    return {name: above + code for name, code in zip(blocks[::2], blocks[1::2], strict=True)}


def lessons(root: Path = ROOT) -> Iterator[Lesson]:
    return (Lesson(path, root) for path in sorted((root / "notebooks").glob("[0-9][0-9]-*.ipynb")))


def find(number: str, root: Path = ROOT) -> Lesson:
    """The lesson of that number. Raises LessonError where there is none, or more than one."""
    numbers = ", ".join(lesson.number for lesson in lessons(root))
    matching = [lesson for lesson in lessons(root) if lesson.number == number]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise LessonError(f"{' and '.join(m.notebook.name for m in matching)} have the same number. Rename one of them.")
    raise LessonError(
        f'There is no lesson {number!r}; there are {numbers}. Make one with: ./course lesson new {number} "Question?"'
    )


def read(path: Path) -> Any:
    """A notebook. Raises LessonError where the file is not one."""
    invalid: dict[str, Exception] = {}
    try:
        notebook = nbformat.read(path, as_version=4, capture_validation_error=invalid)
        if invalid:
            raise invalid["ValidationError"]
    except OSError as error:
        raise LessonError(f"{path.name} cannot be read: {error.strerror}. See that the file is there and yours.") from None
    except (ValueError, KeyError, TypeError, AttributeError, nbformat.ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise LessonError(f"{path.name} is no valid notebook: {reason} Restore it with: git checkout {path}") from None
    return notebook
