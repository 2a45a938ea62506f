"""Every rule of `./course lesson lint` finds the fault that it is for, and the lessons have none but those named here."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from authoring import glossary, lint, new
from authoring.lesson import LessonError, find, lessons
from labkit.course.answer import NOT_COMMITTED, verdict
from labkit.course.predict import Prediction
from labkit.course.quiz import quiz
from tests.conftest import ROOT
from tests.unit.test_lesson_new import copy_readme

KNOWN: set[tuple[str, str, str]] = set()
"""Faults of the lessons that are not mended yet: lesson, rule, words. Remove a row when its cell is mended."""


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one lesson, 08, as its author leaves it."""
    root = tmp_path_factory.mktemp("course")
    for name in ("notebooks/quizzes", "notebooks/solutions", "labkit/course/checks", "docs", "tests/notebooks/wrong"):
        (root / name).mkdir(parents=True)
    copy_readme(root)
    shutil.copy(ROOT / glossary.SOURCE, root / glossary.SOURCE)
    new.run("08", "Who answers `crictl ps`?", root)
    source = (root / glossary.SOURCE).read_text()
    (root / glossary.SOURCE).write_text(re.sub(r'lesson: "\d\d"', 'lesson: "07"', source))
    glossary.run(root)
    for path in (*root.glob("notebooks/08-*.ipynb"), *root.rglob("08.1.py"), *root.rglob("lesson_08.py"), *root.rglob("08.yaml")):
        path.write_text(path.read_text().replace("TODO ", "" if path.suffix == ".yaml" else "Here: "))
    change(root, run)
    return root


@pytest.fixture
def course(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "course")


def change(root: Path, how: Callable[[Any], object]) -> None:
    path = find("08", root).notebook
    notebook = nbformat.read(path, as_version=4)
    how(notebook)
    nbformat.write(notebook, path)


