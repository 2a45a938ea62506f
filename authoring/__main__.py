"""`./course lesson new|edit|lint|save|test|glossary`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import textwrap
from collections.abc import Sequence
from typing import NoReturn

from authoring import glossary, lint, new, prove, save
from authoring.lesson import Lesson, LessonError, find, lessons
from labkit.figures.style import JUPYTERLAB_EXTENSIONS

STEPS = """\
A lesson, step by step (docs/authoring.md has more):
  ./course lesson new 08 "Question?"   write the frame
  ./course lesson edit 08              fill it in JupyterLab
  ./course lesson lint 08              see what is still missing
  ./course lesson save 08              execute it on a node and keep its outputs
  ./course lesson test 08              prove outputs, solution and wrong answers, twice
  ./course test                        see that everything else still passes
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 when all is well, 1 when a lesson has a fault or a command failed, 2 for wrong usage, 130 after Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    arguments = parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except LessonError as error:
        print(f"lesson: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nlesson: stopped; no file was changed.", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(prog="./course lesson", description=STEPS, formatter_class=raw)
    verbs = top.add_subparsers(required=True, metavar="COMMAND")
    made = verbs.add_parser("new", help="write a lesson's frame", description=new.__doc__, formatter_class=raw)
    made.add_argument("number", metavar="08", help="two digits that no lesson has")
    made.add_argument("question", metavar='"Question?"', help="the question that the lesson answers")
    made.set_defaults(run=lambda a: new.run(a.number, a.question))
    for name, module, text in (
        ("save", save, "execute a lesson on a node and keep its outputs"),
        ("test", prove, "prove a lesson: outputs as saved, solutions pass, starters and wrong answers do not, twice in a row"),
    ):
        verb = verbs.add_parser(name, help=text, description=module.__doc__, formatter_class=raw)
        verb.add_argument("number", metavar="08", help="the lesson's two digits")
        verb.set_defaults(run=lambda a, module=module: module.run(find(a.number)))
    opened = verbs.add_parser("edit", help="open the lesson's notebook in JupyterLab, and not a learner's copy of it")
    opened.add_argument("number", metavar="08", help="the lesson's two digits")
    opened.set_defaults(run=lambda a: edit(find(a.number)))
    indent = 12 * " "
    rules = "\n".join(textwrap.fill(f"{name:12}{each.text}", 110, subsequent_indent=indent) for name, each in lint.RULES.items())
    checked = verbs.add_parser("lint", help="find faults without running anything", formatter_class=raw, description=lint.__doc__,
                               epilog=f"rules, and what each looks at:\n\n{rules}")
    checked.add_argument("number", metavar="08", nargs="?", help="the lesson's two digits; without it every lesson")
    checked.set_defaults(run=lambda a: lint.run([find(a.number)] if a.number else list(lessons())))
    page = verbs.add_parser("glossary", help="write docs/glossary.md", description=glossary.__doc__)
    page.set_defaults(run=lambda a: glossary.run())
    return top


def edit(lesson: Lesson) -> NoReturn:
    allow = ["--allow-root"] if os.geteuid() == 0 else []
    extensions = f"--LabApp.extra_labextensions_path={JUPYTERLAB_EXTENSIONS}"
    os.chdir(lesson.notebook.parent)
    command = [sys.executable, "-m", "jupyterlab", lesson.notebook.name, extensions, *allow]
    os.execve(sys.executable, command, {**os.environ, "LABKIT_THEME": "page"})


if __name__ == "__main__":
    sys.exit(main())
