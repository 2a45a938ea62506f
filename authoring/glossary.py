"""Write docs/glossary.md from docs/glossary.yaml."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from authoring.lesson import ROOT, LessonError, lessons
from labkit.util.outputs import write_whole

SOURCE, PAGE = "docs/glossary.yaml", "docs/glossary.md"
HEAD = """\
# Glossary

The course's terms, each with the lesson that explains it. Written by `./course lesson glossary` from `docs/glossary.yaml`.
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
    rows = [f"| **{t.term}** | {t.meaning} | [{t.lesson}](../notebooks/{names.get(t.lesson, '')}) |" for t in read(root)]
    return "\n".join([HEAD, "| term | meaning | lesson |", "|---|---|---|", *rows, ""])


def run(root: Path = ROOT) -> int:
    write_whole(root / PAGE, page(root).encode())
    print(f"Written: {PAGE}, {len(read(root))} terms")
    return 0
