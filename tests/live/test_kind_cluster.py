"""Node kind `kind` where the node is of a cluster, with an API and a kubelet of its own: the notebooks, and what they rest on."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import labkit as lab
from labkit.node import Home
from tests.conftest import ROOT, labkit
from tests.live.test_kind import as_user
from tests.live.test_pods import SLEEP, manifest
from tests.standin.cluster import KindCluster, kind_cluster
from tests.standin.engine import Engine
from tests.standin.node import StandIn
from tests.standin.systemd import SystemdNode

pytest_plugins = ("tests.standin.fixtures",)

NOTEBOOKS = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
NBVAL = ("-m", "pytest", "-q", "--nbval", "-p", "no:cacheprovider", "-c", "/dev/null",
         "--nbval-sanitize-with", "tests/notebooks/sanitize.cfg")


@pytest.fixture(
    scope="module",
    params=[pytest.param(SystemdNode, id="today"), pytest.param(StandIn, id="older", marks=pytest.mark.soak)],
)
def running(engine: Engine, request: pytest.FixtureRequest) -> Iterator[KindCluster]:
    """A cluster for this module alone: elsewhere there is one node only, which labkit takes without asking."""
    with kind_cluster(engine, "lesson-control-plane", "lesson", request.param) as made:
        yield made


@pytest.fixture
def cluster(running: KindCluster, own_home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[KindCluster]:
    """The cluster as root's own, in a home of its own; labkit is off the node afterwards."""
    environment = {**running.node.engine.env, "LABKIT_NODE": "kind", "LABKIT_CLUSTER": running.node.cluster,
                   "LABKIT_HOLD": "yes", "KUBECONFIG": str(running.kubeconfig)}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    labkit("up")
    yield running
    labkit("clean", check=False)


def test_an_ordinary_user_runs_the_notebooks_in_their_order(cluster: KindCluster, engine: Engine) -> None:
    with engine.user() as learner:
        cluster.give(learner)
        started = as_user(engine, learner, "-m", "labkit.cli", "up", "--json")
        assert started.returncode == 0, started.stderr
        try:
            done = as_user(engine, learner, *NBVAL, *NOTEBOOKS, timeout=900)
        finally:
            cleaned = as_user(engine, learner, "-m", "labkit.cli", "clean", "--json")
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        assert cleaned.returncode == 0 and json.loads(cleaned.stdout)["left"] == [], cleaned.stderr


@pytest.mark.soak
def test_root_runs_the_notebooks_in_reverse(cluster: KindCluster) -> None:
    """With the kernel's own events, since root is beside the node."""
    done = as_root(NOTEBOOKS[::-1])
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert cluster.kubectl("get", "pods", "--all-namespaces", "-o", "name") == ""


@pytest.mark.soak
def test_each_notebook_runs_after_each_other(cluster: KindCluster) -> None:
    tour = [NOTEBOOKS[number] for number in every_pair(len(NOTEBOOKS))]
    failed = {}
    for before, after in itertools.pairwise(["nothing", *tour]):
        if (done := as_root([after])).returncode:
            failed[f"{after} after {before}"] = done.stdout[-3000:]
    assert not failed, "\n".join(f"{pair}:\n{said}" for pair, said in failed.items())


def every_pair(count: int) -> list[int]:
    """A closed walk over 0 … count-1 in which each follows each other one exactly once (Hierholzer's algorithm)."""
    left = {here: [there for there in range(count) if there != here] for here in range(count)}
    walk, path = [], [0]
    while path:
        if left[path[-1]]:
            path.append(left[path[-1]].pop())
        else:
            walk.append(path.pop())
    assert set(itertools.pairwise(walk)) == set(itertools.permutations(range(count), 2))
    return walk


def as_root(notebooks: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *NBVAL, *notebooks], cwd=ROOT, capture_output=True, text=True, timeout=900)


def test_the_kubelets_calls_are_recorded_and_its_pods_found(cluster: KindCluster) -> None:
    node = lab.connect(lesson="test")
    pod = {"apiVersion": "v1", **manifest("mine", SLEEP, terminationGracePeriodSeconds=0)}
    with node.record() as flight:
        node.cluster.apply(pod)
        node.cluster.wait_status("mine", "Running")
    calls = [(call.method, call.caller) for call in flight.calls if call.pod == "mine" and not call.asks]
    assert [(method, caller) for method, caller in calls if method != "PullImage"] == [
        ("RunPodSandbox", "kubelet"), ("CreateContainer", "kubelet"), ("StartContainer", "kubelet")
    ]
    assert [(line.depth, line.role) for line in node.cgroups.tree() if line.name in ("mine", "main", "pause")] == [
        (2, "pod"), (3, "pause"), (3, "container")
    ]
    assert node.cluster.kubectl("exec", "mine", "--", "cat", "/etc/hostname") == "mine\n"
    assert node.cluster.remove_leftovers() == ["mine"]


FOURTH = """
import sys
from IPython import get_ipython
from ipykernel.ipkernel import IPythonKernel
IPythonKernel.instance()  # a claim on a lesson is a notebook's
import labkit
node = labkit.connect(lesson="04")
if "second" in sys.argv:
    sys.exit("two kernels have lesson 04")
node.kubelet_held().start()
node.start_pod({"metadata": {"name": "kept"}, "spec": {"containers": [
    {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}]}})
node.daemon.kill()
print("left half-way", flush=True)
sys.stdin.read()
"""


def test_connect_says_what_another_notebook_has_left(cluster: KindCluster) -> None:
    kernel = [sys.executable, "-c", FOURTH]
    with subprocess.Popen(kernel, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdin and first.stdout
        said = next((line for line in first.stdout if "left half-way" in line), "")
        assert said, "the first kernel has ended"
        second = subprocess.run([*kernel, "second"], capture_output=True, text=True)
        node = lab.connect(lesson="05")
        first.stdin.close()
    assert second.returncode == 1 and "Another kernel works on lesson 04 on this node" in second.stderr
    assert node.remarks == [
        "Notebook 04 was left half-way: its containerd was stopped, and has been started again.",
        f"Another notebook has suspended the kubelet of {node.name}, so Pods made through the API do not start until that"
        " notebook's last cell has run or its kernel has ended.",
        "Notebook 04 has left the Pod kept; its last cell removes it.",
    ]
    assert node.daemon.state == "running"


def test_a_volume_on_the_node(cluster: KindCluster) -> None:
    node = lab.connect(lesson="test")
    path = node.cluster.host_path("shared")
    mounted = {**SLEEP, "command": ["sh", "-c", "echo said >/shared/word; sleep 1000000"],
               "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    volume = {"name": "shared", "hostPath": {"path": path, "type": "DirectoryOrCreate"}}
    pod = manifest("writer", mounted, volumes=[volume], terminationGracePeriodSeconds=0)
    node.cluster.apply({"apiVersion": "v1", **pod})
    node.cluster.wait_status("writer", "Running")
    assert cluster.node.exec("cat", f"{path}/word") == "said"
    node.cluster.remove_leftovers()
    labkit("clean")
    assert cluster.node.exec("ls", str(Path(path).parent), check=False) == ""


def test_a_cluster_without_its_kubeconfig(cluster: KindCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    with pytest.raises(lab.NodeError, match="kind export kubeconfig --name lesson"):
        _ = lab.connect(lesson="test").kube
