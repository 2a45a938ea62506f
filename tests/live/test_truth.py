"""The recordings of a real kubelet, run again on this lab, by tests/truth/compare.py, and the Pods that it leaves out."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from labkit.node import Home
from labkit.node.host import containerd_setup
from labkit.node.packages import releases
from labkit.node.pods import kubectl
from tests.conftest import labkit
from tests.live.cluster import Cluster, wait_for
from tests.truth import TRUTH

IMAGE = "registry.lab/busybox:1"
CONTAINERD = "2"
"""The recordings were made with containerd 2.1.9 and hold its words for failed pulls; 1.6 says it otherwise."""


@pytest.fixture
def cluster(own_home: Home) -> Cluster:
    labkit("up", "--node", "containerd")
    return Cluster.of(own_home)


@pytest.fixture
def recorded() -> dict[str, Any]:
    texts = (TRUTH / "pods.json").read_text().replace("localhost:5000/labkit/bb:1", IMAGE)
    return json.loads(texts)


def test_pods_are_run_as_the_real_kubelet_ran_them(own_home: Home) -> None:
    own_home.data.mkdir(parents=True)
    containerd_setup.choose(own_home, releases.ensure(own_home.cache, CONTAINERD))
    labkit("up", "--node", "containerd")
    # kubectl itself: `labkit kubectl` starts a Python first, and a comparison that takes longer sees later events.
    prefix = [kubectl.program(), "--kubeconfig", str(own_home.kubeconfig)]
    command = [sys.executable, str(TRUTH / "compare.py"), *prefix, "--", str(TRUTH / "pods.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr


MASKS = (
    (r"(?m)^(Service Account:|Kube-Proxy Version:| *Warning +NetworkNotReady ).*\n", ""),
    (r"(?m)^( *)(Machine ID|System UUID|Boot ID|Kernel Version|OS Image|Architecture|Image ID):.*", r"\1\2:"),
    (r"(?m)^( *)(Kubelet|Container Runtime) Version:.*", r"\1\2 Version:"),
    (r"(?m)^(  )(cpu|memory|ephemeral-storage):.*", r"\1\2:"),
    (r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} \+0000", "TIME"),
    (r"containerd://[0-9a-f]{64}", "CONTAINER"),
    (r"\d+\.\d+\.\d+\.\d+", "ADDRESS"),
    (r"localhost:5000/labkit/bb:1", IMAGE),
    (r"\b(\d+[dhms])+\b", "AGE"),
    (r"\(\d+%\)", "(N%)"),
    (r"kubernetes.io/arch=\w+", "kubernetes.io/arch=ARCH"),
    (r" +\n", "\n"),
    (r"  +", "  "),
    (r"--+", "--"),
)
"""What differs from machine to machine and from run to run; and what the recordings' cluster had not (a service account), or had
for a time (no network)."""


def shape(text: str) -> list[str]:
    """The lines that kubectl shows, masked. A node's events are left out: the recorded ones were over."""
    for pattern, mask in MASKS:
        text = re.sub(pattern, mask, text)
    return (text.partition("\nEvents:")[0] if "\nAllocatable:" in text else text).splitlines()


def test_kubectl_shows_what_it_shows_of_a_real_kubelet(cluster: Cluster, own_home: Home) -> None:
    """The Pod of shop.json, described, listed, and on its node."""
    cluster.create({"metadata": {"name": "first"}, "spec": {"containers": [{"name": "app", "image": IMAGE}]}})
    wait_for(lambda: cluster.container("first").get("imageID"), "the image to be there")
    cluster.delete("first")
    wait_for(lambda: cluster.pod("first") is None, "that Pod to go")
    noted = json.loads((TRUTH / "shop.json").read_text())["pod"]["metadata"]["annotations"]
    applied = noted["kubectl.kubernetes.io/last-applied-configuration"].replace("localhost:5000/labkit/bb:1", IMAGE)
    environment = {"KUBECONFIG": str(own_home.kubeconfig)}
    kubectl.run(("apply", "-f", "-"), environment, applied)
    kubectl.run(("wait", "--for=condition=Ready", "pod/shop", "--timeout=60s"), environment)
    cluster.uids.add(kubectl.run(("get", "pod", "shop", "-o", "jsonpath={.metadata.uid}"), environment))
    wait_for(lambda: len(cluster.messages("shop", "Started")) == 3, "its events")
    for file, words in {
        "describe_pod_shop.txt": ("describe", "pod", "shop"),
        "get_pods_wide.txt": ("get", "pods", "-o", "wide"),
        "describe_node.txt": ("describe", "node", "sim-worker"),
    }.items():
        assert shape(kubectl.run(words, environment)) == shape((TRUTH / file).read_text())


