"""What appears below a cell only sometimes is no output: nbval compares a cell that had to wait as one that had not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

SLOW = """
from labkit.util import progress
print("before")
with progress.shown() as show:
    show("fetching")
    show("unpacking")
print("after")
"""
FAILS = """
try:
    with progress.shown() as show:
        show("fetching")
        raise OSError("no network")
except OSError as error:
    print(error)
"""
SOON = """
with progress.shown(after_s=60) as show:
    show("done at once")
"""
FONTS = """
import logging
from labkit.figures.figure import matplotlib_at_work
with matplotlib_at_work():
    for name in ("matplotlib", "matplotlib.font_manager"):
        logging.getLogger(name).warning("Matplotlib is building the font cache; this may take a moment.")
"""
RETRIES = """
progress.only_errors()
logging.getLogger("urllib3.connectionpool").warning("Connection pool is full, discarding connection")
"""
CELLS = {SLOW: "before\nafter\n", FAILS: "no network\n", SOON: "", FONTS: "", RETRIES: ""}


def notebook(*cells: str) -> nbformat.NotebookNode:
    made = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    for number, source in enumerate(cells, 1):
        outputs = [nbformat.v4.new_output("stream", name="stdout", text=CELLS[source])] if CELLS.get(source) else []
        made.cells.append(nbformat.v4.new_code_cell(source, execution_count=number, outputs=outputs))
    return made


def test_progress_is_no_output_that_nbval_compares(tmp_path: Path) -> None:
    nbformat.write(notebook(*CELLS), tmp_path / "slow.ipynb")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--nbval", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "PYTEST_ADDOPTS"},
    )
    assert f"{len(CELLS)} passed" in done.stdout, done.stdout[-4000:]


def test_an_executed_notebook_holds_no_progress_and_all_else() -> None:
    done = NotebookClient(notebook(*CELLS)).execute()
    for cell, expected in zip(done.cells, CELLS.values(), strict=True):
        assert "".join(output["text"] for output in cell.outputs if output.output_type == "stream") == expected
        assert all(output.data == {} for output in cell.outputs if output.output_type != "stream")


def test_elsewhere_it_is_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    from labkit.util import progress

    with progress.shown() as show:
        show("fetching")
    assert capfd.readouterr() == ("", "labkit: fetching\n")
