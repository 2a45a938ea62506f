"""What the verbs do to objects, as kube-apiserver does it."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from labkit.apiserver.api_errors import ApiError, not_served
from labkit.apiserver.api_resources import BY_PLURAL
from labkit.apiserver.controllers.namespaces import NamespaceController
from labkit.apiserver.objects import patch
from labkit.apiserver.objects.rest import Api, Deletion, Options, copied
from labkit.apiserver.requests import paths
from labkit.apiserver.storage import listing
from labkit.apiserver.storage.store import Store

PODS, NODES, NAMESPACES = BY_PLURAL["pods"], BY_PLURAL["nodes"], BY_PLURAL["namespaces"]
CONFIG_MAPS, SECRETS, ACCOUNTS = BY_PLURAL["configmaps"], BY_PLURAL["secrets"], BY_PLURAL["serviceaccounts"]
Object = dict[str, Any]


@pytest.fixture
def api(tmp_path: Path) -> Api:
    api = Api(Store(tmp_path / "objects.sqlite"))
    api.create(NODES, "", {"metadata": {"name": "sim-worker"}})
    return api


def pod(name: str = "p", **spec: Any) -> Object:
    containers = [{"name": "app", "image": "registry.lab/busybox:1"}]
    return {"metadata": {"name": name}, "spec": {"containers": containers, **spec}}


def refused(code: int, words: str = "") -> Any:
    """Expect an ApiError of that code whose message has those words."""

    class Expected:
        def __enter__(self) -> None:
            return None

        def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
            assert isinstance(error, ApiError), f"no refusal but {error!r}"
            assert (error.code, words in error.message) == (code, True), error.message
            return True

    return Expected()


def test_a_new_pod_has_what_the_api_gives_it(api: Api) -> None:
    made = api.create(PODS, "default", pod()).obj
    meta, spec = made["metadata"], made["spec"]
    assert meta["generation"] == 1 and meta["uid"] and meta["creationTimestamp"] and meta["resourceVersion"]
    assert (spec["serviceAccountName"], spec["priority"], spec["preemptionPolicy"]) == ("default", 0, "PreemptLowerPriority")
    assert [(t["key"], t["tolerationSeconds"]) for t in spec["tolerations"]] == [
        ("node.kubernetes.io/not-ready", 300), ("node.kubernetes.io/unreachable", 300),
    ]
    assert made["status"]["phase"] == "Pending"
    assert "volumes" not in spec


def test_names_are_generated_and_needed(api: Api) -> None:
    made = [api.create(CONFIG_MAPS, "default", {"metadata": {"generateName": "g-"}}).obj["metadata"]["name"] for _ in range(2)]
    assert made[0] != made[1] and all(name.startswith("g-") and len(name) == 7 for name in made)
    with refused(422, "name or generateName is required"):
        api.create(CONFIG_MAPS, "default", {"metadata": {}})


def test_an_object_of_the_same_name_is_a_conflict(api: Api) -> None:
    api.create(CONFIG_MAPS, "default", {"metadata": {"name": "a"}})
    with refused(409, 'configmaps "a" already exists'):
        api.create(CONFIG_MAPS, "default", {"metadata": {"name": "a"}})


@pytest.mark.parametrize(
    ("obj", "words"),
    [
        ({"metadata": {"name": "a", "namespace": "other"}}, "does not match the namespace sent on the request"),
        ({"kind": "Secret", "metadata": {"name": "a"}}, "converting (v1.Secret) to (core.ConfigMap): unknown conversion"),
        ({"apiVersion": "v2", "metadata": {"name": "a"}}, 'no kind "ConfigMap" is registered for version "v2"'),
        ({"metadata": {"name": "a", "resourceVersion": "1"}}, "resourceVersion should not be set"),
        ({"metadata": []}, "metadata must be an object"),
        ({"metadata": {"name": "a"}, "data": []}, "cannot unmarshal array"),
    ],
)
def test_objects_that_do_not_belong_there(api: Api, obj: Object, words: str) -> None:
    with refused(400, words):
        api.create(CONFIG_MAPS, "default", obj)


def test_unknown_fields_are_refused_told_or_passed_over(api: Api) -> None:
    obj = {"metadata": {"name": "a"}, "dataa": {}}
    with refused(400, 'strict decoding error: unknown field "dataa"'):
        api.create(CONFIG_MAPS, "default", dict(obj), Options(validation="Strict"))
    told = Options(validation="Warn")
    assert "dataa" not in api.create(CONFIG_MAPS, "default", dict(obj), told).obj
    assert told.warnings == ['unknown field "dataa"']


def test_dry_run_keeps_nothing(api: Api) -> None:
    before = api.store.rv
    assert api.create(PODS, "default", pod(), Options(dry_run=True)).obj["spec"]["priority"] == 0
    assert api.store.rv == before
    api.create(PODS, "default", pod())
    before = api.store.rv
    changed = api.patch(PODS, "default", "p", {"metadata": {"labels": {"a": "b"}}}, patch.MERGE, Options(dry_run=True))
    assert changed.obj["metadata"]["labels"] == {"a": "b"}
    api.delete(PODS, "default", "p", options=Options(dry_run=True))
    assert api.store.rv == before and "labels" not in api.get(PODS, "default", "p").obj["metadata"]


def test_an_old_version_is_not_written_over(api: Api) -> None:
    old = copied(api.create(CONFIG_MAPS, "default", {"metadata": {"name": "a"}}))
    api.patch(CONFIG_MAPS, "default", "a", {"data": {"x": "1"}}, patch.MERGE)
    with refused(409, 'Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply'):
        api.update(CONFIG_MAPS, "default", "a", old)
    with refused(409, "Precondition failed: UID in precondition: other"):
        api.update(CONFIG_MAPS, "default", "a", {"metadata": {"name": "a", "uid": "other"}})
    with refused(400, "does not match the name on the URL"):
        api.update(CONFIG_MAPS, "default", "a", {"metadata": {"name": "b"}})


def test_a_write_without_a_change_is_none(api: Api) -> None:
    made = api.create(CONFIG_MAPS, "default", {"metadata": {"name": "a"}, "data": {"x": "1"}})
    assert api.patch(CONFIG_MAPS, "default", "a", {"data": {"x": "1"}}, patch.MERGE).rv == made.rv
    assert api.patch(CONFIG_MAPS, "default", "a", {"data": {"x": "2"}}, patch.MERGE).rv > made.rv


def test_spec_and_status_are_written_apart(api: Api) -> None:
    api.create(PODS, "default", pod())
    change = {"status": {"phase": "Running"}, "spec": {"nodeName": "elsewhere"}, "metadata": {"labels": {"a": "b"}}}
    new = api.patch(PODS, "default", "p", change, patch.STRATEGIC, sub="status").obj
    assert new["status"]["phase"] == "Running" and "nodeName" not in new["spec"] and new["metadata"]["labels"] == {"a": "b"}
    assert new["metadata"]["generation"] == 1
    change = {"status": {"phase": "Failed"}, "spec": {"activeDeadlineSeconds": 9}}
    new = api.patch(PODS, "default", "p", change, patch.STRATEGIC).obj
    assert (new["status"]["phase"], new["spec"]["activeDeadlineSeconds"], new["metadata"]["generation"]) == ("Running", 9, 2)


def test_a_pods_spec_stays_as_it_is_but_for_the_image(api: Api) -> None:
    api.create(PODS, "default", pod())
    change = {"spec": {"containers": [{"name": "app", "image": "registry.lab/busybox:2"}]}}
    assert api.patch(PODS, "default", "p", change, patch.STRATEGIC).obj["spec"]["containers"][0]["image"].endswith(":2")
    with refused(422, "pod updates may not change fields other than"):
        api.patch(PODS, "default", "p", {"spec": {"nodeSelector": {"a": "b"}}}, patch.MERGE)


def test_binding_happens_once(api: Api) -> None:
    api.create(PODS, "default", pod())
    bound = api.bind("default", "p", {"target": {"name": "sim-worker"}}).obj
    assert bound["spec"]["nodeName"] == "sim-worker"
    assert [(c["type"], c["status"]) for c in bound["status"]["conditions"]] == [("PodScheduled", "True")]
    with refused(409, 'pod p is already assigned to node "sim-worker"'):
        api.bind("default", "p", {"target": {"name": "other"}})
    for odd in ({}, {"target": {"name": ""}}, {"target": {"kind": "Node"}}):
        with refused(500, "target.name: Required value"):
            api.bind("default", "p", odd)
    for odd in ({"target": []}, {"target": {"name": 3}}):
        with refused(400, "target.name"):
            api.bind("default", "p", odd)


def test_a_binding_is_of_this_pod_to_a_node_and_not_before_its_gates_are_gone(api: Api) -> None:
    made = api.create(PODS, "default", pod(schedulingGates=[{"name": "example.com/wait"}])).obj
    node = {"name": "sim-worker"}
    with refused(500, 'target.kind: Unsupported value: "Pod": supported values: "Node", "<empty>"'):
        api.bind("default", "p", {"target": {**node, "kind": "Pod"}})
    with refused(400, "name in URL does not match name in Binding object"):
        api.bind("default", "p", {"metadata": {"name": "other"}, "target": node})
    with refused(409, f"Precondition failed: UID in precondition: u, UID in object meta: {made['metadata']['uid']}"):
        api.bind("default", "p", {"metadata": {"uid": "u"}, "target": node})
    with refused(409, "pod p has non-empty .spec.schedulingGates"):
        api.bind("default", "p", {"target": node})


def test_a_bound_pod_waits_for_its_kubelet(api: Api) -> None:
    api.create(PODS, "default", pod(terminationGracePeriodSeconds=7))
    api.bind("default", "p", {"target": {"name": "sim-worker"}})
    going = api.delete(PODS, "default", "p").obj["metadata"]
    assert (going["deletionGracePeriodSeconds"], going["generation"]) == (7, 2) and going["deletionTimestamp"]
    assert api.delete(PODS, "default", "p", Deletion(grace=30)).obj["metadata"]["deletionGracePeriodSeconds"] == 7
    assert api.delete(PODS, "default", "p", Deletion(grace=2)).obj["metadata"]["deletionGracePeriodSeconds"] == 2
    with refused(409, "UID in precondition: someone-else"):
        api.delete(PODS, "default", "p", Deletion(grace=0, uid="someone-else"))
    api.delete(PODS, "default", "p", Deletion(grace=0, uid=going["uid"]))
    with refused(404, 'pods "p" not found'):
        api.get(PODS, "default", "p")


def test_pods_that_no_kubelet_would_end_go_at_once(api: Api) -> None:
    for name in ("unbound", "ended", "lost"):
        api.create(PODS, "default", pod(name))
    api.bind("default", "ended", {"target": {"name": "sim-worker"}})
    api.patch(PODS, "default", "ended", {"status": {"phase": "Succeeded"}}, patch.MERGE, sub="status")
    api.bind("default", "lost", {"target": {"name": "no-such-node"}})
    for name in ("unbound", "ended", "lost"):
        api.delete(PODS, "default", name)
        assert api.store.get("pods", "default", name) is None


def test_finalizers_hold_an_object_until_the_last_is_gone(api: Api) -> None:
    api.create(CONFIG_MAPS, "default", {"metadata": {"name": "a", "finalizers": ["lab/one"]}})
    assert "deletionTimestamp" in api.delete(CONFIG_MAPS, "default", "a").obj["metadata"]
    api.patch(CONFIG_MAPS, "default", "a", {"metadata": {"finalizers": None}}, patch.MERGE)
    assert api.store.get("configmaps", "default", "a") is None


def test_a_namespace_takes_its_contents_with_it(api: Api) -> None:
    with refused(404, 'namespaces "n" not found'):
        api.create(CONFIG_MAPS, "n", {"metadata": {"name": "a"}})
    api.make_account(api.create(NAMESPACES, "", {"metadata": {"name": "n"}}).obj)
    api.create(CONFIG_MAPS, "n", {"metadata": {"name": "a"}})
    api.create(PODS, "n", pod())
    api.bind("n", "p", {"target": {"name": "sim-worker"}})
    assert api.delete(NAMESPACES, "", "n").obj["status"]["phase"] == "Terminating"
    with refused(403, "unable to create new content in namespace n because it is being terminated"):
        api.create(CONFIG_MAPS, "n", {"metadata": {"name": "b"}})
    NamespaceController(api).reconcile(0)
    assert api.store.get("configmaps", "n", "a") is None and api.store.get("namespaces", "", "n") is not None
    api.delete(PODS, "n", "p", Deletion(grace=0))
    NamespaceController(api).reconcile(0)
    assert api.store.get("namespaces", "", "n") is None and not api.store.list("serviceaccounts", "n")


def test_system_namespaces_stay(api: Api) -> None:
    with refused(403, "may not be deleted"):
        api.delete(NAMESPACES, "", "kube-system")


def test_service_accounts_are_looked_up_and_lend_their_pull_secrets(api: Api) -> None:
    with refused(403, "error looking up service account default/none"):
        api.create(PODS, "default", pod(serviceAccountName="none"))
    api.patch(ACCOUNTS, "default", "default", {"imagePullSecrets": [{"name": "s"}]}, patch.MERGE)
    assert api.create(PODS, "default", pod()).obj["spec"]["imagePullSecrets"] == [{"name": "s"}]


def test_string_data_becomes_data(api: Api) -> None:
    made = api.create(SECRETS, "default", {"metadata": {"name": "s"}, "stringData": {"a": "é"}, "data": {"b": "Yg=="}}).obj
    assert made["data"] == {"a": b64encode("é".encode()).decode(), "b": "Yg=="} and "stringData" not in made
    new = api.patch(SECRETS, "default", "s", {"stringData": {"b": "c"}}, patch.MERGE).obj
    assert new["data"]["b"] == "Yw=="


def test_apply_makes_and_changes_and_leaves_admissions_fields_alone(api: Api) -> None:
    options = Options("ann")
    made = api.apply(PODS, "default", "p", pod(), options).obj
    assert made["metadata"]["generation"] == 1
    again = pod()
    again["spec"]["containers"][0]["image"] = "registry.lab/busybox:2"
    new = api.apply(PODS, "default", "p", again, options).obj
    assert new["spec"]["containers"][0]["image"] == "registry.lab/busybox:2"
    assert new["spec"]["tolerations"] == made["spec"]["tolerations"]
    (owner,) = new["metadata"]["managedFields"]
    assert owner["operation"] == "Apply" and "f:tolerations" not in owner["fieldsV1"]["f:spec"]


def query(**values: str) -> paths.Query:
    return {name: [value] for name, value in values.items()}


def test_lists_in_pages(api: Api) -> None:
    for number in range(5):
        api.create(CONFIG_MAPS, "default", {"metadata": {"name": f"c{number}"}})
    target = paths.Target(CONFIG_MAPS, "default")
    first = listing.listed(api.store, target, query(limit="2"))
    assert first.meta["remainingItemCount"] == 3
    api.create(CONFIG_MAPS, "default", {"metadata": {"name": "c1a"}})
    api.update(CONFIG_MAPS, "default", "c3", {"metadata": {"name": "c3"}, "data": {"a": "new"}})
    api.delete(CONFIG_MAPS, "default", "c4")
    second = listing.listed(api.store, target, {**query(limit="2"), "continue": [first.meta["continue"]]})
    third = listing.listed(api.store, target, {**query(limit="2"), "continue": [second.meta["continue"]]})
    shown = [entry.obj for page in (first, second, third) for entry in page.entries]
    assert [obj["metadata"]["name"] for obj in shown] == ["c0", "c1", "c2", "c3", "c4"]
    assert not any("data" in obj for obj in shown)
    assert {page.meta["resourceVersion"] for page in (first, second, third)} == {first.meta["resourceVersion"]}
    assert all(int(obj["metadata"]["resourceVersion"]) <= int(first.meta["resourceVersion"]) for obj in shown)


def test_a_list_whose_moment_is_forgotten_says_how_to_go_on(api: Api) -> None:
    for number in range(3):
        api.create(CONFIG_MAPS, "default", {"metadata": {"name": f"c{number}"}})
    target = paths.Target(CONFIG_MAPS, "default")
    first = listing.listed(api.store, target, query(limit="2"))
    api.create(CONFIG_MAPS, "default", {"metadata": {"name": "c3"}})
    api.store.snapshots.clear()
    with pytest.raises(ApiError) as gone:
        listing.listed(api.store, target, {**query(limit="2"), "continue": [first.meta["continue"]]})
    assert gone.value.code == 410 and gone.value.body()["metadata"]["continue"]
    rest = listing.listed(api.store, target, {"continue": [gone.value.body()["metadata"]["continue"]]})
    assert [entry.obj["metadata"]["name"] for entry in rest.entries] == ["c2", "c3"]


def test_what_an_update_makes_and_what_it_needs_is_of_each_resource(api: Api) -> None:
    leases, events = BY_PLURAL["leases"], BY_PLURAL["events"]
    made = api.update(leases, "default", "l", {"metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}})
    with refused(422, 'leases.coordination.k8s.io "l" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified'):
        api.update(leases, "default", "l", {"metadata": {"name": "l"}, "spec": {"holderIdentity": "b"}})
    meta = {"name": "l", "resourceVersion": str(made.rv)}
    kept = api.update(leases, "default", "l", {"metadata": meta, "spec": {"holderIdentity": "b"}})
    assert kept.obj["spec"]["holderIdentity"] == "b" and kept.obj["metadata"]["uid"] == made.obj["metadata"]["uid"]
    about = {"kind": "Pod", "namespace": "default", "name": "p"}
    made = api.update(events, "default", "e", {"metadata": {"name": "e"}, "involvedObject": about})
    assert made.obj["metadata"]["name"] == "e"
    with refused(409, "Precondition failed: UID in precondition: u, UID in object meta: "):
        api.update(leases, "default", "l2", {"metadata": {"name": "l2", "uid": "u"}, "spec": {}})
    with refused(404, 'configmaps "c" not found'):
        api.update(CONFIG_MAPS, "default", "c", {"metadata": {"name": "c"}})


def test_what_is_legal_and_hardly_meant_is_said(api: Api) -> None:
    env = [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}, {"name": "A", "value": "3"}]
    ports = [{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}, {"containerPort": 80, "name": "again"}]
    odd = pod(terminationGracePeriodSeconds=-1, imagePullSecrets=[{}], volumes=[
        {"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}])
    odd["spec"]["containers"][0] |= {"env": env, "ports": ports}
    options = Options()
    api.create(PODS, "default", odd, options)
    assert options.warnings == [
        'spec.imagePullSecrets[0].name: invalid empty name ""',
        'spec.containers[0].env[2]: hides previous definition of "A", which may be dropped when using apply',
        "spec.containers[0].ports[2]: duplicate port definition with spec.containers[0].ports[0]",
        "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
        "spec.volumes[0].projected.sources[0].serviceAccountToken: The lab's API issues no tokens, so the Pod waits in "
        "ContainerCreating.",
    ]


def test_a_pod_that_would_wait_for_ever_is_accepted_with_a_word_about_it(api: Api) -> None:
    options = Options()
    api.create(PODS, "default", pod(nodeName="absent", schedulerName="mine", resourceClaims=[]), options)
    assert options.warnings == [
        "spec.schedulerName: No scheduler of this name runs in the lab: the Pod stays Pending until somebody binds it to a node.",
        'spec.nodeName: The lab has no node "absent", so the Pod stays Pending until there is one.',
    ]
    with refused(403, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"):
        api.create(PODS, "default", pod(meta={"name": "o"}, overhead={"cpu": "1"}), options)


def test_apply_refuses_an_item_that_is_named_twice(api: Api) -> None:
    env = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    spec = {"containers": [{"name": "c", "image": "i", "env": env}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
    words = 'failed to create typed patch object (default/p; /v1, Kind=Pod): .spec.containers[name="c"].env: duplicate entries'
    with refused(500, words + ' for key [name="A"]'):
        api.apply(BY_PLURAL["pods"], "default", "p", pod, Options("m"))
    twice = {"metadata": {"name": "c", "finalizers": ["a/b", "a/b"]}}
    with refused(500, '.metadata.finalizers: duplicate entries for key [="a/b"]'):
        api.apply(CONFIG_MAPS, "default", "c", twice, Options("m"))


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        ({"resourceVersion": "999"}, 504, "Too large resource version: 999"),
        ({"resourceVersion": "x"}, 400, "must be an unsigned integer"),
        ({"resourceVersion": "1", "resourceVersionMatch": "Exact"}, 410, "too old"),
        ({"resourceVersionMatch": "Exact"}, 422, "forbidden unless resourceVersion is provided"),
        ({"resourceVersionMatch": "Odd", "resourceVersion": "1"}, 422, "Unsupported value"),
        ({"limit": "x"}, 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
        ({"continue": "abc"}, 400, "continue key is not valid"),
        ({"sendInitialEvents": "true"}, 422, "forbidden for list"),
    ],
)
def test_lists_that_cannot_be(api: Api, asked: dict[str, str], code: int, words: str) -> None:
    with refused(code, words):
        listing.listed(api.store, paths.Target(CONFIG_MAPS), query(**asked))


def test_a_path_that_leads_nowhere_has_details_that_clients_may_read() -> None:
    assert not_served().body()["details"] == {}


def test_ephemeral_containers_are_added_below_the_pod_and_stay_as_they_are(api: Api) -> None:
    api.create(PODS, "default", pod())
    sub, debug = "ephemeralcontainers", {"name": "debug", "image": "registry.lab/busybox:1", "targetContainerName": "app"}

    def patched(*containers: Object, **meta: Any) -> Object:
        change = {"metadata": meta, "spec": {"hostname": "x", "ephemeralContainers": list(containers)}}
        return api.patch(PODS, "default", "p", change, patch.STRATEGIC, sub=sub).obj

    made = patched(debug, labels={"a": "b"})
    (added,) = made["spec"]["ephemeralContainers"]
    assert (added["imagePullPolicy"], made["metadata"]["generation"]) == ("IfNotPresent", 2)
    assert "labels" not in made["metadata"] and "hostname" not in made["spec"]
    assert made["metadata"]["managedFields"][-1]["subresource"] == sub
    assert [c["name"] for c in patched({**debug, "name": "second"})["spec"]["ephemeralContainers"]] == ["debug", "second"]
    with refused(422, 'existing ephemeral containers "debug" may not be changed'):
        patched({**debug, "image": "other"})
    with refused(422, 'spec.ephemeralContainers[2].targetContainerName: Not found: "none"'):
        patched({**debug, "name": "third", "targetContainerName": "none"})
    with refused(422, "spec.ephemeralContainers[2].ports: Forbidden: cannot be set for an Ephemeral Container"):
        patched({**debug, "name": "third", "ports": [{"containerPort": 80}]})
    whole = copied(api.get(PODS, "default", "p"))
    with refused(422, 'existing ephemeral containers "second" may not be removed'):
        api.update(PODS, "default", "p", {**whole, "spec": {"ephemeralContainers": [added]}}, sub=sub)
    with refused(422, "spec: Forbidden: pod updates may not change fields other than"):
        api.update(PODS, "default", "p", {**whole, "spec": {**whole["spec"], "ephemeralContainers": [added]}})


def test_a_new_pod_has_its_class_its_gates_and_its_selectors_filled_in(api: Api) -> None:
    term = {"topologyKey": "zone", "labelSelector": {}, "matchLabelKeys": ["app", "none"], "mismatchLabelKeys": ["tier"]}
    new = pod(
        schedulingGates=[{"name": "a/b"}],
        affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}},
        topologySpreadConstraints=[{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
                                    "labelSelector": {"matchLabels": {"x": "y"}}, "matchLabelKeys": ["app"]}],
    )
    new["metadata"]["labels"] = {"app": "web", "tier": "front"}
    made = api.create(PODS, "default", new).obj
    (condition,) = made["status"]["conditions"]
    assert (made["status"]["qosClass"], condition["reason"]) == ("BestEffort", "SchedulingGated")
    (found,) = made["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert found["labelSelector"]["matchExpressions"] == [
        {"key": "app", "operator": "In", "values": ["web"]}, {"key": "tier", "operator": "NotIn", "values": ["front"]},
    ]
    selector = made["spec"]["topologySpreadConstraints"][0]["labelSelector"]
    assert selector == {"matchLabels": {"x": "y"}, "matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}


@pytest.mark.parametrize(
    ("annotation", "profile"),
    [
        ("runtime/default", {"type": "RuntimeDefault"}), ("unconfined", {"type": "Unconfined"}),
        ("localhost/mine", {"type": "Localhost", "localhostProfile": "mine"}), ("localhost/", None), ("nonsense", None),
    ],
)
def test_an_annotation_for_apparmor_becomes_a_field(api: Api, annotation: str, profile: Any) -> None:
    key, new, options = "container.apparmor.security.beta.kubernetes.io/app", pod(), Options()
    new["metadata"]["annotations"] = {key: annotation}
    (container,) = api.create(PODS, "default", new, options).obj["spec"]["containers"]
    assert (container.get("securityContext") or {}).get("appArmorProfile") == profile
    words = f'metadata.annotations[{key}]: deprecated since v1.30; use the "appArmorProfile" field instead'
    assert options.warnings.count(words) == 1


def test_a_change_of_a_pods_status_leaves_owners_class_and_generations(api: Api) -> None:
    new = pod()
    new["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": "Pod", "name": "o", "uid": "1"}]
    api.create(PODS, "default", new)
    ready = {"type": "Ready", "status": "True", "observedGeneration": 1}
    api.patch(PODS, "default", "p", {"status": {"observedGeneration": 1, "conditions": [ready]}}, patch.STRATEGIC, sub="status")
    whole = copied(api.get(PODS, "default", "p"))
    whole["metadata"]["ownerReferences"] = []
    whole["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}
    stored = api.update(PODS, "default", "p", whole, sub="status").obj
    assert stored["metadata"]["ownerReferences"] == new["metadata"]["ownerReferences"]
    assert (stored["status"]["qosClass"], stored["status"]["observedGeneration"]) == ("BestEffort", 1)
    assert stored["status"]["conditions"][0] == {"type": "Ready", "status": "False", "observedGeneration": 1}
