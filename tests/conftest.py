"""What every test can use: a home of its own for a lab, and a node that runs for the whole session."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.node import Home
from labkit.node.programs import ensure_programs

ROOT = Path(__file__).resolve().parent.parent
CI = os.environ.get("CI") == "true"
pytest_plugins = ("tests.tiers",)


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
def programs() -> Path:
    """The cache with the node's programs, brought once for all tests."""
    cache = Home.find().cache
    ensure_programs(cache)
    return cache


@pytest.fixture(scope="session")
def lab(programs: Path) -> Iterator[None]:
    """A node for the whole session, in a home of the tests' own: a learner's node, if there is one, is left alone.

    Without root it cannot be: a failure, not a skip, in CI.
    """
    if os.geteuid() != 0 and not CI:
        pytest.skip("needs root; CI runs it")
    before = os.environ.get("LABKIT_HOME")
    base = Path(tempfile.mkdtemp(prefix="lk-", dir="/tmp"))
    (base / "cache").symlink_to(programs)
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
