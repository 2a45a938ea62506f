"""The pages of the site: quizzes as forms, notebooks without a kernel, links, and what is wrong with a built page."""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from authoring.lesson import Lesson, LessonError, lessons
from authoring.site import __main__ as command
from authoring.site import check, pages
from authoring.site.lesson_page import WIDGET, LessonPage, lesson_page, verdict
from authoring.site.links import SOURCE_FILE, Links, repository
from authoring.site.quiz_form import anchor, form
from labkit.course.answer import verdict as verdict_of
from labkit.course.quiz import Question, quiz
from labkit.figures.style import COLOURS
from labkit.figures.written import with_variants
from tests.conftest import ROOT

QUESTIONS = {name: asked for path in sorted((ROOT / "notebooks/quizzes").glob("*.yaml")) for name, asked in quiz(path).items()}
OPTIONS = [asked for asked in QUESTIONS.values() if asked.options]
ORDERS = [asked for asked in QUESTIONS.values() if asked.steps]
PAUSE = QUESTIONS["02.pause"]


def texts(part: str) -> str:
    """The words of HTML, as a reader sees them."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", part)).split())


# --- quizzes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", OPTIONS, ids=lambda asked: asked.id)
def test_each_option_has_a_radio_button_and_its_verdict(asked: Question) -> None:
    page = form(asked)
    right = next(option.answer for option in asked.options if option.right)
    buttons = dict(re.findall(r'<input type="radio" name="[^"]*" value="(\d)" required> <span>([^<]*)</span>', page))
    verdicts = dict(re.findall(r'<template data-answer="(\d)">(.*)</template>', page))
    assert sorted(map(html.unescape, buttons.values())) == sorted(option.answer for option in asked.options)
    assert buttons.keys() == verdicts.keys()
    for number, answer in buttons.items():
        given = verdict_of(asked, right, html.unescape(answer))
        assert texts(verdicts[number]).startswith(" ".join(given.line.split()))
        assert all(f"{label}:" in texts(verdicts[number]) for label, _ in given.paragraphs)


def test_nothing_of_the_answer_can_be_seen_before_it_is_asked_for() -> None:
    for asked in QUESTIONS.values():
        shown = re.sub(r"<template.*?</template>", "", form(asked))
        expected = [asked.text, *(option.answer for option in asked.options), *asked.steps, "Check"]
        seen = texts(re.sub(r"<noscript>.*?</noscript>", "", shown)).removesuffix("Start again").strip()
        assert sorted(seen.split()) == sorted(" ".join(expected).split()), asked.id


@pytest.mark.parametrize("asked", ORDERS, ids=lambda asked: asked.id)
def test_each_swap_of_an_order_has_its_explanation(asked: Question) -> None:
    page = form(asked)
    places = [int(place) for place in re.findall(r'data-step="(\d)"', page)]
    assert sorted(places) == list(range(len(asked.steps))) != places
    swaps = re.findall(r'<template data-first="(\d)" data-then="(\d)">(.*)</template>', page)
    assert [(asked.steps[int(first)], asked.steps[int(then)]) for first, then, _ in swaps] == [
        (swap.first, swap.then) for swap in asked.swaps
    ]
    for swap, (_, _, text) in zip(asked.swaps, swaps, strict=True):
        assert f"Why “{swap.first}” before “{swap.then}” is tempting:" in texts(text)
        assert "Why this order" not in text


def test_text_of_a_quiz_is_no_markup(tmp_path: Path) -> None:
    path = tmp_path / "08.yaml"
    path.write_text(
        "a:\n  question: Is 1 < 2 && <b>bold</b>?\n  options:\n"
        '    "<i>yes</i>": {right: "By `<x>` & *so*.", source: s}\n    \'no"\': {tempts: t, shows: h, source: s}\n'
    )
    page = form(quiz(path)["08.a"])
    assert "<b>" not in page and "<i>" not in page and "<x>" not in page
    assert "<code>&lt;x&gt;</code> &amp; <em>so</em>." in page


# --- a notebook ------------------------------------------------------------------------------------------------------

SVG = '<svg role="img" width="75pt" height="30pt">\n<desc>A "tree" & more</desc>\n<path style="fill: #ffffff"/></svg>'
EXPLAINED = "<details><summary>Explanation</summary>\n\n*Why:* `x`\n\n</details>\n"
SEEN = f"**Seen: two. You did not commit to an answer before it ran.**\n\n{EXPLAINED}"


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A repository with one lesson, 02, without a notebook."""
    (tmp_path / "notebooks/solutions").mkdir(parents=True)
    shutil.copytree(ROOT / "notebooks/quizzes", tmp_path / "notebooks/quizzes")
    (tmp_path / "notebooks/solutions/02.1.py").write_text("solve()\n")
    return tmp_path


