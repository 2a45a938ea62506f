"""The questions that a learner commits to before an experiment, read from notebooks/quizzes/NN.yaml.

docs/authoring.md describes the file. The copy beside the learner's notebook comes first: it has the notebook's age.
"""

from __future__ import annotations

import getpass
import hashlib
import platform
import re
from collections.abc import Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from labkit.util.errors import NodeError

DIRECTORY = "quizzes"
GUIDE = 'See "A quiz" in docs/authoring.md.'


@dataclass(frozen=True)
class Option:
    """One answer. `right` explains it where it is the answer on the course's own node, `elsewhere` where another kind of node or
    another runtime gives it. `tempts` says why it looks right, `shows` what on the screen shows that it is not."""

    answer: str
    source: str
    right: str = ""
    elsewhere: str = ""
    tempts: str = ""
    shows: str = ""


@dataclass(frozen=True)
class Swap:
    """Two steps that are easily put in the wrong order: `first` before `then`."""

    first: str
    then: str
    tempts: str
    shows: str
    source: str


@dataclass(frozen=True)
class Question:
    """`options` in the file's order, or the `steps` of an order, with `right` and `source` for their explanation. `later` is the
    question as it can be asked in another lesson, apart from its experiment."""

    id: str
    text: str
    options: tuple[Option, ...] = ()
    steps: tuple[str, ...] = ()
    right: str = ""
    source: str = ""
    swaps: tuple[Swap, ...] = ()
    later: str = ""


def question(identifier: str, beside: Path | None = None) -> Question:
    """The question "02.pause", from quizzes/02.yaml below `beside`. Raises NodeError where it is not there or not complete."""
    lesson, dot, name = identifier.partition(".")
    if not (dot and re.fullmatch(r"\d\d", lesson) and re.fullmatch(r"[a-z0-9-]+", name)):
        raise NodeError(f"{identifier!r} names no question.", 'Give a lesson and a name, as in labkit.predict("02.pause").')
    path = (beside or _directory(lesson)) / DIRECTORY / f"{lesson}.yaml"
    questions = quiz(path)
    if identifier not in questions:
        raise NodeError(f"{DIRECTORY}/{path.name} has no question {identifier!r}.", f"It has {', '.join(questions)}.")
    return questions[identifier]


def _directory(lesson: str) -> Path:
    here = Path.cwd()
    return here if (here / DIRECTORY / f"{lesson}.yaml").is_file() else directory().parent


def directory() -> Path:
    """Where the course's own files are. Raises NodeError where there are none."""
    from labkit.course.jupyter.copy import source

    return source() / DIRECTORY


def quiz(path: Path) -> dict[str, Question]:
    """The questions of a file by id. Raises NodeError, which names the question and what is wrong with it."""
    name, lesson = f"{path.parent.name}/{path.name}", path.stem
    try:
        content = yaml.load(path.read_text(), _UniqueKeys)
    except OSError as error:
        raise NodeError(f"{name} cannot be read: {error.strerror}.", f"Get it with: labkit course --reset {lesson}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise NodeError(f"{name} is not valid YAML: {' '.join(str(error).split())}.", "Correct that line.") from None
    if not isinstance(content, dict) or not content:
        raise NodeError(f"{name} has no questions.", GUIDE)
    return {f"{lesson}.{key}": _QuizReader(f"{name}, {key}").question(f"{lesson}.{key}", value) for key, value in content.items()}


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is there twice: YAML would silently keep the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


@dataclass(frozen=True)
class _QuizReader:
    """Turns a part of the file into its dataclass, and says where the part is incomplete."""

    where: str

    def fails(self, what: str) -> NodeError:
        return NodeError(f"{self.where}: {what}.", GUIDE)

    def question(self, identifier: str, value: Any) -> Question:
        if "steps" in (value if isinstance(value, dict) else {}):
            wanted = {"question", "steps", "right", "source"}
            fields = self.fields(value, wanted, {"later", "swaps"}, containers={"steps", "swaps"})
            steps = tuple(self.text("a step", step) for step in self.listed(fields["steps"], "steps"))
            if len(set(steps)) < max(2, len(steps)):
                raise self.fails("an order needs at least two steps, and each only once")
            swaps = tuple(self.swap(swap, steps) for swap in self.listed(fields.get("swaps", []), "swaps"))
            later = fields.get("later", "")
            return Question(identifier, fields["question"], (), steps, fields["right"], fields["source"], swaps, later)
        fields = self.fields(value, {"question", "options"}, {"later"}, containers={"options"})
        if not isinstance(fields["options"], dict) or len(fields["options"]) < 2:
            raise self.fails("a question needs at least two options")
        options = tuple(self.option(answer, option) for answer, option in fields["options"].items())
        if (count := sum(bool(option.right) for option in options)) != 1:
            raise self.fails(f"exactly one option needs the key right, not {count}")
        return Question(identifier, fields["question"], options, later=fields.get("later", ""))

    def option(self, answer: Any, value: Any) -> Option:
        here = _QuizReader(f"{self.where}, option {answer!r}")
        answer = here.text("an option that YAML reads as no text (put it into quotes)", answer)
        if isinstance(value, dict) and "right" in value:
            return Option(answer, **here.fields(value, {"right", "source"}))
        return Option(answer, **here.fields(value, {"tempts", "shows", "source"}, {"elsewhere"}))

    def swap(self, value: Any, steps: tuple[str, ...]) -> Swap:
        swap = Swap(**self.fields(value, {"first", "then", "tempts", "shows", "source"}))
        if strangers := {swap.first, swap.then} - set(steps):
            raise self.fails(f"a swap names {min(strangers)!r}, which is no step")
        return swap

    def fields(
        self, value: Any, wanted: Set[str], optional: Set[str] = frozenset(), containers: Set[str] = frozenset()
    ) -> dict[str, Any]:
        """The keys of a mapping, with all `wanted` and none but the `optional` besides; all but `containers` are texts."""
        if not isinstance(value, dict):
            raise self.fails(f"{', '.join(sorted(wanted))} are missing")
        if missing := sorted(wanted - set(value)):
            raise self.fails(f"the key {missing[0]} is missing")
        if unknown := sorted(map(str, set(value) - wanted - optional)):
            raise self.fails(f"the key {unknown[0]} is unknown")
        return {key: each if key in containers else self.text(f"the key {key}", each) for key, each in value.items()}

    def text(self, what: str, value: Any) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self.fails(f"{what} needs a text, not {value!r}")
        return " ".join(value.split())

    def listed(self, value: Any, what: str) -> list[Any]:
        if not isinstance(value, list):
            raise self.fails(f"the key {what} needs a list")
        return value


def shuffled(identifier: str, answers: tuple[str, ...], learner: str = "") -> tuple[str, ...]:
    """The answers in an order that is always the same for a learner; without one, the order in which the course prints them."""
    return tuple(sorted(answers, key=lambda answer: hashlib.sha256(f"{learner}\0{identifier}\0{answer}".encode()).digest()))


@cache
def learner() -> str:
    """Who learns here, so that another learner gets another order: the user's and the machine's name."""
    try:
        return f"{getpass.getuser()}@{platform.node()}"
    except (KeyError, OSError):  # a uid that the machine has no name for
        return platform.node()
