"""What fails for a learner: three Pods to diagnose (exercises 05.1 to 05.3), and a program (07.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from labkit.course.predict import PlainSentence

if TYPE_CHECKING:
    from labkit.node.pods.cluster import Cluster

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "api": ("httpd", "-f", "-p", "8080"),
    "worker": ("sleep", "1000001"),
    "cache": ("sleep", "1000002"),
}
"""What each Pod is meant to run: `labkit.check` looks for it."""


SAYS = {"api": "FailedMount", "worker": "Failed", "cache": "FailedScheduling"}
"""The reason of the event that tells what is wrong."""
SECRET = "api-key-05"
KEY_DIRECTORY = "/etc/key"
DISK = "labkit.disk"
"""The Secret, where its files belong, and the node's label: Secret and label are missing, and nobody else uses their names."""


def break_pods(cluster: Cluster, images: Mapping[str, str]) -> PlainSentence:
    """Make the three Pods, broken, and wait until each says so; those that are there already stay as they are, so that what was
    repaired is not lost. For a Pod that is made anew, what repaired it last time is taken back first."""
    listed = cluster.kubectl("get", "pods", "-o", "name").split()
    absent = [name for name in COMMANDS if f"pod/{name}" not in listed]
    if absent:
        if cluster.ledger:  # the learner makes them, with kubectl: no label tells later whose they are
            cluster.ledger.note("object", kind="secret", name=SECRET)
            cluster.ledger.note("node label", name=DISK)
        take_back_repairs(cluster, absent)
        cluster.apply(*(manifest(name, images["busybox"]) for name in absent))
        for name in absent:
            cluster.wait_event(name, SAYS[name])
    return PlainSentence(f"{', '.join(COMMANDS)} are there.")


def take_back_repairs(cluster: Cluster, pods: list[str]) -> None:
    """Remove the Secret and the nodes' label by which these Pods were repaired: `kubectl create` puts no lesson's label on them,
    so that no end of a lesson finds them."""
    if "api" in pods:
        cluster.delete(SECRET, kind="secret")
    if "cache" in pods:
        cluster.kubectl("label", "nodes", "-l", DISK, f"{DISK}-")


def fails_at_first() -> list[str]:
    """A command that fails two to four times, as many as its first run draws, and then ends with 0 (exercise 07.1). It counts in
    /dev/shm, which the containers of a Pod share."""
    draw = "[ -s /dev/shm/most ] || tr -dc 2-4 </dev/urandom | head -c 1 >/dev/shm/most"
    return ["sh", "-c", f"{draw}; echo >>/dev/shm/runs; [ $(wc -l </dev/shm/runs) -gt $(cat /dev/shm/most) ]"]


def manifest(name: str, image: str) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "main", "image": image, "command": list(COMMANDS[name])}
    spec: dict[str, Any] = {"containers": [container], "terminationGracePeriodSeconds": 1}
    if name == "api":
        container["volumeMounts"] = [{"name": "key", "mountPath": KEY_DIRECTORY}]
        spec["volumes"] = [{"name": "key", "secret": {"secretName": SECRET}}]
    elif name == "worker":
        container["image"] = image.rpartition(":")[0] + ":1.0"
    else:
        spec["nodeSelector"] = {DISK: "fast"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
