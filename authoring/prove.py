"""Prove a lesson on a node: twice in a row, its outputs are as saved, each solution passes its check, and neither the exercise's
own cell nor a wrong answer does.

Outputs are compared by nbval, strictly; tests/notebooks/sanitize.cfg names what may differ. Its rules for "elsewhere" apply only
where kind, runtime or cgroups of the node are not those that the notebook's metadata name. Wrong answers are the blocks of
tests/notebooks/wrong/08.1.py, each below a line `# %% why it is wrong`; tests/notebooks/right/08.1.py may have right answers in
another form than the solution's.
"""

from __future__ import annotations

import configparser
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import labkit
from authoring import lint
from authoring.lesson import Lesson, read
from authoring.save import connected, origin
from labkit.course.incident import session
from labkit.course.verdict import CHECKS
from labkit.node import Node, NodeError


def run(lesson: Lesson, rounds: int = 2) -> int:
    """Print each thing that was tried and how it went. 1 where something is not as it must be. Raises LessonError."""
    faults = []
    for count in range(1, rounds + 1):
        for what, fault in tried(lesson):
            print(f"round {count}: {what}: {fault or 'as it must be'}", flush=True)
            faults += [fault] * bool(fault)
    found = lint.check([lesson])
    if found:
        print(f"./course lesson lint {lesson.number} finds {len(found)} faults besides.")
    print(f"{lesson.notebook.name}: {f'{len(faults)} of these are not as they must be' if faults else 'proved'}.")
    return 1 if faults else 0


def tried(lesson: Lesson) -> Iterator[tuple[str, str]]:
    """What was tried and, where it did not go as it must, how it went."""
    yield "outputs as saved", compared(lesson)
    by_hand = any("kubelet_held()" in cell.source for cell in lesson.code)
    with connected(f"{lesson.number}-test") as node, node.kubelet_held() if by_hand else contextlib.nullcontext():
        if not lesson.starters():
            yield "exercises", f'no cell runs labkit.check("{lesson.number}.1", node).'
        for exercise in lesson.starters():
            yield from judged(lesson, exercise, node)


def compared(lesson: Lesson) -> str:
    """What nbval says where an output is not as saved; nothing where all are."""
    with tempfile.TemporaryDirectory(prefix="lesson-") as directory:
        with connected() as node:
            now, saved = origin(node), read(lesson.notebook).metadata.get("labkit", {})
        same = all(now[what] == saved.get(what) for what in ("node", "runtime", "cgroups"))
        rules = sanitizers(lesson.root, Path(directory), elsewhere=not same)
        command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider", "-p", "no:randomly"]
        command += ["--nbval", "--nbval-sanitize-with", str(rules), str(lesson.notebook)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=lesson.root)
    return "" if done.returncode == 0 else f"no\n{done.stdout[-6000:]}{done.stderr[-2000:]}"


def sanitizers(root: Path, directory: Path, elsewhere: bool) -> Path:
    """A file for nbval in `directory`: the rules of tests/notebooks/sanitize.cfg, those for "elsewhere" where they are wanted."""
    rules = configparser.RawConfigParser()
    rules.read(root / "tests/notebooks/sanitize.cfg")
    wanted = [name for name in rules.sections() if elsewhere or not name.startswith("elsewhere:")]
    path = directory / "sanitize.cfg"
    # nbval reads "regex: " and "replace: ", and not what RawConfigParser writes.
    path.write_text("".join(f"[{n}]\nregex: {rules[n]['regex']}\nreplace: {rules[n]['replace']}\n\n" for n in wanted))
    return path


def judged(lesson: Lesson, exercise: str, node: Node) -> Iterator[tuple[str, str]]:
    """The exercise's own cell, each wrong answer and the solution, each on a node on which nothing of the lesson is left."""
    if exercise not in CHECKS:
        yield f"exercise {exercise}", f"it has no check; write one in {lesson.checks.relative_to(lesson.root)}."
        return
    starter = lesson.starters()[exercise].source
    answers = [("the exercise's own cell is refused", "", False)]
    answers += [(f"refused: {reason}", code, False) for reason, code in lesson.wrong_answers(exercise).items()]
    answers += [(f"passes: {name}", code, True) for name, code in lesson.right_answers(exercise).items()]
    solution = lesson.solution(exercise)
    said: dict[str, str] = {}
    clear(node)
    answers += [("the solution passes", solution.read_text() if solution.exists() else "", True)]
    for what, code, wanted in answers:
        try:
            verdict, fault = tried_answer(exercise, starter, code, wanted, node)
            same = what if wanted else said.setdefault(verdict, what)
            yield f"{exercise}, {what}", fault or ("" if same is what else f"the check says the same as for “{same}”: {verdict}")
        finally:
            clear(node)


def tried_answer(exercise: str, starter: str, code: str, wanted: bool, node: Node) -> tuple[str, str]:
    """Run the exercise's own cell and then an answer, as a learner does; the verdict, and what is wrong with it. One that refuses
    says what is missing, gives a hint, and names where it was taught."""
    names: dict[str, Any] = {"node": node, "labkit": labkit}
    if "cluster" in starter:
        names["cluster"] = node.cluster
    try:
        with contextlib.redirect_stdout(None):
            exec(compile(starter, f"the cell of exercise {exercise}", "exec"), names)
            exec(compile(code, f"an answer to exercise {exercise}", "exec"), names)
        verdict = labkit.check(exercise, node)
    except Exception as error:  # whatever the lesson's code raises is its fault, and the next one is still tried
        return "", f"it failed: {type(error).__name__}: {error}"
    if verdict.done is not wanted:
        return verdict.says, f"the check says: {verdict}"
    hinted = verdict.hints or exercise.startswith("08.")  # an incident's hints have a price, and are not shown unasked
    whole = verdict.done or (verdict.missing and hinted and verdict.taught)
    return verdict.says, "" if whole else f"the verdict has no hint, or not where it was taught: {verdict}"


def clear(node: Node) -> None:
    session.forget_incident(node)
    node.remove_leftovers()
    if "cluster" in vars(node):
        with contextlib.suppress(NodeError):  # a node without a cluster has no objects
            node.cluster.remove_leftovers()
