"""Faults in what a Pod's manifest asks for: its volumes, its resources, its probe."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from labkit.course.incident.fault import (
    NEXT,
    NOT_REACHED,
    NOT_UP,
    POD,
    READY_WITHIN_S,
    Fault,
    Scene,
    fault,
    has_event,
    is_ready,
    start,
    user_pod,
)
from labkit.podspec.quantity import milli
from labkit.util import progress
from labkit.util.errors import NodeError

WHERE = "notebook 05, “Where to look”"
SETTINGS, NIGHTLY = "orders-settings", "nightly-report"


def settings(**data: str) -> dict[str, Any]:
    """The ConfigMap of the user's Pod."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": SETTINGS}, "data": data}


@fault
class VolumeKey(Fault):
    name = "volume-key"
    complaints = NOT_UP
    cause = "A volume wants a key that its ConfigMap does not have."
    evidence = (r"prices\.(conf|cfg)\b",)
    may_change = ("volumes[settings].configMap.name", "volumes[settings].configMap.items[0].key")
    hints = (
        "How many CRI calls has the kubelet made for the Pod? Which step comes before the first one?",
        "Compare what the volume lists with what `kubectl describe configmap` shows.",
    )
    taught = "notebook 05, “A volume”"
    objects = (("configmap", SETTINGS),)

    def make(self, scene: Scene) -> None:
        scene.kept["value"] = "apple=1"
        scene.apply(settings(**{"prices.cfg": scene.kept["value"]}))
        items = [{"key": "prices.conf", "path": "prices.conf"}]
        volumes = [{"name": "settings", "configMap": {"name": SETTINGS, "items": items}}]
        mounts = [{"name": "settings", "mountPath": "/etc/orders"}]
        manifest = user_pod(scene, volumeMounts=mounts, spec={"volumes": volumes})
        start(scene, manifest, until=has_event(scene, "FailedMount"), what="the mount fails")

    def look(self, scene: Scene, pod: Mapping[str, Any]) -> str:
        [source] = [each["configMap"] for each in pod["spec"]["volumes"] if each["name"] == "settings"]
        return lost(scene, source["name"], source["items"][0]["key"], "The file prices.conf")


@fault
class VariableKey(Fault):
    name = "variable-key"
    complaints = NOT_UP
    cause = "A variable of the container wants a key that its ConfigMap does not have."
    evidence = (r"\bcurr?ency\b",)
    may_change = tuple(f"containers[web].env[CURRENCY].valueFrom.configMapKeyRef.{field}" for field in ("name", "key"))
    hints = (
        "The sandbox is Ready. Which call comes after the pull of the image, and what does it need from the manifest?",
        "STATUS names a call of CRI and says that its configuration failed. Look at `env`.",
    )
    taught = "notebook 01, on what of a manifest reaches the runtime"
    objects = (("configmap", SETTINGS),)

    def make(self, scene: Scene) -> None:
        scene.kept["value"] = "EUR"
        scene.apply(settings(curency=scene.kept["value"]))
        value = {"configMapKeyRef": {"name": SETTINGS, "key": "currency"}}
        manifest = user_pod(scene, env=[{"name": "CURRENCY", "valueFrom": value}])
        start(scene, manifest, until=has_event(scene, "Failed", "currency"), what="the container is not created")

    def look(self, scene: Scene, pod: Mapping[str, Any]) -> str:
        source = pod["spec"]["containers"][0]["env"][0]["valueFrom"]["configMapKeyRef"]
        return lost(scene, source["name"], source["key"], "The variable CURRENCY")


def lost(scene: Scene, name: str, key: str, what: str) -> str:
    """What is wrong where the Pod has not the value that the user's settings had at the beginning; "" where it has."""
    if scene.data(name).get(key, "").strip() == scene.kept["value"]:
        return ""
    return f"The Pod {POD} is ready. {what} does not have the value that the user's settings had when the incident began."


