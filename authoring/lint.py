"""Find faults in the files of a lesson without running anything.

A cell's metadata may exempt it from a rule, with a reason: {"lint": {"experiment": "A table of what was shown above."}}.
An exemption that nothing needs is a fault, too.
"""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

from authoring import glossary
from authoring.lesson import Cell, Lesson, lessons
from authoring.predictions import Prediction, unreachable
from authoring.predictions import predictions as asked_in
from authoring.prose import Block, blocks
from authoring.stale import stale as outdated
from labkit.course.quiz import Question, quiz
from labkit.node import NodeError

LINES = 10
WRONG_ANSWERS = 3
"""An exercise has so many besides the cheats: each a mistake that a learner makes."""


@dataclass(frozen=True, order=True)
class Fault:
    """`cell`: its number in the notebook, -1 where the fault is in no cell. `where`: another file than the notebook."""

    lesson: str
    cell: int
    rule: str
    says: str
    where: str = ""

    def __str__(self) -> str:
        place = self.where or (f"cell {self.cell}" if self.cell >= 0 else "notebook")
        return f"{self.lesson}: {place}: {self.rule}: {self.says}"


Found = Iterator[tuple[int, str] | tuple[int, str, str]]


@dataclass(frozen=True)
class Rule:
    look: Callable[[Lesson], Found]
    text: str


RULES: dict[str, Rule] = {}


def rule(look: Callable[[Lesson], Found]) -> Callable[[Lesson], Found]:
    """Register a rule; its docstring says what it looks at, for `lint --help`."""
    RULES[look.__name__] = Rule(look, " ".join((look.__doc__ or "").split()))
    return look


def run(chosen: Sequence[Lesson]) -> int:
    """Print each fault. 1 where there is one."""
    found = check(chosen)
    for fault in found:
        print(fault)
    print(f"{len(found) or 'no'} fault{'s' * (len(found) != 1)} in {', '.join(lesson.number for lesson in chosen)}")
    return 1 if found else 0


def check(chosen: Sequence[Lesson]) -> list[Fault]:
    """The faults of these lessons that no cell's metadata exempt. Raises LessonError where a notebook cannot be read."""
    found = [fault for lesson in chosen for fault in faults(lesson)]
    for root in {lesson.root for lesson in chosen}:
        page = root / glossary.PAGE
        if not page.exists() or page.read_text() != glossary.page(root):
            found.append(Fault("--", -1, "term", f"it differs from {glossary.SOURCE}: ./course lesson glossary", glossary.PAGE))
    return sorted(found)


def faults(lesson: Lesson) -> Iterator[Fault]:
    exempt: dict[tuple[int, str], object] = {}
    for cell in lesson.cells:
        if not isinstance(reasons := cell.metadata.get("lint", {}), dict):
            yield Fault(lesson.number, cell.number, "exemption", f'"lint" names rules and reasons, not {reasons!r}.')
            continue
        exempt |= {(cell.number, name): reason for name, reason in reasons.items()}
    for name, each in RULES.items():
        for number, says, *where in each.look(lesson):
            if not str(exempt.pop((number, name), "")).strip():
                yield Fault(lesson.number, number, name, says, *where)
    for (number, name), _ in exempt.items():
        yield Fault(lesson.number, number, "exemption", f"the cell is exempt from {name!r}, which finds nothing in it.")


# --- the rules -------------------------------------------------------------------------------------------------------


@rule
def frame(lesson: Lesson) -> Found:
    """The notebook has a title "# 08 · …", the question in bold in a quotation, "## Summary", "## Exercise", a solution in
    <details>, "**Sources:**", asks a question with labkit.predict, and ends with a code cell that calls remove_leftovers().
    README.md links to it."""
    text = "\n".join(cell.source for cell in lesson.prose)
    parts = (f"# {lesson.number} · ", "\n> **", "## Summary", "## Exercise", "<details>", "**Sources:**")
    yield from ((-1, f"there is no {part.strip()!r}.") for part in parts if part not in text)
    if not any("labkit.predict" in cell.source for cell in lesson.code):
        yield -1, "the learner predicts nothing: ask a question with labkit.predict."
    if not lesson.cells or "remove_leftovers()" not in lesson.cells[-1].source or lesson.cells[-1].kind != "code":
        yield len(lesson.cells) - 1, "the last cell removes nothing: call node.remove_leftovers() in it."
    if f"](notebooks/{lesson.notebook.name})" not in (lesson.root / "README.md").read_text():
        yield -1, f"README.md has no row for {lesson.notebook.name}.", "README.md"


