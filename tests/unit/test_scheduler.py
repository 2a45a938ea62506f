"""The scheduler's decision and its words, without an API: against recordings of kube-scheduler 1.36 where there are some."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.apiserver.controllers.filters import world
from labkit.apiserver.controllers.placement import Assigned, Unschedulable, place
from labkit.apiserver.controllers.scheduler import waits
from labkit.podspec.requests import pod_requests

HELPLESS = "no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
HOPELESS = "no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
GIB = 2**30


def node(name: str = "sim-worker", *, labels: dict[str, str] | None = None, taints: list[dict[str, str]] | None = None,
         unschedulable: bool = False, **allocatable: str) -> dict[str, Any]:
    room = {"cpu": "1800m", "memory": "4Gi", "ephemeral-storage": "10Gi", "pods": "110", **allocatable}
    metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}}
    spec = {"taints": taints or [], "unschedulable": unschedulable}
    return {"metadata": metadata, "spec": spec, "status": {"allocatable": room}}


def pod(name: str = "app", *, on: str = "", labels: dict[str, str] | None = None, phase: str = "Pending", ports: Any = None,
        init: Any = None, resources: Any = None, **spec: Any) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "app", "image": "busybox", "resources": resources or {}, "ports": ports or []}
    return {
        "metadata": {"name": name, "namespace": "default", "labels": labels or {}},
        "spec": {"containers": [container], "initContainers": init or [], **({"nodeName": on} if on else {}), **spec},
        "status": {"phase": phase},
    }


def asking(**requests: str) -> dict[str, Any]:
    return {"requests": requests}


def words(new: dict[str, Any], nodes: list[dict[str, Any]], pods: Any = (), **more: Any) -> str:
    decision = place(new, world(nodes, pods, **more))
    assert isinstance(decision, Unschedulable)
    return decision.message


def test_a_pod_that_fits_is_assigned() -> None:
    assert place(pod(resources=asking(cpu="1", memory="1Gi")), world([node()], [])) == Assigned("sim-worker")


@pytest.mark.parametrize(
    ("requests", "reasons"),
    [
        ({"cpu": "8"}, "1 Insufficient cpu"),
        ({"memory": "100Gi"}, "1 Insufficient memory"),
        ({"cpu": "8", "memory": "100Gi"}, "1 Insufficient cpu, 1 Insufficient memory"),
        ({"ephemeral-storage": "1Ti"}, "1 Insufficient ephemeral-storage"),
        ({"example.com/gpu": "1"}, "1 Insufficient example.com/gpu"),
    ],
)
def test_more_than_the_node_ever_has_cannot_be_helped(requests: dict[str, str], reasons: str) -> None:
    assert words(pod(resources=asking(**requests)), [node()]) == f"0/1 nodes are available: {reasons}. {HELPLESS}"


def test_more_than_is_left_could_be_helped_if_there_were_victims() -> None:
    there = [pod("other", on="sim-worker", resources=asking(cpu="1"))]
    assert words(pod(resources=asking(cpu="1")), [node()], there) == f"0/1 nodes are available: 1 Insufficient cpu. {HOPELESS}"


def test_the_last_millicore_can_be_had() -> None:
    there = [pod("other", on="sim-worker", resources=asking(cpu="1"))]
    assert place(pod(resources=asking(cpu="800m")), world([node()], there)) == Assigned("sim-worker")
    assert "Insufficient cpu" in words(pod(resources=asking(cpu="801m")), [node()], there)


def test_pods_that_ended_take_nothing() -> None:
    there = [pod("done", on="sim-worker", phase="Succeeded", resources=asking(cpu="1800m"))]
    assert place(pod(resources=asking(cpu="1")), world([node()], there)) == Assigned("sim-worker")


def test_pods_are_counted_too() -> None:
    there = [pod(f"p{n}", on="sim-worker") for n in range(3)]
    assert words(pod(), [node(pods="3")], there) == f"0/1 nodes are available: 1 Too many pods. {HOPELESS}"


def test_a_limit_stands_for_a_request_that_is_missing() -> None:
    assert pod_requests(pod(resources={"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"memory": "32Mi"}})) == {
        "cpu": 500, "memory": 32 * 2**20,
    }


def test_init_containers_count_by_their_peak_and_sidecars_by_their_sum() -> None:
    init = [
        {"name": "side", "restartPolicy": "Always", "resources": asking(cpu="100m")},
        {"name": "big", "resources": asking(cpu="1", memory="1Gi")},
    ]
    assert pod_requests(pod(init=init, resources=asking(cpu="300m"))) == {"cpu": 1100, "memory": GIB}
    assert pod_requests(pod(init=init, resources=asking(cpu="1500m"))) == {"cpu": 1600, "memory": GIB}


def test_what_the_pod_itself_requests_replaces_the_sum_and_overhead_comes_on_top() -> None:
    asked = pod(resources=asking(cpu="100m", memory="1Gi"))
    asked["spec"] |= {"resources": asking(cpu="1"), "overhead": {"cpu": "50m"}}
    assert pod_requests(asked) == {"cpu": 1050, "memory": GIB}


def test_a_node_selector_that_no_node_has() -> None:
    assert words(pod(nodeSelector={"disk": "ssd"}), [node()]) == (
        f"0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. {HELPLESS}"
    )
    assert place(pod(nodeSelector={"disk": "ssd"}), world([node(labels={"disk": "ssd"})], [])) == Assigned("sim-worker")


@pytest.mark.parametrize(
    ("operator", "values", "there", "fits"),
    [
        ("In", ["a", "b"], "b", True), ("In", ["a"], None, False), ("NotIn", ["a"], "a", False), ("NotIn", ["a"], None, True),
        ("Exists", [], "", True), ("Exists", [], None, False), ("DoesNotExist", [], None, True), ("DoesNotExist", [], "a", False),
        ("Gt", ["4"], "5", True), ("Gt", ["5"], "5", False), ("Gt", ["4"], "many", False), ("Lt", ["4"], "3", True),
    ],
)
def test_node_affinity(operator: str, values: list[str], there: str | None, fits: bool) -> None:
    rule = {"key": "size", "operator": operator, "values": values}
    affinity = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [rule]}]}}
    labelled = node(labels={} if there is None else {"size": there})
    decision = place(pod(affinity={"nodeAffinity": affinity}), world([labelled], []))
    assert isinstance(decision, Assigned) == fits


def test_affinity_to_another_nodes_name() -> None:
    rule = {"key": "metadata.name", "operator": "In", "values": ["elsewhere"]}
    affinity = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": [rule]}]}}
    assert words(pod(affinity={"nodeAffinity": affinity}), [node()]) == (
        f"0/1 nodes are available: 1 node(s) didn't satisfy plugin(s) [NodeAffinity]. {HELPLESS}"
    )


def test_taints_and_tolerations() -> None:
    tainted = node(taints=[{"key": "only", "value": "db", "effect": "NoSchedule"}])
    assert words(pod(), [tainted]) == f"0/1 nodes are available: 1 node(s) had untolerated taint(s). {HELPLESS}"
    for toleration in ({"key": "only", "value": "db"}, {"key": "only", "operator": "Exists"}, {"operator": "Exists"}):
        assert place(pod(tolerations=[toleration]), world([tainted], [])) == Assigned("sim-worker")
    for other in ({"key": "only", "value": "web"}, {"key": "only", "value": "db", "effect": "NoExecute"}):
        assert "untolerated" in words(pod(tolerations=[other]), [tainted])
    assert place(pod(), world([node(taints=[{"key": "only", "effect": "PreferNoSchedule"}])], [])) == Assigned("sim-worker")


def test_a_cordoned_node() -> None:
    assert words(pod(), [node(unschedulable=True)]) == f"0/1 nodes are available: 1 node(s) were unschedulable. {HELPLESS}"


def test_host_ports_clash_by_address_protocol_and_number() -> None:
    def with_port(name: str, **port: Any) -> dict[str, Any]:
        return pod(name, on="sim-worker", ports=[{"containerPort": 80, **port}])

    there = [with_port("other", hostPort=8080, hostIP="127.0.0.1")]
    assert words(with_port("a", hostPort=8080), [node()], there) == (
        f"0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. {HOPELESS}"
    )
    for free in ({"hostPort": 8081}, {"hostPort": 8080, "protocol": "UDP"}, {"hostPort": 8080, "hostIP": "10.0.0.1"}, {}):
        assert place(with_port("a", **free), world([node()], there)) == Assigned("sim-worker")


def claiming(**spec: Any) -> dict[str, Any]:
    return pod(volumes=[{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}], **spec)


def claim(phase: str = "Pending", volume: str = "", **spec: Any) -> dict[str, Any]:
    named = {"volumeName": volume} if volume else {}
    return {"metadata": {"name": "data", "namespace": "default"}, "spec": {**named, **spec}, "status": {"phase": phase}}


def test_claims_that_are_absent_unbound_or_lost_stop_the_pod_before_any_node_is_looked_at() -> None:
    assert words(claiming(), [node()]) == '0/1 nodes are available: persistentvolumeclaim "data" not found. not found'
    assert words(claiming(), [node()], claims=[claim()]) == (
        "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"
    )
    assert words(claiming(), [node()], claims=[claim("Lost", "gone")]) == (
        '0/1 nodes are available: persistentvolumeclaim "data" bound to non-existent persistentvolume "gone". not found'
    )


def test_the_claim_of_an_ephemeral_volume_is_waited_for() -> None:
    assert words(pod(volumes=[{"name": "d", "ephemeral": {"volumeClaimTemplate": {}}}]), [node()]) == (
        '0/1 nodes are available: waiting for ephemeral volume controller to create the persistentvolumeclaim "app-d". not found'
    )


def test_a_bound_claim_goes_where_its_volume_is() -> None:
    volume: dict[str, Any] = {"metadata": {"name": "v"}, "spec": {}}
    known = {"claims": [claim("Bound", "v")], "volumes": [volume]}
    assert place(claiming(), world([node()], [], **known)) == Assigned("sim-worker")
    rule = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["elsewhere"]}
    volume["spec"]["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [rule]}]}}
    assert words(claiming(), [node()], **known) == (
        f"0/1 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity. {HELPLESS}"
    )


def test_no_node_at_all() -> None:
    assert words(pod(), []) == "no nodes available to schedule pods"


def test_reasons_are_counted_over_the_nodes() -> None:
    nodes = [node("a"), node("b"), node("c", taints=[{"key": "k", "effect": "NoSchedule"}])]
    there = [pod("other", on="a", resources=asking(cpu="1"))]
    new = pod(resources=asking(cpu="1"), preemptionPolicy="Never", nodeSelector={"kubernetes.io/hostname": "a"})
    assert words(new, nodes, there) == (
        "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match Pod's node affinity/selector, "
        "1 node(s) had untolerated taint(s). no new claims to deallocate, preemption: not eligible due to preemptionPolicy=Never."
    )


def test_the_emptier_node_is_taken() -> None:
    there = [pod("other", on="a", resources=asking(cpu="500m"))]
    assert place(pod(resources=asking(cpu="100m")), world([node("a"), node("b")], there)) == Assigned("b")


def test_pods_that_want_to_be_apart_or_together() -> None:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}

    def wants(kind: str) -> dict[str, Any]:
        return pod("new", labels={"tier": "front"}, affinity={kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}})

    web = pod("web", on="sim-worker", labels={"app": "web"})
    assert place(wants("podAffinity"), world([node()], [web])) == Assigned("sim-worker")
    assert "1 node(s) didn't match pod affinity rules" in words(wants("podAffinity"), [node()])
    assert place(wants("podAntiAffinity"), world([node()], [])) == Assigned("sim-worker")
    assert "1 node(s) didn't match pod anti-affinity rules" in words(wants("podAntiAffinity"), [node()], [web])


def test_topology_spread_needs_its_label_and_keeps_its_skew() -> None:
    rule = {"topologyKey": "zone", "maxSkew": 1, "labelSelector": {"matchLabels": {"app": "web"}}}
    new = pod(labels={"app": "web"}, topologySpreadConstraints=[rule])
    assert "pod topology spread constraints (missing required label)" in words(new, [node()])
    zones = [node("a", labels={"zone": "1"}), node("b", labels={"zone": "2"}, cpu="0")]
    assert place(new, world(zones, [])) in (Assigned("a"), Assigned("b"))
    there = [pod("one", on="a", labels={"app": "web"})]
    assert place(new, world(zones, there)) == Assigned("b")


def test_topology_spread_counts_the_nodes_and_pods_that_its_policies_name() -> None:
    rule = {"maxSkew": 1, "topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "x"}}}
    taint = {"key": "k", "effect": "NoSchedule"}
    nodes = [node("a", labels={"zone": "1"}), node("b", labels={"zone": "2"}, taints=[taint])]
    running = [pod("old", on="a", labels={"app": "x", "rev": "1"})]

    def new(**more: Any) -> dict[str, Any]:
        return pod("new", labels={"app": "x", "rev": "2"}, topologySpreadConstraints=[{**rule, **more}])

    assert "node(s) didn't match pod topology spread constraints" in words(new(), nodes, running)
    assert place(new(nodeTaintsPolicy="Honor"), world(nodes, running)) == Assigned("a")
    assert place(new(matchLabelKeys=["rev"]), world(nodes, running)) == Assigned("a")
    elsewhere = new(nodeAffinityPolicy="Ignore")
    elsewhere["spec"]["nodeSelector"] = {"zone": "1"}
    assert "topology spread" in words(elsewhere, nodes, running)


def test_affinity_by_the_pods_own_labels() -> None:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}, "matchLabelKeys": ["rev"]}
    apart = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    new, other = pod("new", labels={"rev": "2"}, affinity=apart), pod("old", on="sim-worker", labels={"rev": "1"})
    assert place(new, world([node()], [other])) == Assigned("sim-worker")
    assert "pod anti-affinity rules" in words(new, [node()], [pod("old", on="sim-worker", labels={"rev": "2"})])
    term["mismatchLabelKeys"] = term.pop("matchLabelKeys")
    assert "pod anti-affinity rules" in words(new, [node()], [other])


def test_a_pod_with_resource_claims_waits_outside_the_queue() -> None:
    assert waits(pod()) and not waits(pod(resourceClaims=[{"name": "gpu", "resourceClaimName": "absent"}]))