@fault
class Requests(Fault):
    name = "requests"
    complaints = NOT_UP
    cause = "The Pods of the node request all of its CPU."
    evidence = (NIGHTLY, r"insufficient cpu")
    neighbours: Mapping[str, tuple[str, ...]] = {NIGHTLY: ("containers[report].resources.requests.cpu",)}
    hints = (
        "Who reports it, and had any kubelet heard of the Pod by then?",
        "`labkit.capacity(cluster.capacity(), node=cluster.node)` draws who has requested what. Which of them uses what it has"
        " requested? All of them have to run.",
    )
    taught = "notebook 06, “A node that fills up”"
    objects = (("pod", NIGHTLY),)

    def make(self, scene: Scene) -> None:
        cluster = scene.node.cluster
        [free] = [resource.free for resource in cluster.capacity() if resource.name == "cpu"]
        amount = f"{free - 20}m"
        scene.kept["values"] = [amount]
        greedy = user_pod(scene, name="report", command=["sleep", "1000000"], resources={"requests": {"cpu": amount}})
        greedy["metadata"] = {"name": NIGHTLY}
        greedy["spec"]["nodeName"] = cluster.node
        scene.neighbour(greedy)
        selector = {"kubernetes.io/hostname": cluster.node}
        manifest = user_pod(scene, resources={"requests": {"cpu": "100m"}}, spec={"nodeSelector": selector})
        start(scene, manifest, until=has_event(scene, "FailedScheduling"), what="the scheduler finds no room")

    def look(self, scene: Scene, pod: Mapping[str, Any]) -> str:
        other = scene.pod(NIGHTLY)
        if other is None or milli(other["spec"]["containers"][0].get("resources", {}).get("requests", {}).get("cpu", 0)):
            return ""
        return f"The Pod {POD} is ready. {NIGHTLY}, another user's Pod, requests no CPU at all any more: nothing is kept for it."


@fault
class MemoryLimit(Fault):
    name = "memory-limit"
    complaints = (*NOT_UP[:2], "orders starts, and is gone again, all the time. On my laptop it runs.")
    cause = "The container needs more memory than its limit."
    evidence = ("oom", r"\b137\b", "32 ?mi", r"memory\.(max|limit|events|oom)")
    may_change = tuple(f"containers[web].resources.{part}.memory" for part in ("limits", "requests"))
    hints = (
        "How did the last container end: its exit code, its reason? `kubectl describe pod` has both.",
        "128 and a signal: which one, and who sent it, where no kubelet asked for it?",
    )
    taught = "notebook 06, “Take more than the limit”"

    def make(self, scene: Scene) -> None:
        load = "sleep 1; dd if=/dev/zero of=/dev/null bs=48M count=1 2>/dev/null || exit 137; exec httpd -f -h /var/www"
        manifest = user_pod(
            scene, command=["sh", "-c", load], resources={"limits": {"memory": "32Mi"}}, readinessProbe=answers(80)
        )
        start(scene, manifest, until=has_event(scene, "BackOff"), what="the container has ended twice")


@fault
class CpuLimit(Fault):
    name = "cpu-limit"
    complaints = NOT_REACHED
    cause = "The container may use next to no CPU."
    evidence = (r"cpu\.(max|stat|cfs)", "throttl", r"\b10m\b", r"cpu limit|limit of cpu|limits\.cpu")
    may_change = tuple(f"containers[web].resources.{part}.cpu" for part in ("limits", "requests"))
    hints = (
        "READY is 0/1. What does the probe do? Do the same by `kubectl exec`, and count the seconds.",
        "The node's load says what runs, and not what may run. What does the kernel count for the container's cgroup?",
    )
    taught = "notebook 06, “The same numbers in the kernel”"
    kinds = ("containerd", "kind")  # an emulated CPU is too slow to tell the two apart

    def make(self, scene: Scene) -> None:
        count = "i=0; while [ $i -lt 250000 ]; do i=$((i+1)); done"
        probe = {"exec": {"command": ["sh", "-c", count]}, "periodSeconds": 1, "timeoutSeconds": 8, "failureThreshold": 1}
        manifest = user_pod(scene, readinessProbe=probe, resources={"limits": {"cpu": "10m"}})
        start(scene, manifest, until=has_event(scene, "Unhealthy"), what="the probe is too late")


def answers(port: int) -> dict[str, Any]:
    """A probe that asks for a connection."""
    return {"tcpSocket": {"port": port}, "periodSeconds": 1, "failureThreshold": 2}