@rule
def todo(lesson: Lesson) -> Found:
    """No TODO of the frame is left in a cell, in the quiz, in the check, in a solution or in its wrong answers."""
    yield from ((cell.number, "a TODO is left.") for cell in lesson.cells if "TODO" in cell.source)
    answers = [path for exercise in lesson.starters() for path in (lesson.solution(exercise), lesson.wrong(exercise))]
    for path in (lesson.quiz, lesson.checks, *answers):
        if path.exists() and "TODO" in path.read_text():
            yield -1, "a TODO is left.", str(path.relative_to(lesson.root))


@rule
def length(lesson: Lesson) -> Found:
    """A code cell has ten lines at most, empty ones included."""
    for cell in lesson.code:
        if (lines := len(cell.source.splitlines())) > LINES:
            yield cell.number, f"it has {lines} lines, {LINES} are the most: split it, or put what is not the point into labkit."


@rule
def output(lesson: Lesson) -> Found:
    """Every code cell is Python, was run, ended without an error, has no tags, and does not tell nbval to leave it out."""
    for cell in lesson.code:
        try:
            ast.parse(cell.source)
        except SyntaxError as error:
            yield cell.number, f"it is no Python: {error.msg}, line {error.lineno}."
        if not cell.executed:
            yield cell.number, f"it was not run: ./course lesson save {lesson.number}"
        if any(o["output_type"] == "error" for o in cell.outputs):
            yield cell.number, "it ended with an error."
        if "nbval" in cell.source.lower() or cell.metadata.get("tags"):
            yield cell.number, "it is left out of the comparison: remove its tags and what it says of nbval."


@rule
def experiment(lesson: Lesson) -> Found:
    """A claim has an experiment. (1) After each paragraph with "**Predict" a code cell comes before the next heading or
    prediction. (2) Each section, from a "##" heading to the next, holds a code cell, up to the Summary. (3) Each point of the
    Summary names something (in `code`, bold or with a capital, or a term of the glossary) that a code cell or its text output
    contains."""
    predicted = section = -1
    title = ""
    for cell in lesson.cells:
        if cell.kind == "code":
            predicted = section = -1
            continue
        for block in parsed(cell):
            heading = block.kind == "heading" and block.level == 2
            predicts = any(stress.startswith("Predict") for stress in block.emphasis) and not title.startswith("How")
            if predicted >= 0 and (block.kind == "heading" or predicts):
                yield predicted, "a prediction that nothing tests: put a code cell after it."
                predicted = -1
            if heading:
                if section >= 0:
                    yield section, f"the section {title!r} shows nothing: put an experiment into it."
                title, section = block.words.strip(), cell.number
                if title == "Summary":
                    yield from unshown(lesson, cell)
                    return
            predicted = cell.number if predicts else predicted


def unshown(lesson: Lesson, summary: Cell) -> Found:
    shown = "\n".join("\n".join([cell.source, *cell.texts]) for cell in lesson.code).lower()
    terms = [form for term in glossary.read(lesson.root) for form in term.forms]
    for block in parsed(summary):
        if block.kind == "heading" and block.words.startswith("Exercise"):
            return
        if block.kind == "item":
            stressed = [word for stress in block.emphasis for word in stress.split() if len(word) > 3]
            capitals = re.findall(r"\b[A-Z]\w+|\b\w+[A-Z]\w*", block.words)
            names = [*block.code, *stressed, *capitals, *(form for form in terms if glossary.uses(form, block.words))]
            if not any(part in shown for name in names for part in re.findall(r"[\w.-]{3,}", name.lower())):
                yield summary.number, f"the Summary claims what no cell shows: {' '.join(block.words.split())[:60]!r}."


@rule
def prediction(lesson: Lesson) -> Found:
    """Each labkit.predict("08.name") is answered by a seen(…), whose argument can be each option and nothing else, as far as the
    code can be followed (names, conditions, indexes, dictionaries, functions of the notebook). Another call may return any
    option. notebooks/quizzes/08.yaml has each question that the notebook asks, complete, and no other. A paragraph with
    "**Predict" is followed by a cell with labkit.predict."""
    named = str(lesson.quiz.relative_to(lesson.root))
    try:
        questions = quiz(lesson.quiz)
    except NodeError as error:
        yield -1, str(error), named
        questions = {}
    known = predictions(lesson, questions)
    yield from unreachable(known)
    for each in known:
        if questions and each.identifier not in questions:
            yield each.cell, f"{named} has no question {each.identifier}."
    for name in sorted(set(questions) - {each.identifier for each in known}):
        yield -1, f"the notebook does not ask {name}: ask it, or remove it.", named
    for here, after in pairwise(lesson.cells):
        if here.kind == "markdown" and predicts(here) and "labkit.predict" not in after.source:
            yield here.number, "a prediction to which the learner cannot commit: put a cell with labkit.predict after it."


