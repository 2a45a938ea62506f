"""docs/kubelet.md: what it calls ours exists, and each module of the lab kubelet that imitates one of Kubernetes' is in it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/kubelet.md").read_text()
OURS = sorted(set(re.findall(r"`([a-z_/]+\.py): ([\w.]+)`", TEXT)))
WITHOUT = {
    "__init__.py", "__main__.py", "api.py", "go_format.py", "handlers.py", "inside.py", "kubelet_server.py", "node_info.py",
    "objects.py", "slices.py", "stats.py", "streaming.py",
}
"""Modules that do what a table of functions does not show: HTTP, system calls, systemd, how Go writes things."""


def names(module: Path) -> set[str]:
    """What a module defines at its top, and the methods of its classes."""
    found: set[str] = set()
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
        if isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize(("module", "name"), OURS)
def test_what_is_called_ours_exists(module: str, name: str) -> None:
    assert name in names(ROOT / "labkit" / module)


def test_every_row_names_ours_and_what_is_left_out() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| `")]
    assert len(rows) > 40
    assert all(re.search(r"`[a-z_/]+\.py: ", row) and row.rstrip("| ").rpartition("|")[2].strip() for row in rows)


def test_each_module_that_imitates_is_in_the_table() -> None:
    there = {path.name for path in (ROOT / "labkit/kubelet").rglob("*.py")} - WITHOUT
    assert there == {module.rpartition("/")[2] for module, _ in OURS if module.startswith("kubelet/")}
