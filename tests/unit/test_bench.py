"""The benchmarks' command: each result is printed when it is known, and a benchmark that fails loses no other."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.bench.__main__ import main


@pytest.fixture
def benches(monkeypatch, tmp_path: Path, capsys) -> Path:
    """A directory of three, of which the second has seen the first's result printed, and then fails."""

    def first() -> dict[str, Any]:
        return {"name": "one", "ratio": 0.25, "goal": 0.5}

    def second() -> dict[str, Any]:
        assert "one" in capsys.readouterr().out
        raise OSError("no disk")

    def last() -> dict[str, Any]:
        return {"name": "three", "ratio": 2.0, "goal": None}

    for name, run in (("a", first), ("b", second), ("vm", last)):
        (tmp_path / f"bench_{name}.py").touch()
        monkeypatch.setitem(sys.modules, f"tests.bench.bench_{name}", SimpleNamespace(run=run))
    return tmp_path


def test_each_result_is_printed_at_once_and_a_failure_loses_none(benches: Path, capsys) -> None:
    assert main([], benches) == 1
    told = capsys.readouterr()
    assert told.out.split() == ["three", "2.000"] and "no disk" in told.err


def test_the_virtual_machine_can_be_left_out(benches: Path, capsys) -> None:
    assert main(["a", "vm", "--without-vm", "--json"], benches) == 0
    assert [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()] == ["one"]


def test_an_unknown_name(benches: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["c"], benches)
    assert "There are: a, b, vm." in capsys.readouterr().err


def test_a_benchmark_can_have_several_ratios(benches: Path, capsys, monkeypatch) -> None:
    more = [{"name": "second", "ratio": 2, "goal": 3}]
    run = SimpleNamespace(run=lambda: {"name": "first", "ratio": 1, "goal": None, "more": more})
    monkeypatch.setitem(sys.modules, "tests.bench.bench_a", run)
    assert main(["a"], benches) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["first", "1.000"], ["second", "2.000", "goal", "≤", "3"]]
