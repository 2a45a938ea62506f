"""What each kind's strategy does at create, update and status update, as Kubernetes 1.36 does (pkg/registry/*/*/strategy.go)."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from labkit.apiserver.api_errors import ApiError
from labkit.apiserver.api_resources import BY_PLURAL
from labkit.apiserver.controllers.namespaces import NamespaceController
from labkit.apiserver.objects import patch, rest
from labkit.apiserver.objects.rest import Api, Deletion, Options
from labkit.apiserver.storage.store import Store

Object = dict[str, Any]
NAMESPACES, NODES = BY_PLURAL["namespaces"], BY_PLURAL["nodes"]
DUAL = ["10.0.0.0/24", "fd00::/64"]
NO_CHANGE = 'node updates may not change podCIDR except from "" to valid'
NO_STANDARD = "name is neither a standard finalizer name nor is it fully qualified"
NO_KIND = 'in scheme "pkg/api/legacyscheme/scheme.go:30"'


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(Store(tmp_path / "objects.sqlite"))


def create(api: Api, plural: str, obj: Object, namespace: str = "default", options: Options | None = None) -> Object:
    resource = BY_PLURAL[plural]
    return api.create(resource, namespace if resource.namespaced else "", copy.deepcopy(obj), options or Options()).obj


def update(api: Api, plural: str, obj: Object, sub: str = "", options: Options | None = None) -> Object:
    resource, meta = BY_PLURAL[plural], obj["metadata"]
    version = {} if resource.unconditional else {"resourceVersion": api.store.get(
        plural, meta.get("namespace", "default"), meta["name"]).obj["metadata"]["resourceVersion"]}
    new = copy.deepcopy({**obj, "metadata": {**meta, **version}})
    return api.update(
        resource, "default" if resource.namespaced else "", meta["name"], new, options or Options(), sub).obj


def refusal(api: Api, step: Any) -> str:
    with pytest.raises(ApiError) as refused:
        step()
    return refused.value.message


def named(**more: Any) -> Object:
    return {"metadata": {"name": "a", **more.pop("meta", {})}, **more}


@pytest.mark.parametrize(
    ("plural", "obj", "kept"),
    [
        ("namespaces", named(spec={"finalizers": ["example.com/mine"]}, status={"phase": "Terminating"}),
         {"spec": {"finalizers": ["example.com/mine", "kubernetes"]}, "status": {"phase": "Active"}}),
        ("namespaces", named(spec={"finalizers": ["kubernetes"]}), {"spec": {"finalizers": ["kubernetes"]}}),
        ("serviceaccounts", named(secrets=[{"kind": "Secret", "name": "s", "namespace": "x", "uid": "u"}]),
         {"secrets": [{"name": "s"}]}),
        ("leases", named(spec={"holderIdentity": "", "strategy": "OldestEmulationVersion", "preferredHolder": "b"}),
         {"spec": {"holderIdentity": ""}}),
        ("nodes", named(spec={"configSource": {"configMap": {"name": "c"}}, "podCIDRs": DUAL}, status={"config": {"error": "e"}}),
         {"spec": {"podCIDR": DUAL[0], "podCIDRs": DUAL}, "status": {}}),
    ],
)
def test_what_a_new_object_has_in_the_end(api: Api, plural: str, obj: Object, kept: Object) -> None:
    made = create(api, plural, obj)
    assert {name: made.get(name) for name in kept} == kept


@pytest.mark.parametrize(
    ("plural", "obj", "words"),
    [
        ("leases", named(spec={"strategy": "OldestEmulationVersion"}), "spec.strategy: "),
        ("leases", named(spec={"preferredHolder": "b"}), "spec.preferredHolder: "),
        ("nodes", named(spec={"configSource": {"configMap": {}}}), "spec.configSource: the feature is removed"),
        ("nodes", named(spec={"externalID": "e"}), "spec.externalID: this field is deprecated, and is unused by Kubernetes"),
    ],
)
def test_what_is_dropped_or_old_is_said(api: Api, plural: str, obj: Object, words: str) -> None:
    options = Options()
    create(api, plural, obj, options=options)
    assert any(each.startswith(words) for each in options.warnings), options.warnings


@pytest.mark.parametrize(
    ("plural", "obj", "words"),
    [
        ("namespaces", named(spec={"finalizers": ["mine"]}), f'spec.finalizers: Invalid value: "mine": {NO_STANDARD}'),
        ("events", named(meta={"labels": {"a b": ""}}), 'metadata.labels: Invalid value: "a b": name part must consist of'),
        ("events", named(meta={"finalizers": ["mine"]}), f'metadata.finalizers[0]: Invalid value: "mine": {NO_STANDARD}'),
        ("events", {"metadata": {"name": "a/b"}}, "metadata.name: Invalid value: \"a/b\": may not contain '/'"),
        ("configmaps", named(data={"k": "x" * 1048577}), '"a" is invalid: []: Too long: may not be more than 1048576 bytes'),
        ("secrets", named(type="kubernetes.io/basic-auth"),
         "[data[%s][username]: Required value, data[%s][password]: Required value]"),
        ("secrets", named(type="kubernetes.io/ssh-auth"), "data[%s][ssh-privatekey]: Required value"),
        ("nodes", named(spec={"podCIDRs": ["10.0.0.0/24", "10.0.1.0/24"]}),
         'podCIDRs: Invalid value: ["10.0.0.0/24","10.0.1.0/24"]: may specify no more than one CIDR for each IP family'),
        ("nodes", named(spec={"podCIDRs": [*DUAL, DUAL[0]]}), 'spec.podCIDRs[2]: Duplicate value: "10.0.0.0/24"'),
        ("configmaps", named(meta={"ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "e", "uid": "u"}]}),
         "/v1, Kind=Event is disallowed from being an owner"),
        ("configmaps", named(kind="Secret", apiVersion="v1"),
         'Secret in version "v1" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conv'),
        ("leases", named(kind="Pod", apiVersion="v1"),
         'Pod in version "v1" cannot be handled as a Lease: converting (v1.Pod) to (coordination.Lease): unknown conversion'),
        ("configmaps", named(kind="Deployment", apiVersion="apps/v1"),
         'Deployment in version "v1" cannot be handled as a ConfigMap: converting (v1.Deployment) to (core.ConfigMap)'),
        ("configmaps", named(kind="Config", apiVersion="v1"),
         f'Config in version "v1" cannot be handled as a ConfigMap: no kind "Config" is registered for version "v1" {NO_KIND}'),
        ("configmaps", named(kind="ConfigMap", apiVersion="v2"),
         'ConfigMap in version "v2" cannot be handled as a ConfigMap: no kind "ConfigMap" is registered for version "v2" in sch'),
        ("events", named(kind="Event", apiVersion="events.k8s.io/v1"),
         "the API version in the data (events.k8s.io/v1) does not match the expected API version (v1)"),
        ("configmaps", named(kind="ConfigMap", meta={"namespace": "b"}),
         "the namespace of the provided object does not match the namespace sent on the request"),
    ],
)
def test_what_is_refused_at_creation(api: Api, plural: str, obj: Object, words: str) -> None:
    assert words in refusal(api, lambda: create(api, plural, obj))


@pytest.mark.parametrize(
    ("plural", "old", "new", "kept"),
    [
        ("namespaces", named(), named(spec={"finalizers": ["example.com/mine"]}, meta={"labels": {"l": "1"}}),
         {"spec": {"finalizers": ["kubernetes"]}}),
        ("serviceaccounts", named(), named(secrets=[{"name": "s", "uid": "u"}]), {"secrets": [{"name": "s"}]}),
        ("leases", named(), named(spec={"strategy": "OldestEmulationVersion"}), {"spec": {}}),
        ("nodes", named(spec={"podCIDR": DUAL[0]}, status={"capacity": {"cpu": "1"}}),
         named(spec={"podCIDR": DUAL[0], "configSource": {"configMap": {}}}, status={"capacity": {"cpu": "9"}}),
         {"spec": {"podCIDR": DUAL[0], "podCIDRs": DUAL[:1]}, "status": {"capacity": {"cpu": "1"}, "allocatable": {"cpu": "1"}}}),
    ],
)
def test_what_an_update_leaves_as_it_is(api: Api, plural: str, old: Object, new: Object, kept: Object) -> None:
    create(api, plural, old)
    made = update(api, plural, new)
    assert {name: made.get(name) for name in kept} == kept


@pytest.mark.parametrize(
    ("plural", "old", "new", "sub", "words"),
    [
        ("nodes", named(spec={"podCIDRs": DUAL}), named(spec={"podCIDRs": ["10.0.9.0/24", "fd01::/64"]}), "",
         f"spec.podCIDRs: Forbidden: {NO_CHANGE}"),
        ("nodes", named(spec={"externalID": "e"}), named(spec={"externalID": "f"}), "",
         "spec.externalID: Forbidden: may not be updated"),
        ("namespaces", named(), named(status={"phase": "Terminating"}), "status",
         "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"),
        ("events", named(), named(meta={"labels": {"a": "b c"}}), "", 'metadata.labels: Invalid value: "b c": a valid label'),
        ("configmaps", named(), named(meta={"namespace": "b"}), "",
         "the namespace of the object (b) does not match the namespace on the request (default)"),
    ],
)
def test_what_an_update_is_refused(api: Api, plural: str, old: Object, new: Object, sub: str, words: str) -> None:
    create(api, plural, old)
    assert words in refusal(api, lambda: update(api, plural, new, sub))


@pytest.mark.parametrize("verb", ["update", "apply"])
def test_a_replacement_has_a_name(api: Api, verb: str) -> None:
    create(api, "configmaps", named())
    resource, words = BY_PLURAL["configmaps"], "the name of the object (a based on URL) was undeterminable: name must be provided"
    body: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}
    assert words == refusal(api, lambda: getattr(api, verb)(resource, "default", "a", body, Options()))


def test_a_name_that_cannot_be_made_unique(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "generated", lambda prefix: f"{prefix}same")
    create(api, "configmaps", {"metadata": {"generateName": "g-"}})
    with pytest.raises(ApiError) as refused:
        create(api, "configmaps", {"metadata": {"generateName": "g-"}})
    assert refused.value.message == (
        'configmaps "g-same" already exists, the server was not able to generate a unique name for the object')
    assert refused.value.details["retryAfterSeconds"] == 1


def test_a_patch_does_not_rename(api: Api) -> None:
    create(api, "configmaps", named())
    words = refusal(api, lambda: api.patch(BY_PLURAL["configmaps"], "default", "a", {"metadata": {"name": "b"}}, patch.MERGE))
    assert words == "the name of the object (b) does not match the name on the URL (a)"


def test_a_namespace_that_is_being_deleted_says_so_to_who_comes(api: Api) -> None:
    create(api, "namespaces", named())
    create(api, "configmaps", named(meta={"finalizers": ["example.com/hold"]}), "a")
    api.delete(NAMESPACES, "", "a")
    with pytest.raises(ApiError) as refused:
        create(api, "configmaps", {"metadata": {"name": "b"}}, "a")
    assert refused.value.details["causes"] == [
        {"reason": "NamespaceTerminating", "message": "namespace a is being terminated", "field": "metadata.namespace"}
    ]
    words = refusal(api, lambda: update(api, "namespaces", named(status={"phase": "Active"}), "status"))
    assert "may only be 'Terminating' if `deletionTimestamp` is not empty" in words
    assert "may only be 'Terminating'" in refusal(api, lambda: update(api, "namespaces", named(), "status"))


def conditions(api: Api, name: str) -> dict[str, tuple[str, str, str]]:
    status = api.get(NAMESPACES, "", name).obj["status"]
    return {each["type"]: (each["status"], each["reason"], each["message"]) for each in status.get("conditions") or ()}


def test_a_namespace_that_cannot_go_says_why(api: Api) -> None:
    create(api, "namespaces", named(spec={"finalizers": ["example.com/mine"]}))
    create(api, "configmaps", named(meta={"finalizers": ["example.com/hold"]}), "a")
    controller = NamespaceController(api)
    api.delete(NAMESPACES, "", "a")
    controller.reconcile(0)
    found = conditions(api, "a")
    assert found["NamespaceContentRemaining"] == (
        "True", "SomeResourcesRemain", "Some resources are remaining: configmaps. has 1 resource instances")
    assert found["NamespaceFinalizersRemaining"] == ("True", "SomeFinalizersRemain",
        "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances")
    assert found["NamespaceDeletionContentFailure"] == (
        "False", "ContentDeleted", "All content successfully deleted, may be waiting on finalization")
    before = api.get(NAMESPACES, "", "a").rv
    controller.reconcile(1)
    assert api.get(NAMESPACES, "", "a").rv == before, "it is written once"

    api.patch(BY_PLURAL["configmaps"], "a", "a", {"metadata": {"finalizers": None}}, patch.MERGE)
    controller.reconcile(2)
    assert conditions(api, "a")["NamespaceContentRemaining"] == (
        "False", "ContentRemoved", "All content successfully removed")
    assert api.get(NAMESPACES, "", "a").obj["spec"]["finalizers"] == ["example.com/mine"], "its own part is done"
    again = api.delete(NAMESPACES, "", "a").obj
    assert again["spec"]["finalizers"] == ["example.com/mine"]
    words = refusal(api, lambda: update(api, "namespaces", named(spec={"finalizers": ["mine"]}), "finalize"))
    assert f'spec.finalizers[0]: Invalid value: "mine": {NO_STANDARD}' in words
    update(api, "namespaces", named(spec={"finalizers": []}, status={"phase": "Active"}), "finalize")
    assert api.store.get("namespaces", "", "a") is None


def test_finalizing_a_namespace_that_stays_changes_its_finalizers_alone(api: Api) -> None:
    create(api, "namespaces", named())
    made = update(api, "namespaces", named(spec={"finalizers": []}, status={"phase": "Terminating"}), "finalize")
    assert (made["spec"].get("finalizers") or [], made["status"]) == ([], {"phase": "Active"})
    api.delete(NAMESPACES, "", "a")
    NamespaceController(api).reconcile(0)
    assert api.store.get("namespaces", "", "a") is None


def test_the_namespaces_of_a_cluster(api: Api) -> None:
    names = {name for (_, name), _ in api.store.list("namespaces")}
    assert names == {"default", "kube-system", "kube-public", "kube-node-lease"}
    for name in ("default", "kube-system", "kube-public"):
        assert "this namespace may not be deleted" in refusal(api, lambda name=name: api.delete(NAMESPACES, "", name))
    api.delete(NAMESPACES, "", "kube-node-lease")
    controller = NamespaceController(api)
    controller.reconcile(0)
    controller.reconcile(1)
    assert api.get(NAMESPACES, "", "kube-node-lease").obj["status"]["phase"] == "Active", "made anew, as by a cluster"


def test_a_namespace_deleted_in_the_foreground_goes_too(api: Api) -> None:
    create(api, "namespaces", named())
    api.delete(NAMESPACES, "", "a", Deletion(propagation="Foreground"))
    NamespaceController(api).reconcile(0)
    assert api.store.get("namespaces", "", "a") is None


def test_a_pod_is_replaced_by_its_own_manifest_but_for_the_account(api: Api) -> None:
    """Admission keeps priority and tolerations at an update too; the service account it gives at creation alone."""
    spec: Object = {"containers": [{"name": "c", "image": "i:1"}]}
    create(api, "pods", named(spec=spec))
    words = refusal(api, lambda: update(api, "pods", named(spec=spec)))
    assert "spec: Forbidden: pod updates may not change fields other than" in words
    assert [line.split(":")[0] for line in words.splitlines() if line.startswith("-")] == [
        "- \tserviceAccountName", "- \tserviceAccount"]
    spec = {"serviceAccountName": "default", "containers": [{"name": "c", "image": "i:2"}]}
    made = update(api, "pods", named(spec=spec))
    assert made["spec"]["priority"] == 0 and len(made["spec"]["tolerations"]) == 2
    assert made["spec"]["preemptionPolicy"] == "PreemptLowerPriority"
