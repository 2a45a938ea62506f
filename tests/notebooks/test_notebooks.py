"""Every notebook on the real node: outputs as committed (nbval, strict), and each exercise judged rightly.

tests/unit/test_lesson_lint.py looks at their form. In reverse they run on the stand-in for kind
(tests/live/test_kind_cluster.py), and here with --soak.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import labkit as lab
from authoring import prove
from authoring.lesson import find
from labkit.course.checks import CHECKS
from labkit.node import Node
from labkit.podspec.messages import MachineInfo
from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MADE_ON = "containerd 1.6."
"""The runtime on which the committed outputs were made, with the kernel's own process events and cgroup v1."""


def cells(notebook: Path) -> list[dict]:
    return json.loads(notebook.read_text())["cells"]


def sanitizers(directory: Path) -> Path:
    """The named regexes that apply to the session's node: without those for "elsewhere" where it is what made the outputs."""
    with contextlib.closing(lab.connect("containerd")) as node:
        same = node.runtime.startswith(MADE_ON) and MachineInfo.here().cgroup_version == 1
    return prove.sanitizers(ROOT, directory, elsewhere=not same)


@pytest.mark.parametrize(
    "order", [pytest.param(1, id="in their order"), pytest.param(-1, id="in reverse", marks=pytest.mark.soak)]
)
def test_outputs_are_as_committed(lab: None, order: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--nbval",
            "-p",
            "no:cacheprovider",
            "--nbval-sanitize-with",
            str(sanitizers(tmp_path)),
            *map(str, NOTEBOOKS[::order]),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert f"{sum(c['cell_type'] == 'code' for n in NOTEBOOKS for c in cells(n))} passed" in done.stdout


def test_notebooks_leave_no_pod(node: Node) -> None:
    assert [p.name for p in node.pods(others=True)] == []


@pytest.mark.parametrize("exercise", CHECKS)
def test_a_check_passes_the_solution_and_tells_the_starter_wrong_answers_and_cheats_apart(node: Node, exercise: str) -> None:
    lesson = find(exercise[:2])
    tried = dict(prove.judged(lesson, exercise, node))
    others = [*lesson.wrong_answers(exercise), *lesson.right_answers(exercise)]
    assert len(tried) == len(others) + 2 and [f"{what}: {fault}" for what, fault in tried.items() if fault] == []
