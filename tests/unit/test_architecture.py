"""docs/architecture.md names every room of labkit, and nothing that is not there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LABKIT = ROOT / "labkit"
TEXT = (ROOT / "docs/architecture.md").read_text()


def rooms(labkit: Path) -> set[str]:
    """Packages and modules directly below labkit, as the page writes them: "labkit/node/", "labkit/cli/__main__.py"."""
    packages = {f"labkit/{path.parent.name}/" for path in labkit.glob("*/__init__.py")}
    return packages | {f"labkit/{path.name}" for path in labkit.glob("*.py") if path.name != "__init__.py"}


def section(title: str) -> str:
    """The text between a heading and the next one."""
    return re.split(r"^#+ ", TEXT.partition(f"{title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def test_every_room_has_a_row_and_every_row_a_room() -> None:
    named = {
        name
        for row in re.findall(r"^\| (`labkit/[^|]*) \|", TEXT, re.MULTILINE)
        for name in re.findall(r"`(labkit/[^`]+)`", row)
    }
    assert named == rooms(LABKIT)


def test_every_module_of_the_largest_room_is_named_once() -> None:
    named = re.findall(r"`(\w+\.py)`", section("### The modules of labkit/node"))
    assert sorted(named) == sorted(path.name for path in (LABKIT / "node").glob("*.py") if path.name != "__init__.py")


def test_a_room_without_a_row_is_found(tmp_path: Path) -> None:
    (tmp_path / "attic").mkdir()
    (tmp_path / "attic/__init__.py").touch()
    (tmp_path / "cupboard.py").touch()
    assert rooms(tmp_path) == {"labkit/attic/", "labkit/cupboard.py"}


def test_every_module_says_what_it_is_for() -> None:
    trees = {path.relative_to(ROOT): ast.parse(path.read_text()) for path in LABKIT.rglob("*.py")}
    assert [str(path) for path, tree in trees.items() if tree.body and not ast.get_docstring(tree)] == []


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]), ids=lambda path: path.name)
def test_every_link_within_the_repository_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []
