"""`./course test`: which tests a command runs, by their markers, and in how many processes."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import __main__ as runner
from tests import tiers
from tests.conftest import ROOT

FILES = sorted(path for path in tiers.TESTS.rglob("test_*.py"))


def config(*, args: bool = False, **options: Any) -> Any:
    source = pytest.Config.ArgsSource.ARGS if args else pytest.Config.ArgsSource.TESTPATHS
    return SimpleNamespace(
        args_source=source, option=SimpleNamespace(**{"all": False, "soak": False, "keyword": "", "markexpr": "", **options})
    )


def test_each_file_has_a_marker_and_each_place_a_file() -> None:
    assert [path for path in FILES if not tiers.markers(path)] == []
    names = [str(path.relative_to(tiers.TESTS)) for path in FILES]
    assert [place for place in tiers.PLACES if not any(name.startswith(place) for name in names)] == []


def test_the_markers_are_those_of_pyproject() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
    named = {re.split("[(:]", line)[0] for line in declared}
    assert named == {*tiers.PLACES.values(), "soak", "alone"}
    assert named > {*tiers.LONG, *tiers.ONE_WORKER}


def test_the_page_on_tests_has_a_row_for_each_marker() -> None:
    rows = re.findall(r"(?m)^\| `(\w+)` \| .* \| (quick|`--\w+`) \|", (ROOT / "docs/testing.md").read_text())
    assert dict(rows) == {
        **dict.fromkeys(tiers.PLACES.values(), "quick"), **dict.fromkeys(tiers.LONG, "`--all`"), "soak": "`--soak`"
    }


@pytest.mark.parametrize(
    ("file", "markers"),
    [
        ("unit/test_vm.py", ["unit"]),
        ("live/test_pods.py", ["live"]),
        ("live/test_vm_kube.py", ["live", "vm"]),
        ("live/test_kind_today.py", ["live", "kind"]),
        ("browser/test_jupyterlab.py", ["browser"]),
    ],
)
def test_markers_come_from_the_place(file: str, markers: list[str]) -> None:
    assert tiers.markers(tiers.TESTS / file) == markers


def test_without_a_selection_it_is_the_quick_tier() -> None:
    long, short = tiers.TESTS / "live/test_chaos.py", tiers.TESTS / "live/test_pods.py"
    assert tiers.pytest_ignore_collect(long, config()) is True
    assert tiers.pytest_ignore_collect(tiers.TESTS / "browser", config()) is True
    assert tiers.pytest_ignore_collect(short, config()) is None
    assert tiers.pytest_ignore_collect(tiers.TESTS / "live", config()) is None


@pytest.mark.parametrize(
    "chosen", [{"args": True}, {"all": True}, {"soak": True}, {"keyword": "chaos"}, {"markexpr": "live"}, {"lf": True}]
)
def test_what_is_selected_runs_whatever_its_tier(chosen: dict[str, Any]) -> None:
    assert tiers.pytest_ignore_collect(tiers.TESTS / "live/test_chaos.py", config(**chosen)) is None


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[int, list[list[str]]]]:
    """What the runner would start (ruff, mypy, pytest) with such arguments, where `statuses` are pytest's one after the other."""

    def run(*arguments: str, statuses: tuple[int, ...] = (0, 0)) -> tuple[int, list[list[str]]]:
        started: list[list[str]] = []
        left = list(statuses)

        def tests(*arguments: str) -> int:
            started.append(list(arguments))
            return left.pop(0)

        def check(*command: str) -> Any:
            started.append([command[0]])
            return SimpleNamespace(passed=lambda: True)

        monkeypatch.setattr(runner, "pytest", tests)
        monkeypatch.setattr(runner, "Check", check)
        monkeypatch.setattr(runner, "TOOK", tmp_path / "out" / "seconds.json")
        monkeypatch.chdir(ROOT)
        return runner.main(arguments), started

    return run


@pytest.mark.parametrize("arguments", [(), ("--all",), ("-x", "--durations", "5")])
def test_everything_is_style_types_and_tests_on_workers_and_then_those_alone(run: Any, arguments: tuple[str, ...]) -> None:
    status, (ruff, mypy, together, alone) = run(*arguments)
    assert (status, ruff, mypy) == (0, ["ruff"], ["mypy"])
    assert together[:2] == ["-n", str(runner.WORKERS)] and ["--alone", "not", *arguments] == together[-2 - len(arguments):]
    assert alone == ["--alone", "only", *arguments]


def test_the_number_of_workers_can_be_named(run: Any) -> None:
    assert [command[:2] for command in run("-n", "4", "tests/unit")[1]] == [["-n", "4"], ["--alone", "only"]]
    assert run("-n", "0", "tests/unit")[1] == [["tests/unit"]]


@pytest.mark.parametrize("place", ["tests/live/test_pods.py", "tests/live/test_pods.py::test_limits_reach_the_cgroup"])
def test_a_file_or_a_node_id_runs_in_one_process(run: Any, place: str) -> None:
    assert run("-q", place) == (0, [["-q", place]])


@pytest.mark.parametrize("selection", [("tests/unit",), ("-k", "relay"), ("-m", "live"), ("--lf",)])
def test_a_selection_runs_without_style_and_types(run: Any, selection: tuple[str, ...]) -> None:
    _, started = run(*selection)
    assert [command[:2] for command in started] == [["-n", str(runner.WORKERS)], ["--alone", "only"]]


@pytest.mark.parametrize(
    ("arguments", "statuses", "status", "runs"),
    [
        ((), (1, 0), 1, 2),
        ((), (0, 1), 1, 2),
        ((), (5, 0), 0, 2),
        ((), (1, 5), 1, 2),
        ((), (5, 5), 5, 2),
        (("-x",), (1,), 1, 1),
        ((), (2,), 2, 1),
    ],
)
def test_the_worse_of_both_runs_counts(
    run: Any, arguments: tuple[str, ...], statuses: tuple[int, ...], status: int, runs: int
) -> None:
    found, started = run("tests/unit", *arguments, statuses=statuses)
    assert (found, len(started)) == (status, runs)


def test_a_run_that_was_killed_has_not_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner.signal, "signal", lambda *_: None)
    assert runner.wait(subprocess.Popen(["sh", "-c", "kill -KILL $$"])) == 128 + 9
    assert runner.wait(subprocess.Popen(["sh", "-c", "exit 5"])) == 5


def test_the_same_seed_is_the_same_order_and_keeps_modules_together(request: pytest.FixtureRequest) -> None:
    items = [item for item in request.session.items if item.path == Path(__file__)]

    def ordered(seed: int) -> list[Any]:
        shuffled = [*request.session.items]
        tiers.shuffle(shuffled, seed)
        return shuffled

    assert ordered(1) == ordered(1)
    if len(items) > 10:  # else only a few were selected
        assert ordered(1) != ordered(2)
    modules = [item.path for item in ordered(1)]
    assert len([1 for one, other in itertools.pairwise(modules) if one != other]) == len(set(modules)) - 1


def test_tests_of_one_group_run_on_one_worker(tmp_path: Path) -> None:
    """pytest-xdist keeps no group, and does not say so, where pytest has changed what it relies on."""
    lines = ["import os, pytest", *(
        f"@pytest.mark.xdist_group('{number % 2}')\ndef test_{number}():\n"
        f"    open(f'{number % 2}-' + os.environ['PYTEST_XDIST_WORKER'], 'w').close()" for number in range(12)
    )]
    (tmp_path / "test_groups.py").write_text("\n".join(lines))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:nbval", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadgroup"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert sorted(path.name[0] for path in tmp_path.glob("?-gw*")) == ["0", "1"]
