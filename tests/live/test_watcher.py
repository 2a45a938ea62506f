"""The watcher on a node that has no better way: how many `runc create` and `runc start` it sees."""

from __future__ import annotations

import subprocess
import threading

import pytest

import labkit as lab
from labkit.kernel.events import watcher
from labkit.node import Home
from labkit.node.remote.kind import KindNode
from tests.live.test_kind import docker, up  # noqa: F401
from tests.live.test_pods import manifest
from tests.standin.engine import Engine
from tests.standin.node import StandIn

pytest_plugins = ("tests.standin.fixtures",)

PODS = 10
FLAG = "/run/labkit-watch"


@pytest.mark.alone("polls /proc for processes that live some milliseconds")
def test_runc_is_seen(docker: Engine, standin: StandIn, own_home: Home) -> None:  # noqa: F811
    """Two containers a Pod (the pause and the application), each with a `create` and a `start`."""
    up()
    node = lab.connect(lesson="test")
    assert isinstance(node, KindNode)
    argv = node.engine.argv("exec", "--interactive", standin.name, "sh", "-c", watcher.WATCH, "sh", FLAG)
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as watching:
        assert watching.stdout
        assert watching.stdout.readline().startswith(b"ready")
        seen: list[watcher.StartedProgram] = []
        reader = threading.Thread(target=lambda: seen.extend(watcher.parse(watching.stdout)))
        reader.start()
        for number in range(PODS):
            node.start_pod(manifest(f"pod-{number}"))
        standin.exec("rm", FLAG)
        reader.join(20)
        assert watching.wait(20) == 0
    did = [word for s in seen if s.comm == "runc" for word in s.argv if word in ("create", "start")]
    print(f"seen: {len(did)} of {4 * PODS}")
    assert len(did) >= 0.95 * 4 * PODS
    assert len(did) <= 4 * PODS