def page_of(course: Path, *cells: Any) -> LessonPage:
    path = course / "notebooks/02-why.ipynb"
    notebook = new_notebook(cells=[new_markdown_cell("# 02 · Why?\n\nBecause."), *cells])
    notebook.metadata["labkit"] = {"runtime": "containerd 9.9"}
    nbformat.write(notebook, path)
    links = Links({"notebooks/02-why.ipynb": "notebooks/02-why.ipynb"}, "", course)
    return lesson_page(Lesson(path, course), links, {"02": "Beside it."})


def shows(data: dict[str, Any]) -> Any:
    return new_output("execute_result", data=data, execution_count=1)


def test_a_question_is_a_form_in_place_of_its_widget(course: Path) -> None:
    asks = new_code_cell('guess = labkit.predict("02.pause")\nguess', outputs=[shows({WIDGET: {}, "text/plain": "?"})])
    more = new_code_cell('made()\nguess = labkit.predict("02.left")\nguess', outputs=[shows({WIDGET: {}, "text/plain": "?"})])
    _, first, second = page_of(course, asks, more).notebook.cells
    assert first.outputs[0].data == {"text/html": form(PAUSE)} and anchor("02.pause") in first.outputs[0].data["text/html"]
    assert first.metadata["tags"] == ["remove-input"]
    assert "tags" not in second.metadata and second.source.startswith("made()")


@pytest.mark.parametrize("source", ['labkit.predict("02.nothing")', 'labkit.predict("02.pause"), labkit.predict("02.left")'])
def test_a_cell_that_asks_something_else_is_named(course: Path, source: str) -> None:
    with pytest.raises(LessonError, match=r"^Cell 02-01 asks 02\..*\. Ask one question in a cell, one of the quiz\.$"):
        page_of(course, new_code_cell(source, outputs=[shows({WIDGET: {}, "text/plain": "?"})]))


def test_another_widget_is_its_text(course: Path) -> None:
    page = page_of(course, new_code_cell("slider", outputs=[shows({WIDGET: {}, "text/plain": "a slider"})]))
    assert page.notebook.cells[1].outputs[0].data == {"text/plain": "a slider"}


def test_a_figure_is_a_picture_for_light_and_dark_with_its_text(course: Path) -> None:
    figure = {"image/svg+xml": SVG, "image/png": "x", "text/plain": 'A "tree" & more\nof it'}
    page = page_of(course, new_code_cell("draw()", outputs=[shows(figure)]))
    shown = page.notebook.cells[1].outputs[0].data["text/html"]
    assert re.findall(r'src="([^"]*)" alt="([^"]*)" width="(\d+)" height="(\d+)"', shown) == [
        ("../figures/02-01-0.svg", "A &quot;tree&quot; &amp; more\nof it", "100", "40")
    ]
    light, dark, _ = COLOURS["background"]
    assert f'[style*="fill: {light}"]{{fill:{dark}!important}}' in page.pictures["02-01-0.svg"]


