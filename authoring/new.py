"""Write the frame of a new lesson: the notebook, the check, the solution, the wrong answers, and the lesson's row in README.md.

The frame runs as it is, with an experiment in it that yours replaces. TODO stands where something is to be written;
`./course lesson lint` finds each that is left.
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from authoring import frame
from authoring.lesson import ROOT, Lesson, LessonError, lessons
from labkit.util.outputs import write_whole

ROW = re.compile(r"(?m)^\| \[(\d\d)\]\(notebooks/.*\n")


def run(number: str, question: str, root: Path = ROOT) -> int:
    """Make the lesson's files, all of them or none. Raises LessonError."""
    question = question.strip()
    refuse(number, question, root)
    notebook = root / "notebooks" / f"{number}-{slug(question)}.ipynb"
    made_lesson = Lesson(notebook, root)
    fields = {"NUMBER": number, "QUESTION": question, "DOCSTRING": question.replace("\\", "\\\\").replace('"', '\\"')}
    files = {
        notebook: nbformat.writes(made(fields)) + "\n",
        made_lesson.quiz: filled(frame.QUIZ, fields),
        made_lesson.checks: filled(frame.CHECK, fields),
        made_lesson.solution(f"{number}.1"): filled(frame.SOLUTION, fields),
        made_lesson.wrong(f"{number}.1"): filled(frame.WRONG, fields),
    }
    if there := [path for path in files if path.exists()]:
        raise LessonError(f"{there[0].relative_to(root)} is there already. Remove it, or choose another number.")
    readme = root / "README.md"
    before = readme.read_text()
    files[readme] = with_row(before, number, notebook.name, question)
    try:
        for path, text in files.items():
            write_whole(path, text.encode())
    except BaseException as error:  # Ctrl-C too
        for path in files:
            if path != readme:
                path.unlink(missing_ok=True)
        if readme.read_text() != before:
            write_whole(readme, before.encode())
        if isinstance(error, OSError):
            raise LessonError(f"{error.filename} cannot be written: {error.strerror}. Nothing was changed.") from None
        raise
    print("\n".join(["Written:", *(f"  {path.relative_to(root)}" for path in files)]))
    print(f"Next: write where TODO stands (./course lesson edit {number} opens JupyterLab), then ./course lesson lint {number}")
    return 0


def refuse(number: str, question: str, root: Path) -> None:
    if not re.fullmatch(r"[0-9]{2}", number):
        raise LessonError(f"{number!r} is no number of a lesson. Give two digits, as in 08.")
    if there := [lesson.notebook.name for lesson in lessons(root) if lesson.number == number]:
        taken = [lesson.number for lesson in lessons(root)]
        free = next((f"{n:02}" for n in range(100) if f"{n:02}" not in taken), "")
        raise LessonError(f"There is a lesson {number} already, {there[0]}. Choose another number; {free} is free.")
    if not slug(question) or not question.endswith("?") or not question.isprintable():
        raise LessonError(f"{question!r} is no question. Give one line with words in it and a question mark at its end.")
    if len(question) > 100:
        raise LessonError(f"The question has {len(question)} letters. A title has room for 100: ask it in fewer words.")


def slug(question: str) -> str:
    """The question as part of a file's name: "Who answers `crictl ps`?" is who-answers-crictl-ps."""
    words = re.findall(r"[a-z0-9]+", question.lower().replace("'", ""))
    while len("-".join(words)) > 60:
        words.pop()
    return "-".join(words)


def with_row(readme: str, number: str, name: str, question: str) -> str:
    """README.md with the lesson's row in the table of lessons. Raises LessonError where it has no such table."""
    rows = list(ROW.finditer(readme))
    if not rows:
        raise LessonError("README.md has no table of lessons. Restore it with: git checkout README.md")
    earlier = [row.end() for row in rows if row[1] < number]
    at = max(earlier) if earlier else rows[0].start()
    cell = question.replace("|", "\\|")
    return f"{readme[:at]}| [{number}](notebooks/{name}) | {cell} |\n{readme[at:]}"


def filled(text: str, fields: dict[str, str]) -> str:
    return re.sub("|".join(fields), lambda word: fields[word[0]], text.lstrip("\n"))


def made(fields: dict[str, str]) -> nbformat.NotebookNode:
    """The notebook; a code cell of the frame begins with `%%`."""
    cells = []
    for count, part in enumerate(re.split(r"(?m)^-{5,}\n", frame.NOTEBOOK.strip("\n") + "\n")):
        text = filled(part, fields).strip("\n")
        make = new_code_cell if text.startswith("%%\n") else new_markdown_cell
        cells.append(make(text.removeprefix("%%\n"), id=f"c{count:02}"))
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})
    nbformat.validate(notebook)
    return notebook
