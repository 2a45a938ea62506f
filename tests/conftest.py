"""What every test can use: a home of its own for a lab, and a node that runs for the whole session."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from labkit.node import Home
from labkit.node.packages.programs import ensure_programs
from labkit.node.state.node_selector import CLUSTER, NODE, NODE_NAME

ROOT = Path(__file__).resolve().parent.parent
CI = os.environ.get("CI") == "true"
OUT = ROOT / "tests" / "out"
"""Where the logs of failed tests' labs are kept. Git ignores it."""
pytest_plugins = ("tests.tiers",)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in its background so. Whatever the tests start would inherit it, and not hear their Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the logs of the lab in which a test failed, before the lab is removed, and say where they are."""
    report = yield
    if report.failed and "LABKIT_HOME" in os.environ and not item.get_closest_marker("unit"):
        home = Path(os.environ["LABKIT_HOME"])
        kept = keep_logs(home, OUT / re.sub(r"\W+", "-", item.name).strip("-"))
        report.sections.append((f"lab {home}", "\n".join(map(str, kept)) or "It has no logs, or has them no more."))
    return report


def keep_logs(home: Path, directory: Path) -> list[Path]:
    """Copies of the logs of a lab's own programs, in place of those that an earlier failure left there."""
    shutil.rmtree(directory, ignore_errors=True)
    logs = sorted((home / "data").glob("*.log"))
    if logs:
        directory.mkdir(parents=True)
    return [Path(shutil.copy(log, directory)) for log in logs]


def labkit(*arguments: str, check: bool = True, timeout: float = 180, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the `labkit` command as a learner would, in the environment of these tests."""
    done = subprocess.run(
        [sys.executable, "-m", "labkit.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **env},
    )
    if check and done.returncode:
        raise AssertionError(f"labkit {' '.join(arguments)} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done


@pytest.fixture(scope="session", autouse=True)
def progress_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where there is no LABKIT_HOME either, what a test answers is no progress of whoever runs the tests."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(autouse=True)
def node_that_is_meant() -> Iterator[None]:
    """A command with --node that a test runs in this process says it in the environment, where the next test does not find it."""
    before = {name: os.environ.get(name) for name in (NODE, CLUSTER, NODE_NAME)}
    yield
    for name, word in before.items():
        os.environ.pop(name, None)
        if word is not None:
            os.environ[name] = word


@pytest.fixture(scope="session")
def programs() -> Path:
    """The cache with the node's programs, brought once for all tests."""
    cache = Home.find().cache
    ensure_programs(cache)
    return cache


def make_home(programs: Path) -> Path:
    """A directory for LABKIT_HOME whose cache is a link to the one that is filled. Its path is short, for sockets' sake, and has
    the name of this run (see tests/__main__.py)."""
    base = Path(tempfile.mkdtemp(prefix=f"lk-{os.environ.get('TESTS_RUN', '')}", dir="/tmp"))
    (base / "cache").symlink_to(programs)
    return base


@pytest.fixture(scope="session")
def lab(programs: Path) -> Iterator[None]:
    """A node for the whole session, or worker, in a home of the tests' own: a learner's node, if there is one, is left alone.

    Without root it cannot be: a failure, not a skip, in CI.
    """
    if os.geteuid() != 0 and not CI:
        pytest.skip("needs root; CI runs it")
    before = os.environ.get("LABKIT_HOME")
    base = make_home(programs)
    os.environ["LABKIT_HOME"] = str(base)
    try:
        labkit("up", "--node", "containerd")
        yield
        report = json.loads(labkit("clean", "--json").stdout)
        assert report["left"] == []
    finally:
        os.environ.pop("LABKIT_HOME")
        if before is not None:
            os.environ["LABKIT_HOME"] = before
        (base / "cache").unlink()
        shutil.rmtree(base / "state", ignore_errors=True)  # what the course remembers of these tests: `clean` keeps it
        base.rmdir()


@pytest.fixture
def node(lab: None) -> Iterator[object]:
    """A connection for one test; the Pods that the test started are removed."""
    from labkit import connect

    connected = connect("containerd", lesson="test")
    yield connected
    connected.remove_leftovers()
    if "cluster" in vars(connected):
        connected.cluster.remove_leftovers()
    connected.close()
