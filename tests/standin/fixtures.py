"""The pytest fixtures. A conftest.py, or a test module, that wants them has
`from tests.standin.fixtures import engine, standin  # noqa: F401` (fixtures are found by name)."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.conftest import CI
from tests.standin.cluster import KindCluster, kind_cluster
from tests.standin.engine import Engine
from tests.standin.engine import engine as running_engine
from tests.standin.node import StandIn
from tests.standin.node import node as running_node
from tests.standin.systemd import SystemdNode
from tests.standin.systemd import systemd_node as running_systemd_node


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


@pytest.fixture(scope="module")
def systemd_node(engine: Engine) -> Iterator[SystemdNode]:
    """A node of today, today-control-plane of the cluster "today", for one module: elsewhere there is one node only."""
    with running_systemd_node(engine, "today-control-plane", "today") as made:
        yield made


@pytest.fixture(scope="module")
def systemd_cluster(engine: Engine) -> Iterator[KindCluster]:
    """The same with an API and a kubelet, today-cluster-control-plane of the cluster "today-cluster"."""
    with kind_cluster(engine, "today-cluster-control-plane", "today-cluster", SystemdNode) as made:
        yield made