def run(notebook: Any) -> None:
    """As `lesson save` leaves it, as far as the rules look."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for count, cell in enumerate(code, 1):
        cell.execution_count = count
    code[-2].outputs = [result("Not yet: there is no Pod called answer on the node.")]
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and "## Summary" in cell.source:
            cell.source = cell.source.replace("- Here:", "- `sleep`:")


def result(text: str | None, **data: str) -> Any:
    texts = {} if text is None else {"text/plain": text}
    return new_output("execute_result", execution_count=1, data={**texts, **data})


def found(root: Path) -> list[tuple[str, str]]:
    return [(fault.rule, f"{fault.where} {fault.says}") for fault in lint.check([find("08", root)])]


def put(cell: Any, at: int = 6) -> Callable[[Any], None]:
    return lambda notebook: notebook.cells.insert(at, cell)


def code(source: str, *outputs: Any, **metadata: Any) -> Any:
    return new_code_cell(source, execution_count=1, outputs=list(outputs), metadata=metadata)


def edit(old: str, text: str) -> Callable[[Any], None]:
    def replace(notebook: Any) -> None:
        assert any(old in cell.source for cell in notebook.cells), old
        for cell in notebook.cells:
            cell.source = cell.source.replace(old, text)

    return replace


def test_a_finished_lesson_has_no_fault(course: Path) -> None:
    assert found(course) == []


ASK = 'which = labkit.predict("08.which")\nwhich\n'
WRONG = "{tempts: It is near., shows: The line says so., source: man 1 true}"
WHICH = f"which: {{question: 'Which?', options: {{one: {{right: So it is., source: man 1 true}}, two: {WRONG}}}}}\n"
PNG = {"image/png": "iVBORw0KGgo="}
SVG = {"image/svg+xml": "<svg><path/></svg>"}
FAULTS = {
    "no summary": (edit("## Summary", "## The end"), "frame", "no '## Summary'"),
    "no question": (edit("> **", "**"), "frame", "> **"),
    "nothing removed": (edit("node.remove_leftovers()\n", ""), "frame", "removes nothing"),
    "a TODO": (edit("## Exercise", "TODO\n\n## Exercise"), "todo", "is left"),
    "eleven lines": (put(code("x = 1\n" * 11)), "length", "11 lines"),
    "no Python": (put(code("x = = 1")), "output", "no Python"),
    "not run": (put(new_code_cell("x = 1")), "output", "not run"),
    "an error": (put(code("1/0", new_output("error", ename="x", evalue="", traceback=[]))), "output", "with an error"),
    "a tag": (put(code("x = 1", tags=["nbval-skip"])), "output", "left out"),
    "nbval": (put(code("# NBVAL_IGNORE_OUTPUT\nx = 1")), "output", "left out"),
    "nothing asked": (edit("labkit.predict", "print"), "frame", "predicts nothing"),
    "prediction without a cell": (
        lambda n: n.cells.insert(6, new_markdown_cell("**Predict:** what?\n\n## Next section")) or n.cells.insert(7, code("1")),
        "experiment",
        "that nothing tests",
    ),
    "two predictions": (put(new_markdown_cell("**Predict:** what?\n\n**Predict:** which?")), "experiment", "that nothing tests"),
    "section without a cell": (put(new_markdown_cell("## Told only\n\nIt is so."), 8), "experiment", "'Told only' shows nothing"),
    "claim without a cell": (
        edit("- `sleep`:", "- Every `frobnicator` is blue.\n- `sleep`:"), "experiment", "what no cell shows: 'Every"),
    "option never reported": (put(code(f'{ASK}which.seen("one")')), "prediction", "never reports 'two'"),
    "option never indexed": (put(code(f'{ASK}which.seen(which.options[0])')), "prediction", "never reports 'two'"),
    "option behind a name": (
        put(code(f'{ASK}answer = "one" if node else "three"\nwhich.seen(answer)')), "prediction", "'three', which is no option"),
    "option of a function": (
        put(code(f'{ASK}def look():\n    return "one"\nwhich.seen(look())')), "prediction", "never reports 'two'"),
    "never answered": (put(code(ASK)), "prediction", "nothing answers"),
    "no such question": (put(code(ASK.replace("which\")", "what\")"))), "prediction", "no question 08.what"),
    "never asked": (put(code("x = 1")), "prediction", "does not ask 08.which"),
    "a question in prose only": (
        lambda n: n.cells.insert(6, new_markdown_cell("**Predict:** what?")) or n.cells.insert(7, code("1")),
        "prediction", "cannot commit"),
    "question in other words": (put(code(ASK, result("Who?"))), "stale", "not have the question 08.which as it is now"),
    "opening in other words": (put(code('labkit.review("08")', result("Before"))), "stale", "the questions of the opening"),
    "verdict in other words": (
        put(code(f'{ASK}which.seen("one")', result(f"Seen: one. {NOT_COMMITTED}", **{"text/markdown": "It was so."}))),
        "stale", "not have the verdict on 08.which"),
    "figure without text": (put(code("draw()", result(None, **PNG))), "figure", "has no text"),
    "figure of matplotlib": (put(code("draw()", result("<Figure size 640x480>", **PNG))), "figure", "has no text"),
    "SVG without text": (put(code("draw()", result("A tree.", **SVG))), "figure", "SVG has no text"),
    "picture without text": (put(new_markdown_cell("![](../README.md)")), "figure", "no alternative text"),
    "HTML picture without text": (put(new_markdown_cell('<img src="../README.md">')), "figure", "no alternative text"),
    "term before its lesson": (
        lambda n: n.cells.__setitem__(0, new_markdown_cell(n.cells[0].source + "\n\nThe frobber comes later.")),
        "term", "'frobber' is explained in lesson 09 only"),
    "term before its explanation": (
        lambda n: n.cells.__setitem__(2, new_markdown_cell("A quux.\n\n" + n.cells[2].source))
        or n.cells.insert(6, new_markdown_cell("A **quux** is a thing.")),
        "term", "'quux' is used before it is explained"),
    "term without its link": (put(new_markdown_cell("A **quux** is a thing.")), "term", "'quux' is not linked to its meaning"),
    "endless loop": (put(code("while not done():\n    pass")), "wait", "may never end"),
    "a pause that may be absent": (put(code("next(p for p in pod.processes if p.role == 'pause')")), "wait", "no pause"),
    "broken link": (put(new_markdown_cell("[see](nowhere.md)")), "link", "'nowhere.md' leads nowhere"),
    "broken anchor": (put(new_markdown_cell("[see](#nowhere)")), "link", "'#nowhere' leads nowhere"),
    "broken anchor elsewhere": (put(new_markdown_cell("[see](../README.md#nowhere-at-all)")), "link", "leads nowhere"),
    "link out of the repository": (put(new_markdown_cell("[see](../../../../../../../etc/passwd)")), "link", "leads nowhere"),
    "link without a host": (put(new_markdown_cell("[see](https:///x)")), "link", "leads nowhere"),
    "link that is no URL": (put(new_markdown_cell('<a href="http://[">x</a>')), "link", "leads nowhere"),
    "lesson that is not there": (put(new_markdown_cell("As in notebook 55.")), "link", "no lesson 55"),
    "exercise solved": (edit("labkit.check", 'print("Done")\nlabkit.check'), "", ""),
    "no exercise": (edit('labkit.check("08.1", node)', "node"), "exercise", "no cell runs labkit.check('08.1'"),
    "nothing printed": (lambda n: n.cells[-3].outputs.clear(), "exercise", "not only “Not yet"),
    "no link to the solution": (edit("(solutions/08.1.py)", "(../README.md)"), "exercise", "does not link"),
    "an exemption for nothing": (put(code("x = 1", lint={"length": "It is long."})), "exemption", "finds nothing"),
    "an exemption from everything": (put(code("x = 1", lint="It is fine.")), "exemption", "not 'It is fine.'"),
    "an exemption without a reason": (put(code("x = 1\n" * 11, lint={"length": " "})), "length", "11 lines"),
}


def asks_which(root: Path, text: str = WHICH) -> None:
    with (root / "notebooks/quizzes/08.yaml").open("a") as file:
        file.write(text)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(course: Path, name: str) -> None:
    how, rule, says = FAULTS[name]
    if rule in ("prediction", "stale"):
        asks_which(course)
    with (course / glossary.SOURCE).open("a") as file:
        for term, lesson in (("frobber", "09"), ("quux", "08")):
            if term in says:
                file.write(f'- {{term: {term}, meaning: A thing., lesson: "{lesson}"}}\n')
    glossary.run(course)
    change(course, how)
    assert [fault for fault in found(course) if fault[0] == rule and says in fault[1]] or (not rule and found(course) == [])


@pytest.mark.parametrize(
    ("file", "rule"),
    [("notebooks/quizzes/08.yaml", "prediction"),
     ("notebooks/solutions/08.1.py", "exercise"), ("tests/notebooks/wrong/08.1.py", "exercise"),
     ("labkit/course/checks/lesson_08.py", "exercise"), ("docs/glossary.md", "term")],
)
def test_a_missing_file_is_found(course: Path, file: str, rule: str) -> None:
    (course / file).unlink()
    assert rule in {name for name, says in found(course) if file in says}


@pytest.mark.parametrize(
    ("reasons", "says"),
    [
        (["one", "two", "cheat: three"], "exercise 08.1 has 2 wrong answers and needs 3."),
        (["one", "two", "three"], "exercise 08.1 has no wrong answer whose reason begins with “cheat”."),
    ],
)
def test_too_few_wrong_answers_are_found(course: Path, reasons: list[str], says: str) -> None:
    (course / "tests/notebooks/wrong/08.1.py").write_text("".join(f"# %% {reason}\nx = 1\n" for reason in reasons))
    assert [fault for _, fault in found(course)] == [f"tests/notebooks/wrong/08.1.py {says}"]


def test_a_row_that_readme_lacks_and_a_cell_that_is_done_already_are_found(course: Path) -> None:
    readme = course / "README.md"
    readme.write_text(readme.read_text().replace("](notebooks/08-", "](x/08-"))
    change(course, lambda n: n.cells[-3].outputs.append(result("Done: it runs.")))
    assert [rule for rule, _ in found(course)] == ["frame", "exercise"]


def test_the_glossary_links_each_term_once_and_follows_its_meaning(course: Path) -> None:
    change(course, put(new_markdown_cell("A *quux* is a **thing**. The **quux** again.")))
    for meaning in ("A thing.", 'The "thing" (of old).'):
        rows = (course / glossary.SOURCE).read_text().partition("\n- term: quux")[0]
        (course / glossary.SOURCE).write_text(f"{rows}\n- term: quux\n  meaning: '{meaning}'\n  lesson: \"08\"\n")
        for _ in range(2):
            glossary.run(course)
        assert found(course) == []
        [text] = [cell.source for cell in find("08", course).prose if "quux" in cell.source]
        title = meaning.replace('"', r"\"")
        assert text == f'A [*quux*](../docs/glossary.md#quux "{title}") is a **thing**. The **quux** again.'


def test_an_exemption_with_a_reason_is_obeyed(course: Path) -> None:
    change(course, put(code("x = 1\n" * 11, lint={"length": "A manifest that is read as a whole."})))
    assert found(course) == []


def test_a_quiz_with_a_fault_is_found(course: Path) -> None:
    asks_which(course, WHICH.replace("shows", "show"))
    change(course, put(code(f"{ASK}which.seen(x)")))
    assert [says for rule, says in found(course)] == [
        "notebooks/quizzes/08.yaml quizzes/08.yaml, which, option 'two': the key shows is missing."
        ' See "A quiz" in docs/authoring.md.'
    ]


def test_what_a_call_returns_may_be_any_option(course: Path) -> None:
    asks_which(course)
    change(course, put(code(f"{ASK}which.seen(cluster.status('web'))")))
    change(course, put(code(f"{ASK}which.seen(which.options[len(found) > 3])")))
    change(course, put(code(f"{ASK}which.seen({{3: 'one'}}.get(count, 'two'))")))
    change(course, put(code(f"{ASK}which.seen(next(o for o in which.options if o in seen))")))
    change(course, put(code(f"{ASK}seen = which.options[0]\nif node:\n    seen = which.options[1]\nwhich.seen(seen)")))
    assert found(course) == []


def test_outputs_with_the_words_of_the_quiz_are_not_stale(course: Path) -> None:
    asks_which(course)
    asked = quiz(find("08", course).quiz)["08.which"]
    shown = verdict(asked, "one", None)._repr_mimebundle_()
    change(course, put(code(f"{ASK}which.seen('one' if node else 'two')", result(None, **shown))))
    change(course, put(code('labkit.predict("08.which")', result(repr(Prediction(asked))))))
    assert found(course) == []


def test_a_glossary_that_cannot_be_read_says_what_is_wrong(course: Path) -> None:
    (course / glossary.SOURCE).write_text("- term: pause\n  lesson: 2\n")
    with pytest.raises(LessonError, match=r"glossary\.yaml cannot be read: 'meaning'"):
        glossary.read(course)


@pytest.mark.parametrize("text", ["", "{", '{"cells": 3}'])
def test_a_broken_notebook_is_one_sentence(course: Path, text: str) -> None:
    find("08", course).notebook.write_text(text)
    with pytest.raises(LessonError, match=r"no valid notebook.*git checkout"):
        lint.check([find("08", course)])


def test_the_lessons_of_the_course_have_no_fault_that_is_not_known() -> None:
    faults = lint.check(list(lessons()))
    known = [next((row for row in KNOWN if row[:2] == (f.lesson, f.rule) and row[2] in f.says), None) for f in faults]
    assert [str(fault) for fault, row in zip(faults, known, strict=True) if row is None] == []
    assert set(known) == KNOWN, "a fault is mended: remove its row above"
