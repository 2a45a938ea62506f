"""What holds for the code of every notebook, whatever node it runs on: waits end, and nothing is picked that may not be there."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def loops(source: str) -> Iterator[ast.While]:
    return (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.While))


def waits_for_ever(source: str) -> list[str]:
    """The conditions of loops in which nothing counts: neither a clock nor the number of steps."""
    conditions = (ast.unparse(loop.test) for loop in loops(source))
    return [condition for condition in conditions if not re.search(r"time\.monotonic\(\)|len\(steps\) < \d+", condition)]


def picks_a_pause(source: str) -> list[str]:
    """Calls of next() without a default that look for a pause: CRI-O starts one only where the PID namespace is shared."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and ast.unparse(node.func) == "next")
    return [ast.unparse(call) for call in calls if len(call.args) == 1 and "'pause'" in ast.unparse(call)]


def code(notebook: str) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(notebook)["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda n: n.stem)
def test_every_wait_ends_and_a_pause_may_be_absent(notebook: Path) -> None:
    for source in code(notebook.read_text()):
        assert not waits_for_ever(source) and not picks_a_pause(source), source


def test_the_rules_see_what_they_are_for() -> None:
    assert waits_for_ever("while len(logged()) < len(earlier) + 3:\n    time.sleep(0.1)")
    assert waits_for_ever("while done := sync():\n    pass")
    assert not waits_for_ever("while time.monotonic() < until:\n    pass")
    assert picks_a_pause("next(p for p in before.processes if p.role == 'pause')")
    assert not picks_a_pause("next((p for p in before.processes if p.role == 'pause'), None)")
