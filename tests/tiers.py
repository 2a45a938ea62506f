"""Which tests run: markers by place, what a run without a selection leaves out, and which tests keep to one worker.

The quick tier is what a change needs: unit tests, the node kind `containerd`, every notebook. --all adds the long proofs. What
somebody selects (a path, a node id, -k, -m, --lf) runs whatever its tier; only --soak runs the tests marked so.
"""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
PLACES = {
    "unit/": "unit",
    "live/": "live",
    "live/test_binder": "binder",
    "live/test_chaos": "chaos",
    "live/test_clean": "kind",
    "live/test_incident": "incident",
    "live/test_kill": "chaos",
    "live/test_kind": "kind",
    "live/test_kubeapi_schemathesis": "fuzz",
    "live/test_lesson_tools": "authoring",
    "live/test_standin": "kind",
    "live/test_tracefs_vm": "vm",
    "live/test_vm": "vm",
    "live/test_wheel": "wheel",
    "notebooks/": "notebooks",
    "notebooks/test_reruns": "reruns",
    "notebooks/test_teacher": "teacher",
    "browser/": "browser",
    "site/": "site",
}
"""The beginning of a file's path below tests/, and the marker that its tests get."""
LONG = ("kind", "vm", "chaos", "fuzz", "browser", "binder", "teacher", "wheel", "authoring", "reruns", "incident", "site")
"""The markers of what is not in the quick tier."""
ONE_WORKER = ("kind", "vm", "browser")
"""The markers of tests that share what is expensive: a Docker engine, a virtual machine, JupyterLab."""
FIRST = (
    "live/test_kind", "live/test_vm", "notebooks/test_notebooks.py::test_outputs", "notebooks/test_teacher", "live/test_truth.py",
    "live/test_chaos", "live/test_kill", "browser/", "live/test_daemon", "live/test_trouble", "live/test_sweep",
    "live/test_kubectl", "live/test_shell", "live/test_other_pods",
)
"""The beginning of the names of what takes longest, which has to start first for all workers to end at one time."""
SEED = "TESTS_SEED"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tiers", "which tests run")
    group.addoption("--all", action="store_true", help=f"also run {', '.join(LONG)}")
    group.addoption("--soak", action="store_true", help="--all, and the tests that take longest")
    group.addoption("--alone", choices=("too", "not", "only"), default="too",
                    help="whether to run the tests that cannot share the machine with others (default: too)")
    group.addoption("--shuffle", action="store_true", help=f"run in random order; {SEED}=NUMBER repeats an order")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--shuffle"):
        os.environ.setdefault(SEED, str(random.randrange(1_000_000)))  # the workers of pytest-xdist inherit it


def pytest_report_header(config: pytest.Config) -> list[str]:
    lines = ["tier: quick; --all adds " + ", ".join(LONG)] if quick(config) else []
    return [*lines, *([f"order: random; {SEED}={os.environ[SEED]} repeats it"] if config.getoption("--shuffle") else [])]


def quick(config: pytest.Config) -> bool:
    selected = config.args_source == pytest.Config.ArgsSource.ARGS
    option = config.option
    return not (selected or option.all or option.soak or option.keyword or option.markexpr or getattr(option, "lf", False))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Not even import what is left out: that takes seconds."""
    return True if quick(config) and set(LONG).intersection(markers(collection_path)) else None


def markers(path: Path) -> list[str]:
    if not path.is_relative_to(TESTS):
        return []
    place = f"{path.relative_to(TESTS)}/" if path.is_dir() else str(path.relative_to(TESTS))
    return [marker for start, marker in PLACES.items() if place.startswith(start)]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Before -m chooses by marker, and before pytest-xdist reads its groups."""
    for item in items:
        for marker in markers(item.path):
            item.add_marker(marker)
        if item.get_closest_marker("soak") and not config.getoption("--soak"):
            item.add_marker(pytest.mark.skip(reason="takes long; --soak runs it"))
    if (alone := config.getoption("--alone")) != "too":
        left_out = {item for item in items if bool(item.get_closest_marker("alone")) != (alone == "only")}
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]
    if config.getoption("--shuffle"):
        shuffle(items, int(os.environ[SEED]))
    elif hasattr(config, "workerinput"):
        items.sort(key=started)
    if hasattr(config, "workerinput"):  # of pytest-xdist
        for item in items:
            if name := group(item):
                item.add_marker(pytest.mark.xdist_group(name))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Where pytest-xdist reports a test, call it by the name by which it can be run again, which has no group."""
    if hasattr(report, "node"):
        report.nodeid = re.sub(r"@[\w-]+$", "", report.nodeid)


def shuffle(items: list[pytest.Item], seed: int) -> None:
    """Modules in random order, and the tests of each: a fixture of a module is made once all the same, and for each parameter."""
    order = random.Random(seed)
    places = {item: (str(item.path), group(item)) for item in items}
    turns = sorted({part for place in places.values() for part in place})
    order.shuffle(turns)
    turn = {part: number for number, part in enumerate(turns)}
    order.shuffle(items)
    items.sort(key=lambda item: tuple(turn[part] for part in places[item]))


def started(item: pytest.Item) -> int:
    """When a test starts: those that are FIRST, then all that wait for a runtime, then unit tests."""
    name = item.nodeid.removeprefix(f"{TESTS.name}/")
    for position, start in enumerate(FIRST):
        if name.startswith(start):
            return position
    return len(FIRST) + bool(item.get_closest_marker("unit"))


def group(item: pytest.Item) -> str:
    """The name of what runs on one worker: tests with one expensive thing, tests with a fixture of their module, unit tests of
    a module. "" for others, which run wherever there is room."""
    for marker in ONE_WORKER:
        if item.get_closest_marker(marker):
            return marker
    fixtures = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]
    of_module = {name for name, definitions in fixtures.items() if definitions[-1].scope == "module"}
    if not of_module:
        return item.path.stem if item.get_closest_marker("unit") else ""
    chosen = getattr(getattr(item, "callspec", None), "indices", {})
    return "-".join([item.path.stem, *(str(number) for name, number in sorted(chosen.items()) if name in of_module)])