@fault
class ProbePort(Fault):
    name = "probe"
    complaints = NOT_REACHED
    cause = "A probe asks at a port at which nothing listens."
    evidence = (r"\b8081\b",)
    may_change = ("containers[web].readinessProbe", "containers[web].ports")
    hints = (
        "Running is about processes. What does the column READY count, and who decides it?",
        "Compare the address in the event's message with what listens in the Pod: `netstat -ltn` by `kubectl exec`.",
    )
    taught = "notebook 04, “Without containerd”, on who makes which probe"

    def make(self, scene: Scene) -> None:
        manifest = user_pod(scene, readinessProbe=answers(8081))
        start(scene, manifest, until=has_event(scene, "Unhealthy"), what="the probe fails")

    def look(self, scene: Scene, pod: Mapping[str, Any]) -> str:
        """A probe is good where a program that listens nowhere does not pass it."""
        [web] = pod["spec"]["containers"]
        if not web.get("readinessProbe"):
            return f"The Pod {POD} is ready, and has no readiness probe any more: nobody asks whether it answers."
        deaf = scene.manifest()
        deaf["spec"]["containers"][0] |= {"command": ["sleep", "1000000"], "readinessProbe": web["readinessProbe"]}
        deaf["spec"]["containers"][0] |= {"ports": web["ports"]} if web.get("ports") else {}
        if scene.tried(deaf, unless=has_event(scene, "Unhealthy", pod=NEXT)):
            return f"The Pod {POD} is ready, but so would be one that listens nowhere: its probe does not ask the user's program."
        return ""


@fault
class VolumeFull(Fault):
    name = "volume-full"
    complaints = NOT_REACHED
    cause = "A volume of the Pod is full."
    evidence = (r"no space left", r"sizelimit\W+1 ?mi", r"/var/orders.*\b(full|100 ?%)", r"(full|100 ?%).*/var/orders")
    may_change = ("volumes[data].emptyDir",)
    hints = (
        "READY is 0/1. What does the probe do, and what does it answer? Do the same by `kubectl exec`.",
        "`df` in the container shows what the node's own disk does not. What is mounted there, and how large may it be?",
    )
    taught = "notebook 02, on what a container sees of the node's files"

    def make(self, scene: Scene) -> None:
        mounts = [{"name": "data", "mountPath": "/var/orders"}]
        volumes = [{"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]
        archive = {"name": "archive", "image": scene.node.images["busybox"], "volumeMounts": mounts,
                   "command": ["sh", "-c", "dd if=/dev/zero of=/var/orders/archive bs=64k count=32 || true"]}
        write = {"exec": {"command": ["sh", "-c", "echo an order >/var/orders/new"]}, "periodSeconds": 1, "timeoutSeconds": 5}
        manifest = user_pod(
            scene, volumeMounts=mounts, readinessProbe=write, spec={"initContainers": [archive], "volumes": volumes}
        )
        start(scene, manifest, until=has_event(scene, "Unhealthy"), what="the probe cannot write")


@fault
class Pids(Fault):
    name = "pids"
    complaints = NOT_REACHED
    cause = "The container may start no further process."
    evidence = (r"pids\.(max|current|events)", r"\bpids\b", "can't fork", "fork failed", "resource temporarily unavailable")
    hints = (
        "httpd forks for each request. Try to start anything in the container: what fails, and with which words?",
        "The kernel counts more than CPU and memory: list the files of the container's cgroup.",
    )
    taught = "notebook 06, “The same numbers in the kernel”"

    def make(self, scene: Scene) -> None:
        probe = {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1, "failureThreshold": 2, "timeoutSeconds": 5}
        start(scene, user_pod(scene, readinessProbe=probe), until=lambda: scene.wait_ready(), what="the Pod is ready")
        write_pids(scene, "1")
        if not progress.wait("the Pod is not ready", lambda: not is_ready(scene.pod()), READY_WITHIN_S, 0.2):
            raise NodeError("The limit of processes has no effect on this node.", "The fault is undone. Draw another seed.")


def write_pids(scene: Scene, number: str) -> None:
    """How many processes the user's container may have. The cgroup goes with the container."""
    node = scene.node
    pid = node.pod(POD).container("web").pid
    for cgroup in node.kernel.cgroups(pid):
        with contextlib.suppress(FileNotFoundError):
            cgroup.read("pids.max")
            node.shell(["sh", "-c", 'echo "$2" >"$1/pids.max"', "sh", cgroup.directory, number])
            return
    raise NodeError("This node's kernel does not count processes by cgroup.", "Draw another seed.")
