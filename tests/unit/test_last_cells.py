"""The last cell of a notebook cleans up, whichever cells ran before it: it needs no name but those of the first one."""

from __future__ import annotations

import ast
import builtins
from pathlib import Path

import pytest

from tests.notebooks.test_notebooks import NOTEBOOKS, cells


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name[:2])
def test_the_last_cell_needs_the_first_one_only(notebook: Path) -> None:
    code = ["".join(cell["source"]) for cell in cells(notebook) if cell["cell_type"] == "code"]
    bound, _ = names(code[0])
    own, read = names(code[-1])
    assert read - own - bound - set(dir(builtins)) == set()


def names(code: str) -> tuple[set[str], set[str]]:
    """What a cell binds, and what it reads."""
    bound, read = set(), set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.alias):
            bound.add(node.asname or node.name.partition(".")[0])
    return bound, read
