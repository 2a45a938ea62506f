"""The names that a notebook imports: a figure becomes one by a single line, and nothing is imported before it is asked for."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys

import pytest

import labkit
from labkit import figures
from labkit.figures.figure import Figure
from tests.conftest import ROOT
from tests.unit.test_showable import VIEWS

FIGURES = [
    name
    for name in labkit.__all__
    if inspect.isfunction(value := getattr(labkit, name)) and ".figures." in value.__module__
]


def test_what_views_exports_labkit_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    def new_figure() -> None: ...

    with pytest.raises(AttributeError, match="no attribute 'new_figure'"):
        _ = labkit.new_figure
    monkeypatch.setattr(figures, "new_figure", new_figure, raising=False)
    assert labkit.new_figure is new_figure
    assert "new_figure" in labkit.__all__ and "new_figure" in dir(labkit)
    vars(labkit).pop("new_figure")


@pytest.mark.parametrize("name", labkit.__all__)
def test_every_name_is_there_and_is_no_module(name: str) -> None:
    assert callable(getattr(labkit, name)) and name in dir(labkit)


def test_every_view_with_a_figure_of_its_name_is_exported() -> None:
    """Two are drawn by another name: `flight.plot()` and `incident.result().timeline()`."""
    for module in pkgutil.walk_packages(figures.__path__, "labkit.figures."):
        name = module.name.rpartition(".")[2]
        made = getattr(importlib.import_module(module.name), name, None)
        if inspect.isfunction(made) and made.__annotations__.get("return") in ("Figure", Figure):
            exported = [*FIGURES, "flight_timeline", "incident_timeline"]
            assert name in exported, f"labkit/figures/__init__.py lacks a line for {name}"


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_named_in_one_line_of_labkit(name: str) -> None:
    lines = [
        line
        for file in (ROOT / "labkit").rglob("*.py")
        if name not in (file.stem, f"namespace_{file.stem}")
        for line in file.read_text().splitlines()
        if line.strip(' ",') == name or re.search(rf"import {name}\b", line)
    ]
    assert len(lines) == 1 and re.fullmatch(rf"from labkit\.figures\.\w+\.\w+ import {name} as {name}", lines[0])


def test_every_figure_is_drawn_with_awkward_text() -> None:
    """tests/unit/test_showable.py has data for each figure; history and rpc_catalogue show no text from outside."""
    drawn = "\n".join(inspect.getsource(draw) for draw in VIEWS.values())
    assert [name for name in FIGURES if f" {name}(" not in drawn] == ["history", "rpc_catalogue"]


def test_no_room_is_imported_before_a_name_of_it_is_asked_for() -> None:
    program = (
        "import sys; from labkit.util import environment;"
        "print([m for m in sys.modules if m.startswith(('labkit.', 'grpc'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['labkit.util', 'labkit.util.environment']"
