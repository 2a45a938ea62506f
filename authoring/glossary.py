"""Write docs/glossary.md from docs/glossary.yaml, and link each term to it where a lesson explains it."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml

from authoring import lesson as lesson_module
from authoring.lesson import ROOT, Lesson, LessonError, lessons
from labkit.util.outputs import write_whole

SOURCE, PAGE = "docs/glossary.yaml", "docs/glossary.md"
HEAD = """\
# Glossary

The course's terms, each with the lesson that explains it. `./course lesson glossary` writes this page, and
the links to it, from `docs/glossary.yaml`.
"""


@dataclass(frozen=True)
class Term:
    """`forms`: the words by which it is used in prose, the term itself among them."""

    term: str
    meaning: str
    lesson: str
    forms: tuple[str, ...]

    def used(self, text: str) -> bool:
        return any(uses(form, text) for form in self.forms)

    @property
    def link(self) -> str:
        """What follows the linked words in a notebook; the meaning is shown where the pointer rests on them."""
        anchor, title = re.sub(r"[^\w -]", "", self.term.lower()).replace(" ", "-"), self.meaning.replace('"', r"\"")
        return f'(../{PAGE}#{anchor} "{title}")'

    def linked(self, text: str) -> str:
        """The cell's text with the first stressed use of the term linked to its meaning."""
        for found in STRESSED.finditer(text):
            if self.used(found[2].strip("`")):
                words = f"{found[1]}{found[2]}{found[1]}"
                return f"{text[: found.start()]}[{words}]{self.link}{text[found.end() :]}"
        return text


LINK = re.escape(f"(../{PAGE}#") + r'[\w-]+ "(?:[^"\\]|\\.)*"\)'
STRESSED = re.compile(rf"\[?(?<!\*)(\*\*?)([^*\n]+)\1(?!\*)(?:\]{LINK})?")
"""Words in bold or italics, with the link to the glossary that they may have."""


@functools.cache
def _pattern(form: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-]){re.escape(form)}(?:s|es)?(?![\w-])", 0 if form[0].isupper() else re.IGNORECASE)


def uses(form: str, text: str) -> bool:
    """Whether a text has the word or its plural; a form with a capital only so written."""
    return bool(_pattern(form).search(text))


def read(root: Path = ROOT) -> list[Term]:
    """The terms by name. Raises LessonError where the file is not as its first lines say."""
    return _read(root / SOURCE, (root / SOURCE).stat().st_mtime_ns)


@functools.cache
def _read(path: Path, _: int) -> list[Term]:
    try:
        rows = yaml.safe_load(path.read_text())
        terms = [Term(r["term"], r["meaning"], r["lesson"], tuple(r.get("forms", ())) or (r["term"],)) for r in rows]
        for each in terms:
            if not all(isinstance(text, str) and text.strip() for text in (each.term, each.meaning, each.lesson, *each.forms)):
                raise TypeError(f"each value of {each.term!r} is text in quotation marks")
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise LessonError(f"{SOURCE} cannot be read: {reason}. Its first lines say what a row has.") from None
    return sorted(terms, key=lambda each: each.term.lower())


def page(root: Path = ROOT) -> str:
    """The text of docs/glossary.md."""
    names = {lesson.number: lesson.notebook.name for lesson in lessons(root)}
    where = {number: f"Explained in lesson [{number}](../notebooks/{name})." for number, name in names.items()}
    return "\n".join([HEAD, *(f"## {t.term}\n\n{t.meaning} {where.get(t.lesson, '')}\n" for t in read(root))])


def run(root: Path = ROOT) -> int:
    write_whole(root / PAGE, page(root).encode())
    print(f"Written: {PAGE}, {len(read(root))} terms")
    for lesson in lessons(root):
        if link(lesson):
            print(f"Linked: the terms of {lesson.notebook.name}")
    return 0


def link(lesson: Lesson) -> bool:
    """Link each term that the lesson explains, in the first cell that stresses it. Whether the notebook was changed."""
    notebook, changed = lesson_module.read(lesson.notebook), False
    for term in (each for each in read(lesson.root) if each.lesson == lesson.number):
        for cell in notebook.cells:
            if cell.cell_type == "markdown" and any(term.used(text.strip("`")) for _, text in STRESSED.findall(cell.source)):
                text = term.linked(cell.source)
                changed, cell.source = changed or text != cell.source, text
                break
    if changed:
        write_whole(lesson.notebook, (nbformat.writes(notebook) + "\n").encode())
    return changed
