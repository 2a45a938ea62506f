"""`./course lesson new` writes a whole lesson or nothing; `save` keeps ids and metadata, and a notebook is never half written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_output

from authoring import new, prove, save
from authoring.__main__ import main
from authoring.lesson import Lesson, LessonError, find
from labkit.course.verdict import CHECKS, Check
from labkit.node.pods.node_dns import NodeDns
from tests.conftest import ROOT

QUESTION = "Who answers `crictl ps`?"
MADE_ON = {"node": "containerd", "runtime": "containerd 1.6.20", "labkit": "0.1.0"}


def copy_readme(root: Path) -> None:
    """README.md as it was before there was a lesson 08."""
    rows = (ROOT / "README.md").read_text().splitlines(keepends=True)
    (root / "README.md").write_text("".join(row for row in rows if not re.match(r"\| \[(0[89]|[1-9]\d)\]", row)))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("notebooks/quizzes", "notebooks/solutions", "labkit/course/checks", "tests/notebooks/wrong"):
        (tmp_path / name).mkdir(parents=True)
    copy_readme(tmp_path)
    shutil.copy(next(ROOT.glob("notebooks/00-*.ipynb")), tmp_path / "notebooks")
    return tmp_path


@pytest.fixture
def lesson(root: Path, monkeypatch: pytest.MonkeyPatch) -> Lesson:
    monkeypatch.setenv("LABKIT_HOME", str(root / "home"))  # an incident of another home is not this one's
    new.run("08", QUESTION, root)
    return find("08", root)


def state(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_frame_is_a_notebook_in_ruffs_format_and_every_file_says_what_to_write(root: Path, lesson: Lesson) -> None:
    assert lesson.notebook.name == "08-who-answers-crictl-ps.ipynb"
    files = [lesson.notebook, lesson.checks, lesson.solution("08.1"), lesson.wrong("08.1")]
    assert all("TODO" in path.read_text() for path in files)
    nbformat.validate(nbformat.read(lesson.notebook, as_version=4))
    assert len({cell["id"] for cell in nbformat.read(lesson.notebook, as_version=4).cells}) == len(lesson.cells)
    for command in (["format", "--check"], ["check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "-q", *map(str, files), "--config", ROOT / "pyproject.toml"], cwd=root
        )
        assert done.returncode == 0
    assert [reason[:5] == "cheat" for reason in lesson.wrong_answers("08.1")] == [False, False, False, True]
    assert len(Path(lesson.checks).read_text().splitlines()) > 10 and compile(lesson.checks.read_text(), "", "exec")


def test_the_row_stands_in_the_table_of_lessons(root: Path, lesson: Lesson) -> None:
    rows = [line for line in (root / "README.md").read_text().splitlines() if "](notebooks/" in line and line.startswith("| [")]
    assert rows[-1] == f"| [08](notebooks/{lesson.notebook.name}) | {QUESTION} |" and rows[-2].startswith("| [07]")


@pytest.mark.parametrize(
    ("number", "question", "says"),
    [
        ("00", QUESTION, "There is a lesson 00 already"),
        ("8", QUESTION, "two digits"),
        ("008", QUESTION, "two digits"),
        ("-1", QUESTION, "two digits"),
        ("٠٨", QUESTION, "two digits"),
        ("08", "", "no question"),
        ("08", "   ", "no question"),
        ("08", "???", "no question"),
        ("08", "Who answers", "no question"),
        ("08", "Who\nanswers?", "no question"),
        ("08", "Who " * 40 + "answers?", "168 letters"),
    ],
)
def test_what_cannot_be_a_lesson_is_refused_and_nothing_is_written(root: Path, number: str, question: str, says: str) -> None:
    before = state(root)
    with pytest.raises(LessonError, match=says):
        new.run(number, question, root)
    assert state(root) == before


@pytest.mark.parametrize(
    "question", ['What is "it"?', "a|b?", "\\d?", "Who's '''it'''?", 'Is """this""" it?', "Ünïcode or 日本?"]
)
def test_any_question_makes_valid_files(root: Path, question: str) -> None:
    new.run("08", question, root)
    compile(find("08", root).checks.read_text(), "", "exec")
    assert f"# 08 · {question}" in find("08", root).cells[0].source
    [row] = [line for line in (root / "README.md").read_text().splitlines() if line.startswith("| [08]")]
    assert row.replace("\\|", "").count("|") == 3


@pytest.mark.parametrize("at", range(5))
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device", "x")])
def test_an_interrupted_new_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch, at: int, error: Any) -> None:
    before, written = state(root), []

    def write(path: Path, data: bytes, really: Any = new.write_whole) -> None:
        if len(written) == at:
            written.append(path)
            raise error
        written.append(path)
        really(path, data)

    monkeypatch.setattr(new, "write_whole", write)
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else LessonError):
        new.run("08", QUESTION, root)
    assert state(root) == before


def test_a_file_that_is_there_is_not_overwritten(root: Path) -> None:
    (root / "notebooks/solutions/08.1.py").write_text("mine")
    with pytest.raises(LessonError, match=r"08\.1\.py is there already"):
        new.run("08", QUESTION, root)
    assert (root / "notebooks/solutions/08.1.py").read_text() == "mine"


def test_a_command_that_fails_says_why_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "00", "Is it so?"]) == main(["save", "77"]) == main(["test", "x"]) == main(["lint", "99"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 and all(line.startswith("lesson: ") for line in lines) and "There is no lesson '77'" in lines[1]


def test_lint_help_says_what_each_rule_looks_at(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["lint", "--help"])
    said = capsys.readouterr().out
    for rule in ("frame", "todo", "length", "output", "experiment", "prediction", "figure", "term", "wait", "link", "exercise"):
        assert f"\n{rule} " in said


def executed(lesson: Lesson, monkeypatch: pytest.MonkeyPatch, fails_at: int | None = None) -> Any:
    """What `save` would write, with a stand-in for the kernel that runs nothing."""

    def execute(client: NotebookClient, *, env: dict[str, str]) -> None:
        assert env["LABKIT_RESOLV_CONF"] == str(lesson.root / "authoring/resolv.conf")
        for count, cell in enumerate(c for c in client.nb.cells if c.cell_type == "code"):
            cell.metadata["execution"] = {"iopub.execute_input": "2026-01-01"}
            cell.execution_count = count + 1
            cell.outputs = [new_output("display_data", data=data) for data in ({}, {"text/plain": "a tree"})]
            if count == fails_at:
                raise CellExecutionError("Traceback …\n\x1b[31mValueError\x1b[0m: no", "ValueError", "no")

    monkeypatch.delenv("LABKIT_RESOLV_CONF", raising=False)
    monkeypatch.setattr(NotebookClient, "execute", execute)
    return save.executed(nbformat.read(lesson.notebook, as_version=4), lesson, MADE_ON)


def test_what_is_saved_has_the_cells_ids_and_metadata_and_says_where_it_is_from(
    lesson: Lesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = nbformat.read(lesson.notebook, as_version=4)
    notebook.cells[3].metadata["lint"] = {"length": "A reason."}
    nbformat.write(notebook, lesson.notebook)
    saved = executed(lesson, monkeypatch)
    assert [(c.id, c.metadata, c.source) for c in saved.cells] == [(c.id, c.metadata, c.source) for c in notebook.cells]
    assert saved.metadata == {**notebook.metadata, "labkit": MADE_ON}
    assert {len(cell.outputs) for cell in saved.cells if cell.cell_type == "code"} == {1}, "without what progress was shown in"
    assert "LABKIT_RESOLV_CONF" not in os.environ


def test_a_cell_that_fails_is_named_and_nothing_is_written(lesson: Lesson, monkeypatch: pytest.MonkeyPatch) -> None:
    before = lesson.notebook.read_bytes()
    with pytest.raises(LessonError, match=r"Cell 3 of 08-.*failed: ValueError: no Nothing was saved"):
        executed(lesson, monkeypatch, fails_at=1)
    assert lesson.notebook.read_bytes() == before


class Node:
    """A node on which `made` is what answers have made."""

    made = ""

    def remove_leftovers(self) -> None:
        self.made = ""


@pytest.mark.parametrize(
    ("passes", "faults"),
    [
        ({"right"}, []),
        (set(), ["the solution passes"]),
        ({"right", "wrong"}, ["refused: another word"]),
        ({"right", ""}, ["the exercise's own cell is refused"]),
    ],
)
def test_a_check_that_judges_wrongly_is_found(
    lesson: Lesson, monkeypatch: pytest.MonkeyPatch, passes: set[str], faults: list[str]
) -> None:
    hints = ("Look.",)
    monkeypatch.setitem(CHECKS, "08.1", lambda node: Check(node.made in passes, f"it saw {node.made!r}.", "x.", hints, "y"))
    lesson.solution("08.1").write_text("node.made = 'right'\n")
    lesson.wrong("08.1").write_text("# %% another word\nnode.made = 'wrong'\n# %% it fails\n1 / 0\n")
    tried = list(prove.judged(lesson, "08.1", Node()))  # type: ignore[arg-type]
    assert [what.removeprefix("08.1, ") for what, fault in tried if fault and "ZeroDivision" not in fault] == faults
    assert [what for what, fault in tried if "ZeroDivisionError" in fault] == ["08.1, refused: it fails"]


def test_what_stands_above_the_wrong_answers_belongs_to_each(lesson: Lesson) -> None:
    lesson.wrong("08.1").write_text("word = 'wrong'\n# %% one\nnode.made = word\n# %% two\nnode.made = word * 2\n")
    assert lesson.wrong_answers("08.1") == {
        "one": "word = 'wrong'\nnode.made = word\n", "two": "word = 'wrong'\nnode.made = word * 2\n",
    }


@pytest.mark.parametrize(
    ("verdict", "says"),
    [(Check(False, "it looked.", "x.", ("Look.",), "y"), "says the same as for"), (Check(False, "it looked."), "has no hint")],
)
def test_a_check_that_tells_wrong_answers_nothing_is_found(
    lesson: Lesson, monkeypatch: pytest.MonkeyPatch, verdict: Check, says: str
) -> None:
    monkeypatch.setitem(CHECKS, "08.1", lambda node: verdict)
    lesson.wrong("08.1").write_text("# %% another word\nnode.made = 'wrong'\n")
    tried = dict(prove.judged(lesson, "08.1", Node()))  # type: ignore[arg-type]
    assert says in tried["08.1, refused: another word"]


def test_rules_for_elsewhere_apply_elsewhere_only(tmp_path: Path) -> None:
    strict = prove.sanitizers(ROOT, tmp_path, elsewhere=False).read_text()
    loose = prove.sanitizers(ROOT, tmp_path, elsewhere=True).read_text()
    assert "elsewhere:" not in strict and "[elsewhere:" in loose and strict.count("[") < loose.count("[")


def test_a_node_can_be_given_another_resolv_conf(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `save` does, so that outputs do not show the name servers of the machine on which they were made."""
    asked = []
    host: Any = SimpleNamespace(shell=lambda argv: asked.append(argv) or "nameserver 192.0.2.53\n")
    monkeypatch.setenv("LABKIT_RESOLV_CONF", "/other")
    assert (NodeDns(host).own or {})["servers"] == ["192.0.2.53"]
    monkeypatch.delenv("LABKIT_RESOLV_CONF")
    assert NodeDns(host).own and asked == [["cat", "/other"], ["cat", "/etc/resolv.conf"]]
