"""A lab of a test's own, apart from the session's."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.node import Home
from tests.conftest import CI, labkit, make_home


@pytest.fixture
def own_home(programs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A home below a short temporary directory, whose cache is a link to the one that is filled. Cleaned afterwards."""
    if os.geteuid() != 0 and not CI:
        pytest.skip("needs root; CI runs it")
    base = make_home(programs)
    monkeypatch.setenv("LABKIT_HOME", str(base))
    yield Home.find()
    labkit("clean", check=False)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(base)


@pytest.fixture(scope="module")
def lab_of_its_own(programs: Path) -> Iterator[Home]:
    """The same for all tests of a module. Nothing of it may be left in the end."""
    if os.geteuid() != 0 and not CI:
        pytest.skip("needs root; CI runs it")
    base = make_home(programs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_HOME", str(base))
        yield Home.find()
        report = json.loads(labkit("clean", "--json").stdout)
    shutil.rmtree(base)
    assert report["left"] == []
