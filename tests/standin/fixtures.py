"""The pytest fixtures. A conftest.py, or a test module, that wants them has
`from tests.standin.fixtures import engine, standin  # noqa: F401` (fixtures are found by name)."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.conftest import CI
from tests.standin.engine import Engine
from tests.standin.engine import engine as running_engine
from tests.standin.node import StandIn
from tests.standin.node import node as running_node


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A Docker engine for the whole session. Without root it cannot be: a failure, not a skip, in CI."""
    if os.geteuid() != 0 and not CI:
        pytest.skip("needs root; CI runs it")
    with running_engine() as started:
        yield started


@pytest.fixture(scope="session")
def standin(engine: Engine) -> Iterator[StandIn]:
    """kind's default node, kind-control-plane, for the whole session. Whoever stops or removes a node makes one of its own."""
    with running_node(engine) as made:
        yield made
