"""Node kind `cri:unix://…`: a runtime of somebody else's, used by two labs at once, stopped, and cleaned."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.cri import CriClient
from labkit.node import Home
from tests.conftest import CI, labkit
from tests.live import exposed, machine

pytestmark = pytest.mark.live

START_POD = """
import labkit
node = labkit.connect(lesson="test")
main = {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
node.start_pod({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": NAME}, "spec": {"containers": [main]}})
"""


@contextlib.contextmanager
def new_home(programs: Path) -> Iterator[str]:
    base = Path(tempfile.mkdtemp(prefix="lk-", dir="/tmp"))
    (base / "cache").symlink_to(programs)
    try:
        yield str(base)
    finally:
        labkit("clean", check=False, LABKIT_HOME=str(base))
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def homes(programs: Path) -> Iterator[tuple[str, str, str]]:
    """Three homes; in the first is the runtime, which is nobody's business but its owner's."""
    if os.geteuid() != 0 and not CI:
        pytest.skip("needs root; CI runs it")
    with new_home(programs) as owner, new_home(programs) as first, new_home(programs) as second:
        labkit("up", LABKIT_HOME=owner, LABKIT_NODE="containerd")
        yield owner, first, second


def home_at(base: str) -> Home:
    return Home.find({"LABKIT_HOME": base})


def on_runtime(endpoint: str, homes: list[str]) -> dict[str, set[str]]:
    """What is on the runtime, and what Pods of these homes leave on this machine."""
    with CriClient(endpoint) as cri:
        cri.pull_image(image={"image": "registry.lab/pause:1"})  # this runtime's own pause image, which it pulls for itself
        found = {
            "Pods": {s.id for s in cri.list_pod_sandbox().items},
            "images": {name for image in cri.list_images().images for name in (*image.repo_tags, *image.repo_digests)},
        }
    logs = Path("/var/log/pods")
    found["logs"] = set(os.listdir(logs)) if logs.exists() else set()
    roots = [home_at(home).cgroup_root.strip("/") for home in homes]
    found["cgroups"] = {cgroup for cgroup in machine.cgroups() if any(f"/{root}/" in f"{cgroup}/" for root in roots)}
    return found


def test_two_labs_use_a_runtime_that_is_stopped_meanwhile(homes: tuple[str, str, str]) -> None:
    owner, *learners = homes
    socket = json.loads(labkit("status", "--json", LABKIT_HOME=owner, LABKIT_NODE="containerd").stdout)["endpoint"]
    before = on_runtime(socket, learners)
    environments = [{"LABKIT_HOME": home, "LABKIT_NODE": f"cri:{socket}"} for home in learners]
    at_once = [
        subprocess.Popen([sys.executable, "-m", "labkit.cli", "up"], env={**os.environ, **env}, stderr=subprocess.PIPE, text=True)
        for env in environments
    ]
    for started in at_once:
        _, words = started.communicate(timeout=120)
        assert started.returncode == 0, words
    ports = {Path(home, "data/loopback-registry.port").read_text() for home in learners}
    assert len(ports) == 2, "each has a registry of its own"
    for name, env in zip(("first", "second"), environments, strict=True):
        subprocess.run([sys.executable, "-c", START_POD.replace("NAME", repr(name))], env={**os.environ, **env}, check=True)

    sockets, files = exposed.documented("cri:")
    assert exposed.sockets(home_at(learners[0])) == sockets
    assert exposed.files(home_at(learners[0])) == files

    labkit("containerd", "stop", LABKIT_HOME=owner, LABKIT_NODE="containerd")
    stopped = labkit("clean", "--json", check=False, **environments[0])
    report = json.loads(stopped.stdout)
    assert stopped.returncode == 1 and report["left"][0].startswith("could not look at ") and "Pods" in report["left"][0]

    labkit("containerd", "start", LABKIT_HOME=owner, LABKIT_NODE="containerd")
    report = json.loads(labkit("clean", "--json", **environments[0]).stdout)
    assert report["left"] == [] and any("the Pod second" in line for line in report["alone"])
    with CriClient(socket) as cri:
        assert [s.metadata.name for s in cri.list_pod_sandbox(filter={"state": {"state": "SANDBOX_READY"}}).items] == ["second"]
    report = json.loads(labkit("clean", "--json", **environments[1]).stdout)
    assert report["left"] == report["alone"] == []
    after = on_runtime(socket, learners)
    assert {what: after[what] ^ before[what] for what in after if after[what] != before[what]} == {}
