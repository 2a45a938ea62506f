"""`labkit clean` after a lesson that was killed in its middle, on a node of today: nothing is left there, nor in the API."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from labkit.node import Home
from tests.conftest import labkit
from tests.standin.cluster import KindCluster

pytestmark = pytest.mark.live
pytest_plugins = ("tests.standin.fixtures",)

LESSON = """
import os, labkit
node = labkit.connect(lesson="test")
main = {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
def pod(name):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [main]}}
cluster = node.cluster
cluster.apply(pod("applied"), {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}})
cluster.kubectl("create", "secret", "generic", "made", "--from-literal=a=b")
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
}


def looked(cluster: KindCluster) -> dict[str, set[str]]:
    found = {what: set(cluster.node.exec("sh", "-c", f"{script}; true").splitlines()) for what, script in LOOKS.items()}
    kinds = "pods,configmaps,secrets,persistentvolumes,persistentvolumeclaims"
    found["objects"] = set(cluster.kubectl("get", kinds, "--all-namespaces", "-o", "name").splitlines())
    return found


@pytest.fixture
def cluster(systemd_cluster: KindCluster, own_home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[KindCluster]:
    environment = {**systemd_cluster.node.engine.env, "LABKIT_NODE": "kind", "LABKIT_CLUSTER": systemd_cluster.node.cluster,
                   "LABKIT_HOLD": "yes", "KUBECONFIG": str(systemd_cluster.kubeconfig)}  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    yield systemd_cluster
    labkit("clean", check=False)


def test_nothing_is_left_of_a_lesson_that_was_killed_in_its_middle(cluster: KindCluster) -> None:
    before = looked(cluster)
    done = subprocess.run([sys.executable, "-c", LESSON], capture_output=True, text=True, timeout=240)
    assert done.returncode == -9, done.stderr
    report = json.loads(labkit("clean", "--json").stdout)
    assert report["left"] == [] and report["alone"] == []
    after = looked(cluster)
    assert {what: after[what] ^ before[what] for what in after if after[what] != before[what]} == {}