def cni_file(home: Home) -> Path:
    (file,) = (home.data / "cni" / "net.d").glob("*.conflist")
    return file


def plain(message: str) -> str:
    return re.sub(r"[0-9a-f]{64}", "ID", message)


def test_a_broken_cni_configuration_and_its_repair(cluster: Cluster, own_home: Home, recorded: dict[str, Any]) -> None:
    file = cni_file(own_home)
    right = file.read_text()
    broken = json.loads(right)
    broken["plugins"][0]["type"] = "no-such-plugin"
    file.write_text(json.dumps(broken))
    truth = recorded["broken-cni"]
    wanted = next(plain(e["message"]) for e in truth["events"] if e["reason"] == "FailedCreatePodSandBox")
    cluster.create(truth["manifest"])
    wait_for(lambda: cluster.messages("broken-cni", "FailedCreatePodSandBox"), "the sandbox to fail")
    message = plain(cluster.messages("broken-cni", "FailedCreatePodSandBox")[0])
    assert message.partition(" in path")[0] == wanted.partition(" in path")[0]
    assert cluster.container("broken-cni")["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert cluster.node_ready() == "True"
    file.write_text(right)
    wait_for(lambda: cluster.phase("broken-cni") == "Running", "the Pod to run once the network is repaired")


def test_without_a_cni_configuration_the_node_is_not_ready(cluster: Cluster, own_home: Home, recorded: dict[str, Any]) -> None:
    file = cni_file(own_home)
    right = file.read_text()
    file.unlink()
    wait_for(lambda: cluster.node_ready() == "False", "the node to notice")
    truth = recorded["no-cni-config"]
    cluster.create(truth["manifest"])
    wanted = {e["message"] for e in truth["events"] if e["reason"] == "NetworkNotReady"}
    wait_for(lambda: wanted <= set(cluster.messages("no-cni-config", "NetworkNotReady")), "the event")
    assert cluster.container("no-cni-config")["state"] == {"waiting": {"reason": "ContainerCreating"}}
    host = {**truth["manifest"], "metadata": {"name": "on-host"}, "spec": {**truth["manifest"]["spec"], "hostNetwork": True}}
    host["spec"]["containers"] = [{"name": "app", "image": IMAGE, "command": ["sleep", "1000"]}]
    cluster.create(host)
    wait_for(lambda: cluster.phase("on-host") == "Running", "a Pod on the node's own network to run all the same")
    file.write_text(right)
    wait_for(lambda: cluster.phase("no-cni-config") == "Running", "the Pod to run once the network is there")
    wait_for(lambda: cluster.node_ready() == "True", "the node to be ready again")


def test_a_memory_hog(cluster: Cluster, recorded: dict[str, Any]) -> None:
    """The kernel kills dd, a child, or the container's first process, or runc's, as it comes: the limit is what holds."""
    truth = recorded["oom-killed"]
    cluster.create(truth["manifest"])
    ended = {"OOMKilled", "StartError", "Error", "Completed"}
    wait_for(lambda: cluster.phase("oom-killed") == "Running" or cluster.reasons("oom-killed") & ended, "the Pod to start")
    status = cluster.status("oom-killed")
    assert status["resources"]["limits"] == {"memory": "20Mi"} and status["qosClass"] == "Burstable"
    assert cluster.memory_limit("oom-killed") == 20 * 2**20


def test_a_memory_hog_of_one_process_is_killed_again_and_again(cluster: Cluster, recorded: dict[str, Any]) -> None:
    cluster.create(recorded["oom-killed-heap"]["manifest"])
    wait_for(lambda: "OOMKilled" in cluster.reasons("oom-killed-heap"), "the kernel to kill it")
    wait_for(lambda: cluster.container("oom-killed-heap")["restartCount"] > 0, "a restart")
