"""What containerd forgets when a shim dies or a start breaks off: it does not run on for ever, and is not left for ever."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from labkit import connect
from labkit.node import Home
from labkit.node.lab.daemon import Daemon
from labkit.node.packages import releases
from tests.conftest import labkit
from tests.live import machine
from tests.live.cluster import Cluster, wait_for
from tests.live.remains import containers_alive

APP = {"name": "app", "image": "registry.lab/busybox:1", "command": ["sleep", "1000000"]}


@pytest.fixture(scope="module", params=["default", "2"])
def home(request: pytest.FixtureRequest, lab_of_its_own: Home) -> Iterator[Home]:
    """A lab with the containerd that ends the containers of a dead shim itself, and with one that does not (its issue 10727)."""
    labkit("up", "--node", "containerd", "--time-scale", "0.02")
    if request.param != "default":
        releases.ensure(lab_of_its_own.cache, request.param)
        Daemon(lab_of_its_own).upgrade(request.param)
    yield lab_of_its_own
    labkit("down")


def kill_the_shim(pod: Any) -> None:
    os.kill(next(p.pid for p in pod.processes if p.role == "shim"), signal.SIGKILL)


def test_a_pod_made_by_hand_leaves_nothing_of_an_application_whose_shim_died(home: Home) -> None:
    with contextlib.closing(connect("containerd", lesson="sweep")) as node:
        made = node.start_pod({"kind": "Pod", "metadata": {"name": "by-hand"}, "spec": {"containers": [APP]}})
        application = made.containers[0].id
        assert application in containers_alive(home)
        kill_the_shim(made)
        wait_for(lambda: application not in containers_alive(home), "the application to end")
        wait_for(lambda: not (home.run / "runc/k8s.io" / application).exists(), "runc to forget it")
        wait_for(lambda: not any(cgroup.endswith(f"/{application}") for cgroup in machine.cgroups()), "its cgroup to go")


def test_an_application_whose_shim_died_does_not_run_beside_the_next(home: Home) -> None:
    cluster = Cluster.of(home)
    cluster.create({"metadata": {"name": "web"}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [APP]}})
    wait_for(lambda: cluster.phase("web") == "Running", "the Pod to run")
    uid = cluster.pod("web")["metadata"]["uid"]  # type: ignore[index]
    before = set(containers_alive(home))
    with contextlib.closing(connect("containerd", lesson="sweep")) as node:
        kill_the_shim(node.pod("web"))
    wait_for(lambda: cluster.container("web").get("restartCount"), "the next application")

    def next_pair() -> bool:
        alive = {id for id, of in containers_alive(home).items() if of == uid}
        return len(alive) == 2 and not alive & before

    wait_for(next_pair, "the next pause and application, alone")
    cluster.delete("web")
    wait_for(lambda: cluster.pod("web") is None, "the Pod to go")


def test_a_bundle_that_nobody_owns_is_removed(home: Home) -> None:
    bundle = home.containerd_state / "io.containerd.runtime.v2.task/k8s.io" / ("0badcafe" * 8)
    bundle.mkdir(parents=True)
    (bundle / "config.json").write_text("{}")
    wait_for(lambda: not bundle.exists(), "the bundle to go")
