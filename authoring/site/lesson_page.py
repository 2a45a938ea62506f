"""A notebook as it is read without a kernel: with its committed outputs, its quizzes as forms, its answers folded."""

from __future__ import annotations

import copy
import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from authoring.lesson import Lesson, LessonError, read
from authoring.site.links import Links, binder
from authoring.site.quiz_form import form
from labkit.course.answer import NOT_COMMITTED
from labkit.course.quiz import Question, quiz
from labkit.figures.written import for_both_themes, variants

ASKS = re.compile(r"labkit\.predict(?:_order)?\(\"(\d\d\.[a-z0-9-]+)\"\)")
ONLY_ASKS = re.compile(r"\s*(\w+) = labkit\.predict(?:_order)?\(\"[^\"]*\"\)\n\1\s*")
WIDGET = "application/vnd.jupyter.widget-view+json"
FIGURES = "figures"
"""The directory of the site with the lessons' pictures."""
EDGE = 16
"""px left free at each side of the text on a narrow page."""
_FOR_JUPYTERLAB = re.compile(r"\n\nIf you see outputs already,[^\n]*Clear Outputs of All Cells[^\n]*")
_FOLDED = re.compile(r"\n\n<details[^>]*><summary>.*?</summary>\n\n(.*)\n\n</details>\s*", re.DOTALL)
_SOLUTION = re.compile(r" \(\[code\]\((solutions/[\w.]+\.py)\)\)")
_MARKDOWN = MarkdownIt("commonmark")


@dataclass
class LessonPage:
    """`notebook`: what Sphinx reads. `pictures`: SVG by file name, which the page shows from FIGURES."""

    notebook: Any
    pictures: dict[str, str] = field(default_factory=dict)


def lesson_page(lesson: Lesson, links: Links, beside: Mapping[str, str]) -> LessonPage:
    """The page of a lesson. beside: Markdown to show below the title of single lessons, by number. Raises LessonError where the
    notebook and its quiz do not fit together."""
    page = LessonPage(copy.deepcopy(read(lesson.notebook)))
    questions = quiz(lesson.quiz)
    file = f"notebooks/{lesson.notebook.name}"
    for number, cell in enumerate(page.notebook.cells):
        if cell.cell_type == "markdown":
            cell.source = links.rewritten(solutions(_FOR_JUPYTERLAB.sub("", cell.source), lesson.notebook.parent), file)
        else:
            _Cell(cell, f"{lesson.number}-{number:02}", questions, page.pictures).convert()
    first = page.notebook.cells[0]
    title, _, rest = first.source.partition("\n")
    notes = [to_run(lesson, page.notebook.metadata.get("labkit", {}), links.repository), beside.get(lesson.number, "")]
    first.source = "\n\n".join([title, *filter(None, notes), rest])
    return page


def to_run(lesson: Lesson, origin: Mapping[str, str], repository: str) -> str:
    """The note at the top of a lesson: where its outputs are from, and how to run it."""
    name = lesson.notebook.name
    where = f"The outputs are those of a real node ({origin['runtime']})." if origin.get("runtime") else ""
    ways = f"start the course with `sudo ./course start` and open `{name}`"
    if repository:
        ways += f", or [open it on Binder]({binder(name, repository)})"
    return f"```{{admonition}} Read here, or run it\n{where} To run this lesson, {ways}.\n```"


def solutions(text: str, directory: Path) -> str:
    """A text with the code of each solution that it links to, folded, in place of the link."""
    paths = [directory / found for found in _SOLUTION.findall(text)]
    codes = [
        f"<details><summary>Code of solution {path.stem}</summary>\n\n```python\n{path.read_text().strip()}\n```\n\n</details>"
        for path in paths
    ]
    return "\n\n".join([_SOLUTION.sub("", text), *codes])


@dataclass
class _Cell:
    """A code cell that is being converted. `name`: the beginning of its pictures' file names."""

    cell: Any
    name: str
    questions: Mapping[str, Question]
    pictures: dict[str, str]

    def convert(self) -> None:
        asked = ASKS.findall(self.cell.source)
        if ONLY_ASKS.fullmatch(self.cell.source):
            self.cell.metadata["tags"] = [*self.cell.metadata.get("tags", []), "remove-input"]
        for number, output in enumerate(self.cell.outputs):
            shown = output.get("data", {})
            if converted := self._html(shown, f"{self.name}-{number}", asked):
                output["data"] = {"text/html": converted}
                output["metadata"] = {}
            shown.pop(WIDGET, None)  # needs a kernel; what it is in plain text is shown

    def _html(self, data: Mapping[str, str], name: str, asked: list[str]) -> str:
        """What the page shows in place of an output; "" where it shows the output itself."""
        if WIDGET in data and asked:
            if len(asked) > 1 or asked[0] not in self.questions:
                raise LessonError(f"Cell {self.name} asks {' and '.join(asked)}. Ask one question in a cell, one of the quiz.")
            return form(self.questions[asked[0]])
        if "image/svg+xml" in data:
            return self._figure(data["image/svg+xml"], data["text/plain"], f"{name}.svg")
        if "text/markdown" in data:
            return verdict(data["text/markdown"])
        return f'<div class="wide">{data["text/html"]}</div>' if "text/html" in data else ""

    def _figure(self, svg: str, alt: str, file: str) -> str:
        wide, *narrow = variants(svg)
        self.pictures[file] = for_both_themes(wide)
        width, height = size_of(wide)
        address, text = f"../{FIGURES}/{file}", html.escape(alt)
        image = f'<img src="{address}" alt="{text}" width="{width}" height="{height}" loading="lazy">'
        sources, wider = "", width
        for each in narrow:  # from wide to narrow; a browser takes the first source that fits
            small, tall = size_of(each)
            name = f"{Path(file).stem}-{small}.svg"
            self.pictures[name] = for_both_themes(each)
            media = f'media="(max-width: {wider + 2 * EDGE - 1}px)" width="{small}" height="{tall}"'
            sources, wider = f'<source srcset="../{FIGURES}/{name}" {media}>{sources}', small
        picture = f"<picture>{sources}{image}</picture>"
        return f'<figure class="drawn wide" style="--width: {width}px"><a href="{address}">{picture}</a></figure>'


def size_of(svg: str) -> tuple[int, int]:
    """Width and height of a figure's SVG, px."""
    size = re.search(r'\bwidth="([\d.]+)pt" height="([\d.]+)pt"', svg)
    return (round(float(size[1]) * 96 / 72), round(float(size[2]) * 96 / 72)) if size else (0, 0)


def verdict(markdown: str) -> str:
    """A verdict of the committed outputs, folded: a reader sees it when she wants to."""
    blame = re.escape(NOT_COMMITTED)
    head, shown = re.sub(rf"<br>\*\*{blame}\*\*| {blame}", "", markdown), ""
    if found := _FOLDED.search(head):
        head, shown = head[: found.start()], found[1]
    text = _MARKDOWN.render(f"{head}\n\n{shown}")
    return f'<details class="verdict"><summary>What the node showed</summary>\n{text}</details>'