def predictions(lesson: Lesson, questions: Mapping[str, Question]) -> list[Prediction]:
    """The predictions of the cells that are Python: the rule `output` names the others."""

    def options(identifier: str) -> tuple[str, ...] | None:
        asked = questions.get(identifier)
        return tuple(option.answer for option in asked.options) or None if asked else None

    cells = {}
    for cell in lesson.code:
        with contextlib.suppress(SyntaxError):
            ast.parse(cell.source)
            cells[cell.number] = cell.source
    return asked_in(cells, options)


def predicts(cell: Cell) -> bool:
    """Whether the prose asks for a prediction; the list of an experiment's four steps in notebook 00 does not."""
    return any(stress.startswith("Predict") for block in parsed(cell) if block.kind != "item" for stress in block.emphasis)


@rule
def stale(lesson: Lesson) -> Found:
    """Outputs have the words of the quizzes: each question, each verdict, and the questions of earlier notebooks that the opening
    asks again. Whoever rewords a question saves its notebook and each one that asks it again."""
    with contextlib.suppress(NodeError):  # the rule `prediction` says what is wrong with a quiz
        yield from ((number, f"{says}: ./course lesson save {lesson.number}") for number, says in outdated(lesson))


@rule
def figure(lesson: Lesson) -> Found:
    """A picture has a text: an output with an image has a text/plain that is not Python's <Figure …>, an SVG has a <title>, a
    <desc> or an aria-label, and a picture in prose has an alternative text."""
    for cell in lesson.code:
        for shown in (o.get("data", {}) for o in cell.outputs):
            text = str(shown.get("text/plain", "")).strip()
            if any(kind.startswith("image/") for kind in shown) and (not text or text.startswith("<")):
                yield cell.number, "its figure has no text: return a labkit.figures.figure.Figure with an `alt`."
            svg = shown.get("image/svg+xml", "")
            if svg and not re.search(r"<(?:title|desc)\b[^>]*>\s*[^<\s]|\baria-label=[\"'][^\"']", svg):
                yield cell.number, "its SVG has no text for a screen reader: neither <title> nor <desc> nor aria-label."
    for cell in lesson.prose:
        yield from ((cell.number, "a picture has no alternative text.") for block in parsed(cell) if "" in block.pictures)


@rule
def term(lesson: Lesson) -> Found:
    """A term of docs/glossary.yaml is used in no lesson before the one that explains it. In that one the first cell that
    uses it has it in bold or italics, linked to docs/glossary.md. Code spans, headings, the list of what you can do after, Next
    and Sources do not count."""
    for each in glossary.read(lesson.root):
        uses = [cell for cell in lesson.prose if any(each.used(block.words) for block in counted(cell))]
        if lesson.number > each.lesson or (lesson.number < each.lesson and not uses):
            continue
        if not uses:
            yield -1, f"{each.term!r} is explained here, says {glossary.SOURCE}, and no paragraph uses it."
            continue
        first = uses[0]
        if lesson.number < each.lesson:
            yield first.number, f"{each.term!r} is explained in lesson {each.lesson} only: explain it here, or use other words."
        elif not any(each.used(stress) for block in parsed(first) for stress in block.emphasis):
            yield first.number, f"{each.term!r} is used before it is explained: put it in bold here, with its meaning."
        elif each.link not in first.source:
            yield first.number, f"{each.term!r} is not linked to its meaning: ./course lesson glossary"


def counted(cell: Cell) -> Iterator[Block]:
    for block in parsed(cell):
        apart = block.kind == "heading" or (cell.number == 0 and block.kind == "item")
        if not apart and not (block.emphasis and block.emphasis[0].startswith(("Next", "Sources", "Further"))):
            yield block


