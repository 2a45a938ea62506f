"""The small controllers of the API's process, on a store in memory: scheduler, claim binder, node watcher."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from labkit.apiserver import api_resources
from labkit.apiserver.api_errors import ApiError
from labkit.apiserver.controllers.claims import Binder
from labkit.apiserver.controllers.nodes import GRACE_S, UNREACHABLE, NodeLifecycleController
from labkit.apiserver.controllers.owner_references import DependentsCollector
from labkit.apiserver.controllers.pod_claims import EphemeralClaims, StorageProtection
from labkit.apiserver.controllers.scheduler import AGAIN_AFTER_S, Scheduler, matters
from labkit.apiserver.controllers.taints import TaintEviction
from labkit.apiserver.objects.rest import Api, Deletion
from labkit.apiserver.storage.store import Store, WatchEvent

PODS, NODES = api_resources.BY_PLURAL["pods"], api_resources.BY_PLURAL["nodes"]
CLAIMS, VOLUMES = api_resources.BY_PLURAL["persistentvolumeclaims"], api_resources.BY_PLURAL["persistentvolumes"]


@pytest.fixture
def api() -> Iterator[Api]:
    store = Store(":memory:")
    yield Api(store)
    store.close()


def make_node(api: Api, cpu: str = "2") -> None:
    status = {"allocatable": {"cpu": cpu, "memory": "4Gi", "ephemeral-storage": "10Gi", "pods": "110"}}
    api.create(NODES, "", {"metadata": {"name": "sim-worker"}})
    api.update(NODES, "", "sim-worker", {"metadata": {"name": "sim-worker"}, "status": status}, sub="status")


def make_pod(api: Api, name: str = "app", cpu: str = "100m", **spec: Any) -> None:
    container = {"name": "app", "image": "busybox", "resources": {"requests": {"cpu": cpu}}}
    api.create(PODS, "default", {"metadata": {"name": name}, "spec": {"containers": [container], **spec}})


def pod(api: Api, name: str = "app") -> Any:
    return api.get(PODS, "default", name).obj


def scheduled(api: Api, name: str = "app") -> Any:
    return next((c for c in pod(api, name)["status"].get("conditions", []) if c["type"] == "PodScheduled"), None)


def events(api: Api, reason: str = "") -> list[Any]:
    return [e.obj for _, e in api.store.list("events") if reason in ("", e.obj["reason"])]


def test_a_pod_is_bound_and_said_to_be() -> None:
    async def both(api: Api) -> None:
        scheduler = Scheduler(api)
        running = asyncio.create_task(scheduler.run())
        make_node(api)
        make_pod(api)
        for _ in range(20):
            await asyncio.sleep(0)
        running.cancel()

    store = Store(":memory:")
    api = Api(store)
    asyncio.run(both(api))
    assert pod(api)["spec"]["nodeName"] == "sim-worker" and scheduled(api)["status"] == "True"
    (event,) = events(api)
    assert event["message"] == "Successfully assigned default/app to sim-worker"
    assert event["reportingComponent"] == "default-scheduler"
    assert event["involvedObject"]["uid"] == pod(api)["metadata"]["uid"] and "count" not in event
    store.close()


def test_what_is_bound_in_one_pass_is_counted_in_the_same(api: Api) -> None:
    make_node(api, cpu="1")
    for name in ("a", "b", "c"):
        make_pod(api, name, cpu="400m")
    Scheduler(api).reconcile(0)
    assert [pod(api, n)["spec"].get("nodeName") for n in "abc"] == ["sim-worker", "sim-worker", None]
    assert "1 Insufficient cpu" in scheduled(api, "c")["message"]


def test_the_more_important_pod_goes_first(api: Api) -> None:
    make_node(api, cpu="1")
    make_pod(api, "low", cpu="800m")
    make_pod(api, "high", cpu="800m")
    entry = api.get(PODS, "default", "high")
    api.store.put("pods", {**entry.obj, "metadata": dict(entry.obj["metadata"]), "spec": {**entry.obj["spec"], "priority": 10}})
    Scheduler(api).reconcile(0)
    assert pod(api, "high")["spec"]["nodeName"] == "sim-worker" and "nodeName" not in pod(api, "low")["spec"]


def test_an_unschedulable_pod_is_told_once_and_counted_after_five_minutes(api: Api) -> None:
    make_node(api)
    make_pod(api, cpu="8")
    scheduler = Scheduler(api)
    for now in (1000.0, 1001.0, 1002.0):
        scheduler.reconcile(now)
    (event,) = events(api, "FailedScheduling")
    assert scheduled(api)["message"] == event["message"] and scheduled(api)["reason"] == "Unschedulable"
    assert "series" not in event
    scheduler.reconcile(1001.0 + AGAIN_AFTER_S)
    (event,) = events(api, "FailedScheduling")
    assert event["series"]["count"] == 2


def test_gated_pods_and_those_of_other_schedulers_are_left_alone(api: Api) -> None:
    make_node(api)
    make_pod(api, "gated", schedulingGates=[{"name": "example.com/wait"}])
    make_pod(api, "other", schedulerName="mine")
    Scheduler(api).reconcile(0)
    assert scheduled(api, "gated")["reason"] == "SchedulingGated" and not events(api)
    assert "nodeName" not in pod(api, "other")["spec"] and scheduled(api, "other") is None


def test_what_wakes_the_scheduler(api: Api) -> None:
    heard: list[WatchEvent] = []
    for resource in ("pods", "nodes"):
        api.store.subscribe(resource, lambda change: heard.append(change) if matters(change) else None)
    make_node(api)
    make_pod(api)
    heard.clear()
    for phase, wakes in (("Running", False), ("Succeeded", True)):
        api.patch(PODS, "default", "app", {"status": {"phase": phase}}, "application/merge-patch+json", sub="status")
        assert bool(heard) == wakes
    heard.clear()
    api.patch(NODES, "", "sim-worker", {"status": {"phase": "x"}}, "application/merge-patch+json", sub="status")
    assert not heard
    api.patch(NODES, "", "sim-worker", {"metadata": {"labels": {"disk": "ssd"}}}, "application/merge-patch+json")
    assert heard


def make_claim(api: Api, size: str = "1Gi", **spec: Any) -> None:
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec}
    api.create(CLAIMS, "default", {"metadata": {"name": "data"}, "spec": wanted})


def make_volume(api: Api, name: str, size: str = "2Gi", labels: dict[str, str] | None = None, **spec: Any) -> None:
    there = {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/data"}, **spec}
    api.create(VOLUMES, "", {"metadata": {"name": name, "labels": labels or {}}, "spec": there})


def claim(api: Api) -> Any:
    return api.get(CLAIMS, "default", "data").obj


def volume(api: Api, name: str) -> Any:
    return api.get(VOLUMES, "", name).obj


def test_a_claim_waits_says_why_once_and_is_bound_by_the_smallest_volume_that_suits(api: Api) -> None:
    make_claim(api)
    binder = Binder(api)
    binder.reconcile(0)
    binder.reconcile(0)
    assert claim(api)["status"]["phase"] == "Pending"
    (event,) = events(api)
    assert event["message"] == "no persistent volumes available for this claim and no storage class is set"
    make_volume(api, "small", "500Mi")
    make_volume(api, "huge", "10Gi")
    make_volume(api, "right", "2Gi")
    make_volume(api, "read-only", "1Gi", accessModes=["ReadOnlyMany"])
    make_volume(api, "classy", "1Gi", storageClassName="fast")
    binder.reconcile(0)
    assert (claim(api)["spec"]["volumeName"], claim(api)["status"]["phase"]) == ("right", "Bound")
    assert claim(api)["status"]["capacity"] == {"storage": "2Gi"}
    assert volume(api, "right")["spec"]["claimRef"]["uid"] == claim(api)["metadata"]["uid"]
    phases = {n: volume(api, n)["status"]["phase"] for n in ("right", "huge", "small")}
    assert phases == {"right": "Bound", "huge": "Available", "small": "Available"}


def test_a_volume_whose_claim_is_gone_is_released_and_given_to_nobody(api: Api) -> None:
    make_volume(api, "v")
    make_claim(api)
    binder = Binder(api)
    binder.reconcile(0)
    api.store.remove("persistentvolumeclaims", "default", "data")
    make_claim(api)
    binder.reconcile(0)
    assert volume(api, "v")["status"]["phase"] == "Released" and claim(api)["status"]["phase"] == "Pending"


def test_a_claim_whose_volume_is_gone_is_lost(api: Api) -> None:
    make_volume(api, "v")
    make_claim(api)
    binder = Binder(api)
    binder.reconcile(0)
    api.store.remove("persistentvolumes", "", "v")
    binder.reconcile(0)
    assert claim(api)["status"]["phase"] == "Lost" and events(api, "ClaimLost")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"volumeName": "v", "accessModes": ["ReadWriteMany"]}, 'Cannot bind to requested volume "v": incompatible accessMode'),
        ({"storageClassName": "fast"}, 'storageclass.storage.k8s.io "fast" not found'),
        ({"selector": {"matchLabels": {"disk": "ssd"}}}, "no persistent volumes available"),
    ],
)
def test_a_claim_that_nothing_suits(api: Api, spec: dict[str, Any], says: str) -> None:
    make_volume(api, "v")
    make_claim(api, **spec)
    Binder(api).reconcile(0)
    assert claim(api)["status"]["phase"] == "Pending" and says in events(api)[0]["message"]


def test_a_claim_with_a_selector_and_one_that_names_its_volume(api: Api) -> None:
    make_volume(api, "plain", "1Gi")
    make_volume(api, "labelled", "8Gi", labels={"disk": "ssd"})
    make_claim(api, selector={"matchLabels": {"disk": "ssd"}})
    Binder(api).reconcile(0)
    assert claim(api)["spec"]["volumeName"] == "labelled"


BETA = {"volume.beta.kubernetes.io/storage-class": "fast"}
OURS = {"claimRef": {"namespace": "default", "name": "data"}}
SSD = {"selector": {"matchLabels": {"disk": "ssd"}}}


@pytest.mark.parametrize(
    ("claimed", "there", "phase"),
    [
        ({}, {"storageClassName": "slow", **OURS}, "Bound"),  # a volume that names the claim needs neither its class nor labels
        (SSD, OURS, "Bound"),
        ({"accessModes": ["ReadWriteMany"]}, OURS, "Pending"),
        ({"volumeName": "v", **SSD}, {}, "Bound"),
        ({"volumeName": "v"}, {"storageClassName": "slow"}, "Pending"),
        ({"volumeName": "v"}, {"volumeAttributesClassName": "gold"}, "Pending"),
        ({}, {"volumeAttributesClassName": "gold"}, "Pending"),
        ({"annotations": BETA}, {"storageClassName": "fast"}, "Bound"),
        ({"annotations": BETA}, {}, "Pending"),
    ],
)
def test_what_a_volume_and_a_claim_have_to_have_in_common(api: Api, claimed: Any, there: Any, phase: str) -> None:
    """As FindMatchingVolume and checkVolumeSatisfyClaim see it, each of them for itself."""
    claimed = dict(claimed)
    annotations = claimed.pop("annotations", {})
    make_volume(api, "v", **there)
    make_claim(api, **claimed)
    found = claim(api)
    api.store.put("persistentvolumeclaims", {**found, "metadata": {**found["metadata"], "annotations": annotations}})
    Binder(api).reconcile(0)
    assert claim(api)["status"]["phase"] == phase


def test_a_kill_between_the_two_halves_of_a_binding_is_mended(api: Api) -> None:
    make_volume(api, "v")
    make_claim(api)
    meta = claim(api)["metadata"]
    there = volume(api, "v")
    spec = {**there["spec"], "claimRef": {"namespace": "default", "name": "data", "uid": meta["uid"]}}
    api.store.put("persistentvolumes", {**there, "metadata": dict(there["metadata"]), "spec": spec})
    Binder(api).reconcile(0)
    assert claim(api)["spec"]["volumeName"] == "v"


def test_a_node_whose_kubelet_went_silent_turns_unknown_and_comes_back(api: Api) -> None:
    make_node(api)
    began = "2026-11-23T21:14:00Z"
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": began, "lastTransitionTime": began}
    patch = "application/merge-patch+json"
    api.patch(NODES, "", "sim-worker", {"status": {"conditions": [ready]}}, patch, sub="status")
    make_pod(api, nodeName="sim-worker")
    api.patch(PODS, "default", "app", {"status": {"conditions": [ready]}}, patch, sub="status")
    watcher = NodeLifecycleController(api)
    for second in range(0, int(GRACE_S), 5):
        watcher.reconcile(second)
    assert conditions(api)["Ready"]["status"] == "True"
    watcher.reconcile(GRACE_S)
    watcher.reconcile(GRACE_S + 5)
    said = conditions(api)
    assert {c["status"] for c in said.values()} == {"Unknown"} and len(said) == 4
    assert (said["Ready"]["reason"], said["Ready"]["message"]) == ("NodeStatusUnknown", "Kubelet stopped posting node status.")
    assert {t["effect"] for t in api.get(NODES, "", "sim-worker").obj["spec"]["taints"] if t["key"] == UNREACHABLE} == {
        "NoSchedule", "NoExecute",
    }
    assert next(c for c in pod(api)["status"]["conditions"] if c["type"] == "Ready")["status"] == "False"
    assert {e["reason"] for e in events(api)} == {"NodeNotReady"} and len(events(api)) == 2
    later = {**ready, "lastHeartbeatTime": "2026-11-23T21:30:00Z"}
    api.patch(NODES, "", "sim-worker", {"status": {"conditions": [later]}}, patch, sub="status")
    watcher.reconcile(GRACE_S + 10)
    assert "taints" not in api.get(NODES, "", "sim-worker").obj["spec"]


def test_the_time_that_the_controller_itself_slept_counts_for_no_kubelet(api: Api) -> None:
    make_node(api)
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-11-23T21:14:00Z"}
    api.patch(NODES, "", "sim-worker", {"status": {"conditions": [ready]}}, "application/merge-patch+json", sub="status")
    watcher = NodeLifecycleController(api)
    for second in (0, 5, 10, 300, 305, 345):  # it was stopped, or its machine was, for 290 s, then for 40 s
        watcher.reconcile(second)
        assert conditions(api)["Ready"]["status"] == "True", second
    for second in range(350, 400, 5):
        watcher.reconcile(second)
    assert conditions(api)["Ready"]["status"] == "Unknown"


def conditions(api: Api) -> dict[str, Any]:
    return {c["type"]: c for c in api.get(NODES, "", "sim-worker").obj["status"]["conditions"]}


def test_a_no_execute_taint_evicts_what_does_not_tolerate_it(api: Api) -> None:
    make_node(api)
    some = {"key": "k", "operator": "Exists", "effect": "NoExecute"}
    make_pod(api, "goes")
    make_pod(api, "stays", tolerations=[some])
    make_pod(api, "stays-30s", tolerations=[some | {"tolerationSeconds": 30}])
    Scheduler(api).reconcile(0)
    eviction = TaintEviction(api)
    assert eviction.reconcile(0.0) == float("inf")
    taint(api, {"key": "k", "effect": "NoSchedule"})
    assert eviction.reconcile(0.0) == float("inf")
    taint(api, {"key": "k", "effect": "NoExecute"})
    assert eviction.reconcile(1.0) == 30
    assert "deletionTimestamp" in pod(api, "goes")["metadata"]
    condition = next(c for c in pod(api, "goes")["status"]["conditions"] if c["type"] == "DisruptionTarget")
    assert (condition["reason"], condition["message"]) == (
        "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")
    assert [entry.obj["message"] for _, entry in api.store.list("events") if entry.obj["reason"] == "TaintManagerEviction"] == [
        "Marking for deletion Pod default/goes"
    ]
    taint(api)
    eviction.reconcile(20.0)
    taint(api, {"key": "k", "effect": "NoExecute"})
    assert eviction.reconcile(40.0) == 30  # the time begins anew with the taint
    eviction.reconcile(70.0)
    assert "deletionTimestamp" in pod(api, "stays-30s")["metadata"] and "deletionTimestamp" not in pod(api, "stays")["metadata"]


def test_a_kubelet_that_is_silent_evicts_nobody(api: Api) -> None:
    make_node(api)
    make_pod(api)
    Scheduler(api).reconcile(0)
    taint(api, {"key": UNREACHABLE, "effect": "NoExecute"})
    assert TaintEviction(api).reconcile(1000.0) == float("inf") and "deletionTimestamp" not in pod(api)["metadata"]


def test_a_pod_of_a_runtime_class_that_is_not_there_is_refused(api: Api) -> None:
    with pytest.raises(ApiError, match='pods "app" is forbidden: pod rejected: RuntimeClass "gvisor" not found'):
        make_pod(api, runtimeClassName="gvisor")


def taint(api: Api, *taints: dict[str, str]) -> None:
    node = api.get(NODES, "", "sim-worker").obj
    api.update(NODES, "", "sim-worker", {"metadata": {"name": "sim-worker"}, "spec": {**node["spec"], "taints": list(taints)}})


def settle(controller: DependentsCollector) -> None:
    """Reconcile as often as changes would wake it."""
    for _ in range(5):
        controller.reconcile(0)


def owned_by(api: Api, *owners: str, name: str = "child", blocks: bool = False) -> None:
    references = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": config(api, owner)["metadata"]["uid"]} for owner in owners
    ]
    for reference in references:
        reference["blockOwnerDeletion"] = blocks
    api.create(MAPS, "default", {"metadata": {"name": name, "ownerReferences": references}})


def config(api: Api, name: str) -> Any:
    return api.get(MAPS, "default", name).obj


def left(api: Api) -> list[str]:
    return [name for (_, name), _ in api.store.list("configmaps")]


MAPS = api_resources.BY_PLURAL["configmaps"]


def test_an_object_goes_with_the_last_of_its_owners(api: Api) -> None:
    collector = DependentsCollector(api)
    for name in ("a", "b"):
        api.create(MAPS, "default", {"metadata": {"name": name}})
    owned_by(api, "a", "b")
    settle(collector)
    api.delete(MAPS, "default", "a")
    settle(collector)
    assert [owner["name"] for owner in config(api, "child")["metadata"]["ownerReferences"]] == ["b"]
    api.delete(MAPS, "default", "b")
    settle(collector)
    assert left(api) == []


def test_an_owner_of_another_uid_namespace_or_kind_counts_as_gone_and_one_that_nobody_knows_does_not(api: Api) -> None:
    collector = DependentsCollector(api)
    api.create(MAPS, "kube-system", {"metadata": {"name": "far"}})
    far = api.get(MAPS, "kube-system", "far").obj["metadata"]["uid"]
    for name, kind, version, uid in (
        ("far-child", "ConfigMap", "v1", far), ("old-child", "ConfigMap", "v1", "0"), ("unknown", "ReplicaSet", "apps/v1", "1"),
    ):
        reference = {"apiVersion": version, "kind": kind, "name": "far", "uid": uid}
        api.create(MAPS, "default", {"metadata": {"name": name, "ownerReferences": [reference]}})
    settle(collector)
    assert left(api) == ["unknown", "far"]
    (event,) = events(api, "OwnerRefInvalidNamespace")
    assert event["message"] == (
        f'ownerRef [v1/ConfigMap, namespace: default, name: far, uid: {far}] does not exist in namespace "default"'
    )


def test_a_deletion_in_the_foreground_waits_for_the_dependents_that_block_it(api: Api) -> None:
    collector = DependentsCollector(api)
    api.create(MAPS, "default", {"metadata": {"name": "a"}})
    owned_by(api, "a", blocks=True)
    api.patch(MAPS, "default", "child", {"metadata": {"finalizers": ["lab/held"]}}, "application/merge-patch+json")
    api.delete(MAPS, "default", "a", Deletion(propagation="Foreground"))
    settle(collector)
    assert config(api, "a")["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert "deletionTimestamp" in config(api, "child")["metadata"]
    api.patch(MAPS, "default", "child", {"metadata": {"finalizers": None}}, "application/merge-patch+json")
    settle(collector)
    assert left(api) == []


def test_orphans_stay_and_forget_their_owner(api: Api) -> None:
    collector = DependentsCollector(api)
    api.create(MAPS, "default", {"metadata": {"name": "a"}})
    owned_by(api, "a")
    api.delete(MAPS, "default", "a", Deletion(propagation="Orphan"))
    settle(collector)
    assert left(api) == ["child"] and "ownerReferences" not in config(api, "child")["metadata"]


def test_changes_that_concern_no_owner_do_not_wake_the_collector(api: Api) -> None:
    collector, woken = DependentsCollector(api), []
    api.store.subscribe("configmaps", lambda change: woken.append(collector.matters(change)))
    api.create(MAPS, "default", {"metadata": {"name": "a"}})
    owned_by(api, "a")
    settle(collector)
    api.delete(MAPS, "default", "a")
    assert woken == [False, True, True]


CLAIM_SPEC = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}


def test_a_claim_that_a_pod_uses_stays_until_the_pod_is_gone_and_its_volume_with_it(api: Api) -> None:
    make_volume(api, "pv")
    api.create(CLAIMS, "default", {"metadata": {"name": "data"}, "spec": CLAIM_SPEC})
    Binder(api).reconcile(0)
    make_node(api)
    make_pod(api, nodeName="sim-worker", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}])
    assert api.get(CLAIMS, "default", "data").obj["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    api.delete(CLAIMS, "default", "data")
    api.delete(VOLUMES, "", "pv")
    StorageProtection(api).reconcile(0)
    assert "deletionTimestamp" in api.get(CLAIMS, "default", "data").obj["metadata"]
    assert api.get(VOLUMES, "", "pv").obj["metadata"]["finalizers"] == ["kubernetes.io/pv-protection"]
    api.delete(PODS, "default", "app", Deletion(grace=0))
    StorageProtection(api).reconcile(0)
    assert not api.store.list("persistentvolumeclaims")
    Binder(api).reconcile(0)
    StorageProtection(api).reconcile(0)
    assert not api.store.list("persistentvolumes")


@pytest.mark.parametrize(
    ("policy", "source", "phase", "words"),
    [
        ("Retain", {}, "Released", ""),
        ("Delete", {}, "Failed", "host_path deleter only supports /tmp/.+ but received provided /data"),
        ("Delete", {"hostPath": None, "nfs": {"server": "s", "path": "/"}}, "Failed",
         'error getting deleter volume plugin for volume "pv": no deletable volume plugin matched'),
        ("Recycle", {"hostPath": None, "nfs": {"server": "s", "path": "/"}}, "Failed", "no recyclable volume plugin matched"),
    ],
)
def test_what_becomes_of_a_volume_whose_claim_is_gone(api: Api, policy: str, source: Any, phase: str, words: str) -> None:
    make_volume(api, "pv", persistentVolumeReclaimPolicy=policy, **source)
    api.create(CLAIMS, "default", {"metadata": {"name": "data"}, "spec": CLAIM_SPEC})
    binder = Binder(api)
    binder.reconcile(0)
    api.delete(CLAIMS, "default", "data")
    StorageProtection(api).reconcile(0)
    binder.reconcile(0)
    binder.reconcile(0)
    status = api.get(VOLUMES, "", "pv").obj["status"]
    assert (status["phase"], status.get("message", "")) == (phase, words)
    assert [event["message"] for event in events(api, f"VolumeFailed{policy}")] == [words] * bool(words)


def test_an_ephemeral_volume_gets_a_claim_that_goes_with_its_pod(api: Api) -> None:
    controller, collector = EphemeralClaims(api), DependentsCollector(api)
    template = {"metadata": {"labels": {"a": "b"}}, "spec": CLAIM_SPEC}
    make_pod(api, volumes=[{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}])
    controller.reconcile(0)
    controller.reconcile(0)
    claim = api.get(CLAIMS, "default", "app-scratch").obj
    (owner,) = claim["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Pod", pod(api)["metadata"]["uid"], True)
    assert claim["metadata"]["labels"] == {"a": "b"} and claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    settle(collector)
    api.delete(PODS, "default", "app")
    settle(collector)
    StorageProtection(api).reconcile(0)
    assert not api.store.list("persistentvolumeclaims")
