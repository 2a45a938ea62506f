"""Kubernetes on the virtual machine, for a learner without any privilege: Pods by kubectl, and what an accident makes of them.

The learner, her home and her machine are those of test_vm.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from labkit.node.machine.packages import builds_here
from tests.conftest import CI
from tests.live.test_vm import PYTHON, STRANGER, User, learner, node, packages, user  # noqa: F401  # fixtures

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0 and not CI, reason="needs root, to be other users; CI runs it"),
    pytest.mark.skipif(bool(builds_here()), reason=builds_here()),
]

WITHIN_S = 120
LABKIT_UP = (PYTHON, "-m", "labkit.cli", "up", "--json")
WEB: dict[str, Any] = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
        "name": "web", "image": "registry.lab/busybox:1",
        "command": ["sh", "-c", "echo started; exec httpd -f -p 8080 -h /etc/page"],
        "volumeMounts": [{"name": "page", "mountPath": "/etc/page"}],
        "readinessProbe": {"httpGet": {"path": "/index.html", "port": 8080}, "periodSeconds": 1},
    }], "volumes": [{"name": "page", "configMap": {"name": "page"}}]},
}
PAGE = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "page"}, "data": {"index.html": "blue"}}
BY_HAND = """
import labkit
node = labkit.connect("vm")
node.start_pod({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "byhand"},
    "spec": {"containers": [{"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}]}})
"""


def apply(learner: User, *objects: dict[str, Any]) -> None:  # noqa: F811
    path = learner.home / "objects.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))
    path.chmod(0o644)
    learner.labkit("kubectl", "apply", "-f", str(path))


def wait_ready(learner: User, pod: str) -> None:  # noqa: F811
    learner.labkit("kubectl", "wait", "--for=condition=Ready", f"pod/{pod}", f"--timeout={WITHIN_S}s")


def delete(learner: User, *pods: str) -> None:  # noqa: F811
    learner.labkit("kubectl", "delete", "pod", *pods, "--ignore-not-found", f"--timeout={WITHIN_S}s")


def until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def pods(learner: User) -> dict[str, Any]:  # noqa: F811
    """Name → object. Empty while the API is away."""
    said = learner.labkit("kubectl", "get", "pods", "-o", "json", code=None)
    return {pod["metadata"]["name"]: pod for pod in json.loads(said)["items"]} if said.startswith("{") else {}


def test_a_pod_lives_and_is_looked_into(learner: User, node: dict[str, Any]) -> None:  # noqa: F811
    apply(learner, PAGE, WEB)
    try:
        wait_ready(learner, "web")
        assert learner.labkit("kubectl", "logs", "web") == learner.labkit("logs", "web") == "started\n"
        assert learner.labkit("kubectl", "exec", "web", "--", "cat", "/etc/page/index.html") == "blue"
        told = json.loads(learner.labkit("ps", "--json"))["pods"]
        assert [pod["name"] for pod in told] == ["web"]
    finally:
        delete(learner, "web")
    assert json.loads(learner.labkit("ps", "--json"))["pods"] == []


def test_the_node_is_the_machine(learner: User, node: dict[str, Any]) -> None:  # noqa: F811
    said = json.loads(learner.labkit("kubectl", "get", "node", "sim-worker", "-o", "json"))["status"]
    ask = "import labkit; print(labkit.connect('vm').shell(['sh', '-c', {!r}]), end='')"
    memory = learner.python("-c", ask.format("sed -n 's/MemTotal: *\\([0-9]*\\) kB/\\1Ki/p' /proc/meminfo")).strip()
    kernel = learner.python("-c", ask.format("uname -r")).strip()
    assert said["capacity"]["memory"] == memory
    assert said["nodeInfo"]["kernelVersion"] == kernel
    assert said["nodeInfo"]["containerRuntimeVersion"] == f"containerd://{node['runtime']['version']}"
    assert len(said["nodeInfo"]["machineID"]) == 32 and said["nodeInfo"]["osImage"].startswith(("Debian", "Ubuntu"))
    assert {a["type"]: a["address"] for a in said["addresses"]} == {"InternalIP": "10.88.0.1", "Hostname": "sim-worker"}


def test_the_api_asks_a_stranger_for_its_token(learner: User, node: dict[str, Any], user: Callable[[int], User]) -> None:  # noqa: F811
    kubeconfig = learner.home / "lab/run/vm/kubeconfig"
    assert "Permission denied" in user(STRANGER).run("cat", str(kubeconfig), code=1)
    server = json.loads(kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    for headers in ({}, {"Authorization": "Bearer x"}):
        with pytest.raises(urllib.error.HTTPError) as refused:
            request = urllib.request.Request(f"{server}/api/v1/pods", headers=headers)
            urllib.request.urlopen(request, context=ssl._create_unverified_context(), timeout=30)
        assert refused.value.code == 401


def test_api_and_kubelet_come_back(learner: User, node: dict[str, Any]) -> None:  # noqa: F811
    apply(learner, PAGE, WEB)
    try:
        wait_ready(learner, "web")
        before = pods(learner)["web"]["status"]["containerStatuses"][0]["containerID"]
        os.kill(node["processes"]["kubeapi"], signal.SIGKILL)
        until(lambda: "web" in pods(learner), "the API did not come back")
        learner.python("-c", "import labkit; labkit.connect('vm').shell(['sh', '-c', 'kill -9 $(pidof python3)'])")
        until(lambda: learner.labkit("kubectl", "exec", "web", "--", "echo", "here", code=None) == "here\n", "no kubelet")
        assert pods(learner)["web"]["status"]["containerStatuses"][0]["containerID"] == before
    finally:
        delete(learner, "web")


def test_pods_of_a_machine_that_was_killed(learner: User, node: dict[str, Any]) -> None:  # noqa: F811
    """The API's are started again, as on a node that was switched off; what nobody else knew of is named."""
    once = {**WEB, "metadata": {"name": "once"}, "spec": {**WEB["spec"], "restartPolicy": "Never"}}
    once["spec"]["containers"] = [{"name": "once", "image": "registry.lab/busybox:1", "command": ["true"]}]
    apply(learner, PAGE, WEB, once)
    try:
        wait_ready(learner, "web")
        until(lambda: pods(learner)["once"]["status"]["phase"] == "Succeeded", "the Pod did not end")
        learner.python("-c", BY_HAND)
        uid = pods(learner)["web"]["metadata"]["uid"]
        os.kill(node["processes"]["qemu"], signal.SIGKILL)
        said: dict[str, Any] = {"state": "ready"}

        def ended() -> bool:
            said.update(json.loads(learner.labkit("status", "--json", code=None)))
            return said["state"] == "failed"

        until(ended, "nobody noticed")
        assert "byhand" in said["error"] and "web" not in said["error"]
        process = learner.popen(*LABKIT_UP)
        out, words = process.communicate(timeout=300)
        assert json.loads(out)["lost"] == ["byhand"] and "byhand" in words
        # Slow: its runtime may not answer yet.
        assert json.loads(learner.labkit("status", "--json", code=None))["lost"] == ["byhand"]
        wait_ready(learner, "web")
        now = pods(learner)
        assert now["web"]["metadata"]["uid"] == uid and now["once"]["status"]["phase"] == "Succeeded"
        until(lambda: [p["name"] for p in json.loads(learner.labkit("ps", "--json"))["pods"]] == ["web"], "not started again")
    finally:
        learner.labkit("up")
        delete(learner, "web", "once")
