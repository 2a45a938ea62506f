"""`labkit clean` after a lesson that was killed in its middle: nothing is left on the node, in the engine, or in the API.

With --soak each notebook is such a lesson. Half of its cells run; LABKIT_SEED=… draws another number for each.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

from labkit.node import Home
from labkit.node.registry import share
from labkit.node.remote import container_selection, kind_cluster
from labkit.node.state.ledger import mark_of
from labkit.util import progress
from tests.conftest import ROOT, labkit
from tests.live import machine
from tests.standin.cluster import KindCluster

pytest_plugins = ("tests.standin.fixtures",)

LESSON = """
import json, os, labkit
node = labkit.connect(lesson="test")
main = {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
def pod(name):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [main]}}
cluster = node.cluster
cluster.apply(pod("applied"), {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}})
cluster.kubectl("create", "secret", "generic", "made", "--from-literal=a=b")
for verb in ("apply", "create"):
    of_a_file = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"by-{verb}"}}
    print(cluster.kubectl(verb, "-f", "-", stdin=json.dumps(of_a_file)))
cluster.wait_status("applied", "Running")
node.kubelet_held().start()
by_hand = node.start_pod(pod("by-hand"))
node.kill(next(p.pid for p in by_hand.processes if p.role == "pause"), 9)
node.wait_not_ready(by_hand.id)
node.cri.stop_pod_sandbox(pod_sandbox_id=by_hand.id)
for container in by_hand.containers:
    node.cri.remove_container(container_id=container.id)
node.cri.remove_pod_sandbox(pod_sandbox_id=by_hand.id)
node.start_pod(pod("another"))
node.cni.take_away()
node.daemon.kill()
os.kill(os.getpid(), 9)
"""
LOOKS = {
    "shims": "pgrep -a containerd-shim",
    "sandboxes": "ctr -n k8s.io containers ls -q",
    "images": "ctr -n k8s.io images ls -q",
    "tenants": "ctr namespaces ls -q",
    "units": "systemctl list-units --all --plain --no-legend 'labkit*' | cut -d' ' -f1",
    "cgroups": "find /sys/fs/cgroup -type d -name '*labkit*'",
    # The stand-in's kubelet makes the directory for hostPath volumes, the runtime /run/netns with its first Pod.
    "files": "find /etc/containerd /etc/cni /var/lib/labkit /var/log/pods /run/labkit-hold 2>/dev/null"
    " | grep -v '^/var/lib/labkit\\(/hostpath\\)\\?$'; ls /run/netns",
    "cni": "cat /etc/cni/net.d/*",
    "stopped": "cat /proc/[0-9]*/stat 2>/dev/null | grep ') T '",
    "watchers": "grep -l 'labkit-[h]old' /proc/[0-9]*/cmdline 2>/dev/null",
    "registries": "pgrep docker-registry",
}
ENGINE_LISTS = (("ps", "--all", "--format", "{{.Names}}"), ("images", "--quiet"), ("volume", "ls", "--quiet"),
                ("network", "ls", "--quiet"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
SETTLES_WITHIN_S = 30.0
"""The kubelet removes by itself what there was of Pods that were deleted from the API."""


def looked(cluster: KindCluster) -> dict[str, set[str]]:
    found = {what: set(cluster.node.exec("sh", "-c", f"{script}; true").splitlines()) for what, script in LOOKS.items()}
    kinds = "pods,configmaps,secrets,persistentvolumes,persistentvolumeclaims"
    found["objects"] = set(cluster.kubectl("get", kinds, "--all-namespaces", "-o", "name").splitlines())
    found["labels"] = set(cluster.kubectl("get", "nodes", "--no-headers", "--show-labels").split()[-1].split(","))
    found["engine"] = {line for command in ENGINE_LISTS for line in cluster.node.engine.run(*command).splitlines()}
    return found


def changed(before: dict[str, set[str]], after: dict[str, set[str]]) -> dict[str, set[str]]:
    return {what: after[what] ^ before[what] for what in after if after[what] != before[what]}


@pytest.fixture
def cluster(systemd_cluster: KindCluster, own_home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[KindCluster]:
    environment = {**systemd_cluster.node.engine.env, "LABKIT_NODE": "kind", "LABKIT_CLUSTER": systemd_cluster.node.cluster,
                   "LABKIT_HOLD": "yes", "KUBECONFIG": str(systemd_cluster.kubeconfig)}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    yield systemd_cluster
    labkit("clean", check=False)


def test_nothing_is_left_of_a_lesson_that_was_killed_in_its_middle(cluster: KindCluster, own_home: Home) -> None:
    before = looked(cluster)
    done = subprocess.run([sys.executable, "-c", LESSON], capture_output=True, text=True, timeout=240)
    assert done.returncode == -9, done.stderr
    engine = container_selection.need_engine()
    used_by = kind_cluster.files(engine, engine.node_container(cluster.node.name), share.HOMES)
    assert used_by == {mark_of(own_home): f"{own_home.data}\n"}
    assert_clean()
    assert changed(before, looked(cluster)) == {}


@pytest.mark.soak
@each_notebook
def test_nothing_is_left_of_a_notebook_that_was_killed_in_its_middle(cluster: KindCluster, notebook: Path) -> None:
    before = looked(cluster)
    run_and_kill(first_cells(notebook))
    assert_clean()
    progress.wait("it settles", lambda: changed(before, looked(cluster)) == {}, SETTLES_WITHIN_S)
    assert changed(before, looked(cluster)) == {}
    assert_clean()  # once more changes nothing, and finds nothing


@pytest.mark.soak
@pytest.mark.alone("compares the whole machine before and after")
@each_notebook
def test_nothing_is_left_of_one_on_a_private_node(own_home: Home, monkeypatch: pytest.MonkeyPatch, notebook: Path) -> None:
    monkeypatch.setenv("LABKIT_NODE", "containerd")
    ours = own_home.cache, own_home.run.parent
    before = machine.at_rest(*ours)
    labkit("up")
    run_and_kill(first_cells(notebook))
    assert_clean()
    assert machine.changed(before, machine.look(*ours)) == {}


def assert_clean() -> None:
    report = json.loads(labkit("clean", "--json").stdout)
    assert report["left"] == [] and report["alone"] == []


def first_cells(notebook: Path) -> list[str]:
    """The sources of a notebook's first code cells."""
    cells = json.loads(notebook.read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    seed = os.environ.get("LABKIT_SEED")
    number = random.Random(f"{seed} {notebook.stem}").randint(1, len(sources)) if seed else len(sources) // 2
    print(f"LABKIT_SEED={seed or ''}: {number} of the {len(sources)} cells of {notebook.stem}")
    return sources[:number]


def run_and_kill(sources: list[str]) -> None:
    """Run cells in a kernel of their own, and end it by SIGKILL: it alone, not what it has started."""
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(ROOT / "notebooks"))
    try:
        for source in sources:
            done = client.execute_interactive(source, timeout=300, allow_stdin=False, output_hook=lambda message: None)
            assert done["content"]["status"] == "ok", f"{source}\n{done['content'].get('evalue')}"
    finally:
        client.stop_channels()
        os.kill(manager.provisioner.pid, signal.SIGKILL)
        manager.provisioner.process.wait()
        manager.cleanup_resources()