@rule
def wait(lesson: Lesson) -> Found:
    """Every `while` has an end: its condition asks time.monotonic() or counts its steps (len(steps) < 10). next(…) that looks for
    a "pause" has a default, since CRI-O starts one only where the PID namespace is shared."""
    for cell in lesson.code:
        try:
            nodes = list(ast.walk(ast.parse(cell.source)))
        except SyntaxError:
            continue
        for node in nodes:
            if isinstance(node, ast.While) and not re.search(r"time\.monotonic\(\)|len\(steps\) < \d+", ast.unparse(node.test)):
                yield cell.number, f"`while {ast.unparse(node.test)}` may never end: use labkit.wait_until."
            if isinstance(node, ast.Call) and len(node.args) == 1 and re.match(r"next\(.*'pause'", ast.unparse(node)):
                yield cell.number, "next(…) fails where there is no pause: give it a default."


@rule
def link(lesson: Lesson) -> Found:
    """A link leads somewhere: a relative one to a file of the repository, and with #… to a heading in it; http and https have a
    host (they are not opened). "notebook 08" and "lesson 08" name a lesson that is there."""
    numbers = {each.number for each in lessons(lesson.root)}
    for cell in lesson.prose:
        for block in parsed(cell):
            yield from ((cell.number, f"{target!r} leads nowhere.") for target in block.links if not leads(target, lesson))
            for number in re.findall(r"\b(?:[Nn]otebook|[Ll]esson) (\d\d)\b", block.words):
                if number not in numbers:
                    yield cell.number, f"there is no lesson {number}."


def leads(target: str, lesson: Lesson) -> bool:
    try:
        parts = urlsplit(target)
    except ValueError:
        return False
    if parts.scheme in ("http", "https"):
        return "." in (parts.hostname or "")
    if parts.scheme:
        return parts.scheme == "mailto"
    place = (lesson.notebook.parent / unquote(parts.path)).resolve() if parts.path else lesson.notebook
    if not place.exists() or not place.is_relative_to(lesson.root.resolve()):
        return False
    return not parts.fragment or unquote(parts.fragment).lower() in anchors(place)


def anchors(path: Path) -> set[str]:
    """The names of a file's headings, as JupyterLab and code hosts write them."""
    text = "\n\n".join(c.source for c in Lesson(path).prose) if path.suffix == ".ipynb" else path.read_text()
    heads = [re.sub(r"[`*]", "", head).strip() for head in re.findall(r"(?m)^#+ (.*)", text)]
    plain = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
    return plain | {head.lower().replace(" ", "-") for head in heads}


@rule
def exercise(lesson: Lesson) -> Found:
    """Each exercise has a cell with labkit.check("08.1", node) whose saved output begins with "Not yet", a check with
    @exercise("08.1"), a solution, which the notebook links to, three wrong answers and a cheat."""
    checked = re.findall(r"(?m)^@exercise\(\"(.*)\"\)", lesson.checks.read_text()) if lesson.checks.exists() else []
    starters = lesson.starters()
    checks = str(lesson.checks.relative_to(lesson.root))
    links = [target for cell in lesson.prose for block in parsed(cell) for target in block.links]
    for name in sorted({*checked, *starters}):
        if name not in checked:
            yield -1, f"exercise {name} has no check.", checks
        if name not in starters:
            yield -1, f"no cell runs labkit.check({name!r}, node)."
        elif starters[name].executed and (
            not (lines := printed(starters[name]))
            or not lines[0].startswith("Not yet")
            or any(x.startswith("Done") for x in lines)
        ):
            yield starters[name].number, f"what the cell of exercise {name} printed is not only “Not yet: …”."
        solution, wrong = (str(path.relative_to(lesson.root)) for path in (lesson.solution(name), lesson.wrong(name)))
        if not lesson.solution(name).exists() or solution.removeprefix("notebooks/") not in links:
            yield -1, f"exercise {name} has no solution, or the notebook does not link to it.", solution
        reasons = lesson.wrong_answers(name)
        cheats = sum(reason.startswith("cheat") for reason in reasons)
        if len(reasons) - cheats < WRONG_ANSWERS:
            yield -1, f"exercise {name} has {len(reasons) - cheats} wrong answers and needs {WRONG_ANSWERS}.", wrong
        if not cheats:
            yield -1, f"exercise {name} has no wrong answer whose reason begins with “cheat”.", wrong


def printed(cell: Cell) -> list[str]:
    return [line for text in cell.texts for line in text.splitlines() if line.strip()]


def parsed(cell: Cell) -> list[Block]:
    return list(blocks(cell.source))
