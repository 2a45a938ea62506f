"""A lesson from its frame to its proof, with the commands that an author types, in a copy of the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.conftest import ROOT

COPIED = ("authoring", "labkit", "notebooks", "docs", "README.md", "pyproject.toml")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    (tmp_path / "tests/notebooks/wrong").mkdir(parents=True)
    shutil.copy(ROOT / "tests/notebooks/sanitize.cfg", tmp_path / "tests/notebooks")
    return tmp_path


def lesson(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(repository), "LABKIT_NODE": "containerd"}
    command = [sys.executable, "-m", "authoring", *arguments]
    return subprocess.run(command, cwd=repository, env=env, capture_output=True, text=True, timeout=300)


def test_a_new_lesson_is_written_saved_and_proved(lab: None, repository: Path) -> None:
    made = lesson(repository, "new", "98", "Is it a lesson?")
    assert made.returncode == 0, made.stderr
    path = repository / "notebooks/98-is-it-a-lesson.ipynb"
    assert "a TODO is left" in lesson(repository, "lint", "98").stdout
    for file in (path, *repository.rglob("98.1.py"), *repository.rglob("lesson_98.py")):
        file.write_text(file.read_text().replace("TODO ", "Written: "))
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(6, nbformat.v4.new_code_cell("for i in range(3):\n    print(i, flush=True)", id="written"))
    notebook.cells.insert(7, nbformat.v4.new_code_cell("print(labkit.to_yaml(node.sandbox_config(example)))", id="config"))
    notebook.cells[4].source = notebook.cells[4].source.replace(
        'pod = node.start_pod({"metadata": {"name": "example"}, "spec": {"containers": [main]}})',
        'example = node.manifest({"metadata": {"name": "example"}, "spec": {"containers": [main]}})\n'
        "pod = node.start_pod(example)",
    )
    nbformat.write(notebook, path)

    saved = lesson(repository, "save", "98")
    assert saved.returncode == 0, saved.stderr
    notebook = nbformat.read(path, as_version=4)
    [counted] = [cell for cell in notebook.cells if cell.id == "written"]
    assert [output.text for output in counted.outputs] == ["0\n1\n2\n"]
    assert notebook.metadata.labkit.node == "containerd" and notebook.metadata.labkit.runtime.startswith("containerd ")
    assert "- 192.0.2.53" in next(cell for cell in notebook.cells if cell.id == "config").outputs[0].text

    proved = lesson(repository, "test", "98")
    assert proved.returncode == 0, proved.stdout + proved.stderr
    assert proved.stdout.count("as it must be") == 14 and "proved." in proved.stdout

    check = repository / "labkit/course/checks/lesson_98.py"
    check.write_text(check.read_text().replace('find(node, "answer")', "next(iter(node.pods()), None)"))
    refuted = lesson(repository, "test", "98")
    assert refuted.returncode == 1 and "the Pod has another name: the check says: Done" in refuted.stdout