def test_a_narrow_page_shows_the_figure_that_was_drawn_for_it(course: Path) -> None:
    small = SVG.replace('width="75pt" height="30pt"', 'width="45pt" height="60pt"')
    smaller = SVG.replace('width="75pt" height="30pt"', 'width="30pt" height="90pt"')
    figure = {"image/svg+xml": with_variants(SVG, [small, smaller]), "image/png": "x", "text/plain": "A tree"}
    page = page_of(course, new_code_cell("draw()", outputs=[shows(figure)]))
    shown = page.notebook.cells[1].outputs[0].data["text/html"]
    assert re.findall(r'srcset="([^"]*)" media="([^"]*)" width="(\d+)" height="(\d+)"', shown) == [
        ("../figures/02-01-0-40.svg", "(max-width: 91px)", "40", "120"),
        ("../figures/02-01-0-60.svg", "(max-width: 131px)", "60", "80"),
    ]
    assert set(page.pictures) == {"02-01-0.svg", "02-01-0-60.svg", "02-01-0-40.svg"}


def test_a_verdict_is_folded_and_blames_nobody(course: Path) -> None:
    folded = verdict(SEEN)
    assert folded.startswith('<details class="verdict"><summary>What the node showed</summary>')
    assert folded.count("<details") == folded.count("</details>") == 1
    assert texts(folded) == "What the node showed Seen: two. Why: x"
    order = "**Seen, in this order:**<br>**1. a**<br>**You did not commit to an answer before it ran.**"
    assert texts(verdict(order)) == "What the node showed Seen, in this order: 1. a"


def test_a_solution_is_folded_in_place_of_its_link(course: Path) -> None:
    page = page_of(course, new_markdown_cell("**02.1** ([code](solutions/02.1.py)): Because."))
    assert page.notebook.cells[1].source == (
        "**02.1**: Because.\n\n<details><summary>Code of solution 02.1</summary>\n\n```python\nsolve()\n```\n\n</details>"
    )


def test_a_lesson_says_where_its_outputs_are_from_and_how_to_run_it(course: Path) -> None:
    top = page_of(course).notebook.cells[0].source
    assert top.startswith("# 02 · Why?\n\n```{admonition}") and top.endswith("Beside it.\n\n\nBecause.")
    assert "containerd 9.9" in top and "sudo ./course start" in top and "`02-why.ipynb`" in top


def test_what_only_jupyterlab_can_do_is_left_out(course: Path) -> None:
    page = page_of(
        course, new_markdown_cell("You can.\n\nIf you see outputs already, *Edit → Clear Outputs of All Cells*.\n\nMore.")
    )
    assert page.notebook.cells[1].source == "You can.\n\nMore."


# --- links -----------------------------------------------------------------------------------------------------------

LINKS = Links({"README.md": "index.md", "docs/shell.md": "docs/shell.md", "labkit/cli/__main__.py": "labkit/cli/__main__.py.md"})


@pytest.mark.parametrize(
    ("text", "file", "there"),
    [
        ("[a](../README.md#start)", "docs/shell.md", "[a](../index.md#start)"),
        ("[a `b`](docs/shell.md)", "README.md", "[a `b`](docs/shell.md)"),
        ("[a](https://example.org/x)", "README.md", "[a](https://example.org/x)"),
        ("[a](#start)", "README.md", "[a](#start)"),
        ("see [a](LICENSE).", "README.md", "see a."),
        ("`labkit/cli/__main__.py`", "docs/shell.md", "[`labkit/cli/__main__.py`](../labkit/cli/__main__.py.md)"),
        ("`labkit/cri/probe.py`", "docs/shell.md", "`labkit/cri/probe.py`"),
    ],
)
def test_a_link_leads_to_a_page_or_away(text: str, file: str, there: str) -> None:
    assert LINKS.rewritten(text, file) == there


def test_a_file_without_a_page_is_linked_at_the_repository_where_it_is_public() -> None:
    public = Links(LINKS.pages, "someone/course")
    assert public.rewritten("[a](LICENSE)", "README.md") == "[a](https://github.com/someone/course/blob/HEAD/LICENSE)"


