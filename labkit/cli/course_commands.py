"""`labkit course` makes the learner's copy of the notebooks; `labkit progress` shows what the course remembers of her."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import os
import shlex
from pathlib import Path

from labkit.cli.common import AddVerb, answer, say
from labkit.course.jupyter import copy, lab
from labkit.course.memory import export, overview
from labkit.course.memory.progress_store import of_this_learner
from labkit.node import NodeError
from labkit.util.showable import Absent


def add(verb: AddVerb) -> None:
    text = "make a copy of the notebooks to work in, or say what is newer in the course; what is in the copy stays as it is"
    command = verb("course", course, text, "labkit course my-notebooks --open")
    help_text = "where the copy is or will be (default: the one around this directory, else my-notebooks in the course's folder)"
    command.add_argument("directory", nargs="?", metavar="DIR", help=help_text)
    help_text = "bring this lesson (03) as the course has it now; your files are kept under other names; may be repeated"
    command.add_argument("--reset", metavar="LESSON", action="append", default=[], help=help_text)
    command.add_argument("--open", action="store_true", help="then open JupyterLab on notebook 00")

    text = "show what you have read, predicted and solved in the course, and what is due again"
    command = verb("progress", progress, text, "labkit progress --reset 03", node=False)
    help_text = "forget this lesson (03), or all; may be repeated"
    command.add_argument("--reset", metavar="LESSON", action="append", default=[], help=help_text)
    help_text = "print every entry, as JSON or as xAPI statements for a learning record store"
    command.add_argument("--export", choices=("json", "xapi"), help=help_text)


def course(arguments: argparse.Namespace) -> int:
    if arguments.open and arguments.json:
        raise NodeError("--open shows what JupyterLab prints, which is no JSON.", "Leave out --open or --json.")
    directory = Path(os.path.abspath(arguments.directory)) if arguments.directory else copy.default()
    numbers = [copy.number_of(lesson) for lesson in arguments.reset]
    made = copy.update(directory)
    resets = {number: copy.reset(directory, number) for number in numbers}
    newer = sorted({copy.lesson_of(name) for name in made.newer} - set(numbers))
    kept = {name: aside for reset in resets.values() for name, aside in reset.kept.items()}
    unchanged = "; nothing had to be changed"
    lines = [f"{number} is as the course has it{'' if reset.replaced else unchanged}." for number, reset in resets.items()]
    lines += [f"Your {name} is now {aside}." for name, aside in kept.items()]
    lines += [newer_text(directory, number) for number in newer]
    if arguments.open:
        for line in lines:
            say(line)
        return lab.serve(directory)
    report = {"directory": str(directory), "added": made.added, "newer": newer, "reset": list(resets), "kept": kept}
    count = len(made.added)
    added = f"{count} file{'s are' if count > 1 else ' is'} new" if count else "nothing is new"
    todo = f"Work in it with `labkit course {arguments.directory or directory} --open`."
    answer(arguments, report, lambda: "\n".join([f"Your copy of the notebooks is {directory}; {added}. {todo}", *lines]))
    return 0


def newer_text(directory: Path, lesson: str) -> str:
    """One line for a lesson that the course has in a newer version."""
    if not lesson:
        return "The course has newer files of no lesson in particular. Make a new copy to get them."
    place = shlex.quote(str(directory))
    todo = f"`labkit course --reset {lesson}`" if is_default(directory) else f"`labkit course {place} --reset {lesson}`"
    return f"The course has a newer version of {lesson}. {todo} takes it, and keeps yours under another name."


def is_default(directory: Path) -> bool:
    """Whether this copy is the one that the commands use by default."""
    with contextlib.suppress(NodeError):
        return copy.default() == directory
    return False


def progress(arguments: argparse.Namespace) -> int:
    kept = of_this_learner()
    if arguments.reset:
        return reset(arguments)
    if arguments.export:
        events = kept.events()
        content = export.plain(events) if arguments.export == "json" else export.xapi(events, name())
        print(json.dumps(content, indent=1))
        return 0
    shown = overview.progress()
    answer(arguments, shown.report(), lambda: f"{shown}\n\nKept in {kept.place}, on this machine only.")
    return 0


def reset(arguments: argparse.Namespace) -> int:
    lessons = sorted(set(overview.titles() if "all" in arguments.reset else arguments.reset))
    try:
        for lesson in lessons:
            overview.known(lesson)
    except Absent as error:
        raise NodeError(str(error.args[0]), "Nothing was removed. Give a lesson's two digits, or all.") from None
    count = of_this_learner().forget(lessons)
    report = {"reset": lessons, "removed": count}
    answer(arguments, report, lambda: f"Forgotten: {', '.join(lessons)} ({count} entries). The notebooks stay as they are.")
    return 0


def name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid that the machine has no name for
        return "learner"
