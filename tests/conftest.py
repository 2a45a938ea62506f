"""What every test can use: a home of its own for a lab, and a node that runs for the whole session."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CI = os.environ.get("CI") == "true"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="also run what takes long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--soak"):
        for item in items:
            if item.get_closest_marker("soak"):
                item.add_marker(pytest.mark.skip(reason="takes long; --soak runs it"))


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


@pytest.fixture(scope="session")
def lab() -> Iterator[None]:
    """The node of the default home (or LABKIT_HOME), up for the whole session. Without root it cannot be: a failure,
    not a skip, in CI."""
    if os.geteuid() != 0 and not CI:
        pytest.skip("needs root; CI runs it")
    labkit("up")
    yield


@pytest.fixture
def node(lab: None) -> Iterator[object]:
    """A connection for one test; the Pods that the test started are removed."""
    from labkit import connect

    connected = connect(lesson="test")
    yield connected
    connected.remove_leftovers()
    connected.close()
