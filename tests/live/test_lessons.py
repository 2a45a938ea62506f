"""A lesson left half-way, and one done twice: `labkit.connect` and the exercises begin again from what they find."""

from __future__ import annotations

import labkit
from labkit.course.incident.broken import DISK, SECRET
from labkit.node import Node


def test_a_network_that_a_lesson_left_broken_is_repaired_before_its_pods_are_removed(node: Node) -> None:
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "left"},
                "spec": {"containers": [{"name": "app", "image": node.images["busybox"], "command": ["sleep", "1000000"]}],
                         "terminationGracePeriodSeconds": 1}}
    node.cluster.apply(manifest)
    node.cluster.wait_status("left", "Running")
    try:
        node.cni.name_no_such_plugin()
        again = labkit.connect("containerd", lesson=node.lesson)
        assert again.cluster.remove_leftovers() == []  # the first use of `cluster` has removed it
        assert "had not been changed" in node.cni.repair()
        again.close()
    finally:
        node.cni.repair()


def test_the_pods_of_05_are_broken_again_whatever_repaired_them_last_time(node: Node) -> None:
    cluster = node.cluster
    labkit.break_pods(cluster, node.images)
    cluster.kubectl("create", "secret", "generic", SECRET, "--from-literal=key=1")  # carries no lesson's label
    cluster.kubectl("label", "node", cluster.node, f"{DISK}=fast")
    for pod, exercise in (("api", "05.1"), ("cache", "05.3")):
        cluster.wait_status(pod, "Running", timeout=150)
        assert labkit.check(exercise, node).done
    cluster.remove_leftovers()

    labkit.break_pods(cluster, node.images)

    assert not any(labkit.check(f"05.{number}", node).done for number in (1, 2, 3))


def test_an_optional_secret_that_is_not_there_is_no_key(node: Node) -> None:
    cluster = node.cluster
    labkit.break_pods(cluster, node.images)
    pod = {"name": "main", "image": node.images["busybox"], "command": ["httpd", "-f", "-p", "8080"]}
    mounted = {**pod, "volumeMounts": [{"name": "key", "mountPath": "/etc/key"}]}
    optional = [{"name": "key", "secret": {"secretName": SECRET, "optional": True}}]
    for container, volumes, said in ((pod, [], "no longer mounts"), (mounted, optional, "without its key")):
        cluster.delete("api")
        cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "api"},
                       "spec": {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 1}})
        cluster.wait_status("api", "Running")

        assert said in labkit.check("05.1", node).says
        assert not labkit.check("05.1", node).done


def test_who_asks_for_more_than_is_free_is_told_how_much_that_is(node: Node) -> None:
    cluster = node.cluster
    [free] = [r.free for r in cluster.capacity() if r.name == "cpu"]
    limits = {"cpu": f"{free + 1}m", "memory": "16Mi"}
    container = {"name": "app", "image": node.images["busybox"], "command": ["sleep", "1000000"], "resources": {"limits": limits}}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "exact"}, "spec": {"containers": [container]}})
    cluster.wait_event("exact", "FailedScheduling")

    assert f"requests {free + 1}m of CPU, and {free}m are free" in labkit.check("06.1", node).says
