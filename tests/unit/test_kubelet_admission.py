"""Pods that the node itself rejects, in the kubelet's words."""

from __future__ import annotations

from labkit.kubelet.admission import Rejection, admit
from tests.unit.kubelet_pods import container, pod

NODE = {"cpu": "1800m", "memory": "1Gi", "pods": "3"}


def asking(**requests):
    return pod(container(resources={"requests": requests}))


def test_what_fits_is_let_in():
    assert admit(asking(cpu="1800m", memory="1Gi"), [], {}, NODE) is None


def test_more_than_is_left_is_refused():
    found = admit(asking(cpu="1"), [asking(cpu="900m")], {}, NODE)
    assert found == Rejection("OutOfcpu", "Node didn't have enough resource: cpu, requested: 1000, used: 900, capacity: 1800")
    assert admit(asking(memory="2Gi"), [], {}, NODE).reason == "OutOfmemory"
    assert admit(pod(), [pod(), pod(), pod()], {}, NODE).reason == "OutOfpods"


def test_pods_that_ended_take_nothing():
    ended = {**asking(cpu="1800m"), "status": {"phase": "Succeeded"}}
    assert admit(asking(cpu="1800m"), [ended], {}, NODE) is None


def test_another_nodes_pod_is_refused():
    found = admit(pod(nodeSelector={"disk": "ssd"}), [], {"disk": "hdd"}, NODE)
    assert found.reason == "NodeAffinity" and found.message.startswith("Predicate NodeAffinity failed: node(s) didn't match")
    assert admit(pod(nodeSelector={"disk": "ssd"}), [], {"disk": "ssd"}, NODE) is None


def test_a_port_is_given_once():
    web = pod(container(ports=[{"containerPort": 80, "hostPort": 8080}]))
    assert admit(web, [web], {}, NODE).reason == "NodePorts"