@pytest.mark.parametrize("text", ["[a](../LICENSE)", "`labkit/nothing.py`"])
def test_a_name_of_no_file_is_a_fault(text: str) -> None:
    with pytest.raises(LessonError, match=r"^README\.md names .*, which is not there\. Correct the name\.$"):
        LINKS.rewritten(text, "README.md")


def test_the_lessons_and_documents_name_files_that_are_there() -> None:
    prose = [cell.source for lesson in lessons() for cell in lesson.prose]
    documents = [(ROOT / path).read_text() for path in ("README.md", *pages.LEARNERS, *pages.TEACHERS)]
    named = {path for text in (*prose, *documents) for path in SOURCE_FILE.findall(text)}
    assert named and [path for path in sorted(named) if not (ROOT / path).is_file()] == []


def test_the_repository_is_the_code_hosts_and_none_while_the_course_has_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/course")
    assert repository() == "someone/course"
    monkeypatch.setenv("GITHUB_REPOSITORY", "OWNER/REPOSITORY")
    assert repository() == ""


def test_readme_offers_binder_where_there_is_an_address_only(tmp_path: Path) -> None:
    texts = {}
    for name in ("", "someone/course"):
        links = Links({"README.md": "index.md", "docs/shell.md": "docs/shell.md"}, name)
        texts[name] = pages.index(ROOT, ["notebooks/00-is-my-lab-real.ipynb"], links)
    assert "mybinder.org" not in texts[""]
    assert "https://mybinder.org/v2/gh/someone/course/HEAD" in texts["someone/course"]
    assert not [text for text in texts.values() if "OWNER/REPOSITORY" in text or "[![" in text or "placeholder" in text]


# --- a built page ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<img src="a.png" alt="a">', "page.html loads a.png, which is not there"),
        ('<img src="there.svg">', "page.html has an image without alternative text: there.svg"),
        ('<script src="https://example.org/x.js"></script>', "page.html loads https://example.org/x.js from elsewhere"),
        ('<link rel="stylesheet" href="//example.org/x.css">', "page.html loads //example.org/x.css from elsewhere"),
        ('<link rel="preload" href="https://example.org/x.woff2">', "page.html loads https://example.org/x.woff2 from elsewhere"),
        ('<a href="other.html">', "page.html links to other.html, which is not there"),
        ('<a href="#nowhere">', "page.html links to #nowhere, whose page has no such place"),
        ('<a href="page.html#nowhere">', "page.html links to page.html#nowhere, whose page has no such place"),
        ('<img src="heavy.svg" alt="a">', "page.html weighs 1,000,"),
    ],
)
def test_what_is_wrong_with_a_page_is_said(tmp_path: Path, body: str, fault: str) -> None:
    (tmp_path / "there.svg").write_text("<svg/>")
    (tmp_path / "heavy.svg").write_bytes(bytes(check.HEAVIEST))
    (tmp_path / "page.html").write_text(body)
    (found,) = check.faults(check.pages(tmp_path))
    assert found.startswith(fault)


def test_a_good_page_has_no_fault(tmp_path: Path) -> None:
    (tmp_path / "there.svg").write_text("<svg/>")
    (tmp_path / "page.html").write_text(
        '<link rel="canonical" href="https://example.org/"><link rel="icon" href="data:,"><h1 id="a b">x</h1>'
        '<a href="#a%20b">x</a><a href="page.html">x</a><a href="https://example.org/">x</a><img src="there.svg?v=1" alt="x">'
    )
    read = check.pages(tmp_path)
    assert list(check.faults(read)) == []
    (page,) = read.values()
    assert check.weight(page) == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_a_directory_of_something_else_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").touch()
    assert command.main([str(tmp_path)]) == 1
    assert "is not a site that ./course site has built. Name a new directory, or remove it." in capsys.readouterr().err
    assert (tmp_path / "mine.txt").exists()
