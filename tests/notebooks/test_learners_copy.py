"""A learner runs and saves her copy of the notebooks: git sees nothing of it, and the next pull finds no conflict."""

from __future__ import annotations

import subprocess
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from labkit.course.jupyter import copy
from tests.conftest import ROOT


@pytest.mark.parametrize("run", [("00",), pytest.param(("0",), marks=pytest.mark.soak)], ids=["notebook 00", "every notebook"])
def test_git_sees_nothing_of_a_learners_work(lab: None, run: tuple[str], tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "clone", "-q", "--shared", ROOT, checkout], check=True)
    mine = checkout / copy.NAME
    copy.update(mine)
    notebooks = sorted(mine.glob("*.ipynb"))
    assert len(notebooks) >= 8
    for path in notebooks:
        notebook = nbformat.read(path, as_version=4)
        if path.name.startswith(run):
            NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(mine)}}).execute()
            assert any(cell.get("outputs") for cell in notebook.cells)
        notebook.cells[0].source += "\n\nA note of mine."
        nbformat.write(notebook, path)
    (mine / ".ipynb_checkpoints").mkdir()
    (mine / ".ipynb_checkpoints" / notebooks[0].name).write_bytes(notebooks[0].read_bytes())
    status = subprocess.run(["git", "status", "--porcelain"], cwd=checkout, capture_output=True, text=True, check=True)
    assert status.stdout == ""
    assert copy.update(mine) == copy.Update()
