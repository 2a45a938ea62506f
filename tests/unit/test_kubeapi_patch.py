"""Patches and server-side apply, as kube-apiserver carries them out."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest

from labkit.apiserver.api_errors import ApiError
from labkit.apiserver.api_resources import BY_PLURAL
from labkit.apiserver.objects import apply, ownership, patch

PODS = BY_PLURAL["pods"]
Object = dict[str, Any]


def pod(*containers: Object, **spec: Any) -> Object:
    return {"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": list(containers), **spec}}


def strategic(obj: Object, change: Object) -> Object:
    return patch.patched(PODS, deepcopy(obj), change, patch.STRATEGIC)


def test_strategic_merge_finds_containers_by_name_and_keeps_the_rest() -> None:
    there = pod({"name": "a", "image": "x:1", "env": [{"name": "E", "value": "1"}]}, {"name": "b", "image": "y"})
    new = strategic(there, {"spec": {"containers": [{"name": "a", "image": "x:2", "env": [{"name": "F", "value": "2"}]}]}})
    assert new["spec"]["containers"] == [
        {"name": "a", "image": "x:2", "env": [{"name": "E", "value": "1"}, {"name": "F", "value": "2"}]},
        {"name": "b", "image": "y"},
    ]


def test_strategic_merge_replaces_lists_without_a_key() -> None:
    new = strategic(pod({"name": "a", "command": ["x", "y"]}), {"spec": {"containers": [{"name": "a", "command": ["z"]}]}})
    assert new["spec"]["containers"][0]["command"] == ["z"]


def test_directives_delete_replace_and_retain() -> None:
    there = pod({"name": "a"}, {"name": "b"}, volumes=[{"name": "v", "emptyDir": {}}])
    assert [
        c["name"] for c in strategic(there, {"spec": {"containers": [{"name": "a", "$patch": "delete"}]}})["spec"]["containers"]
    ] == ["b"]
    replaced = strategic(there, {"spec": {"containers": [{"$patch": "replace"}, {"name": "c"}]}})
    assert replaced["spec"]["containers"] == [{"name": "c"}]
    change = {"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}}
    assert strategic(there, change)["spec"]["volumes"] == [{"name": "v", "hostPath": {"path": "/x"}}]


def test_primitive_lists_are_merged_and_items_deleted() -> None:
    there = {"metadata": {"name": "p", "finalizers": ["a/b", "c/d"]}}
    new = strategic(there, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"], "finalizers": ["e/f"]}})
    assert new["metadata"]["finalizers"] == ["c/d", "e/f"]


def test_element_order_puts_new_containers_where_the_client_has_them() -> None:
    order = [{"name": "new"}, {"name": "b"}, {"name": "a"}]
    change = {"spec": {"$setElementOrder/containers": order, "containers": [{"name": "new"}]}}
    new = strategic(pod({"name": "a"}, {"name": "sidecar"}, {"name": "b"}), change)
    assert [c["name"] for c in new["spec"]["containers"]] == ["new", "b", "a", "sidecar"]


def test_conditions_are_merged_by_type_in_a_status() -> None:
    there = {
        "metadata": {"name": "p"},
        "status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "X", "status": "True"}]},
    }
    new = strategic(there, {"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    assert [(c["type"], c["status"]) for c in new["status"]["conditions"]] == [("Ready", "True"), ("X", "True")]


def test_merge_patch_takes_null_as_removal_and_lists_whole() -> None:
    new = patch.patched(
        PODS, pod({"name": "a"}, nodeName="n"), {"spec": {"nodeName": None, "containers": [{"name": "z"}]}}, patch.MERGE
    )
    assert new["spec"] == {"containers": [{"name": "z"}]}


@pytest.mark.parametrize(
    ("operations", "code"),
    [
        ([{"op": "test", "path": "/spec/containers/0/name", "value": "other"}], 422),
        ([{"op": "remove", "path": "/spec/nope"}], 422),
        ([{"op": "add"}], 422),
        ({"op": "add"}, 400),
        (["add"], 400),
        ([{"op": "remove", "path": "/metadata"}] * 10_001, 413),
    ],
)
def test_json_patches_that_cannot_be_carried_out(operations: Any, code: int) -> None:
    with pytest.raises(ApiError) as refused:
        patch.patched(PODS, pod({"name": "a"}), operations, patch.JSON)
    assert refused.value.code == code


def test_merge_keys_that_are_missing_are_said() -> None:
    with pytest.raises(ApiError, match="does not contain declared merge key: name"):
        strategic(pod({"name": "a"}), {"spec": {"containers": [{"image": "x"}]}})


def applied(live: Object | None, config: Object, manager: str, force: bool = False) -> Object:
    return apply.applied(PODS, deepcopy(live), deepcopy(config), manager, force)


def test_two_appliers_conflict_and_force_settles_it() -> None:
    one = pod({"name": "app", "image": "x:1", "ports": [{"containerPort": 80}]})
    live = applied(None, one, "ann")
    other = pod({"name": "app", "image": "x:2"})
    with pytest.raises(ApiError) as conflict:
        applied(live, other, "bob")
    assert conflict.value.code == 409
    assert conflict.value.message == 'Apply failed with 1 conflict: conflict with "ann": .spec.containers[name="app"].image'
    assert conflict.value.details == {
        "causes": [
            {"reason": "FieldManagerConflict", "message": 'conflict with "ann"', "field": '.spec.containers[name="app"].image'}
        ]
    }
    forced = applied(live, other, "bob", force=True)
    assert forced["spec"]["containers"] == [{"name": "app", "image": "x:2", "ports": [{"containerPort": 80}]}]
    owners = {entry["manager"]: ownership.read(entry["fieldsV1"]) for entry in forced["metadata"]["managedFields"]}
    image = ("f:spec", "f:containers", 'k:{"name":"app"}', "f:image")
    assert image in owners["bob"] and image not in owners["ann"]


def test_the_same_value_is_owned_by_both_and_stays_until_both_let_go() -> None:
    shared = pod({"name": "app", "image": "x"}, activeDeadlineSeconds=9)
    live = applied(applied(None, shared, "ann"), shared, "bob")
    without = pod({"name": "app", "image": "x"})
    live = applied(live, without, "ann")
    assert live["spec"]["activeDeadlineSeconds"] == 9
    assert "activeDeadlineSeconds" not in applied(live, without, "bob")["spec"]


def test_what_the_applier_no_longer_sets_is_removed_with_items_of_lists() -> None:
    live = applied(None, {**pod({"name": "app", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]})}, "ann")
    new = applied(live, pod({"name": "app", "env": [{"name": "B", "value": "2"}]}), "ann")
    assert new["spec"]["containers"][0]["env"] == [{"name": "B", "value": "2"}]


def test_an_update_takes_fields_over_and_conflicts_name_its_version() -> None:
    live = applied(None, {**pod({"name": "app", "image": "x"}), "kind": "Pod"}, "ann")
    updated = deepcopy(live)
    updated["spec"]["containers"][0]["image"] = "y"
    updated["metadata"]["labels"] = {"a": "b"}
    apply.track(PODS, live, updated, "kubectl-edit")
    owners = {entry["manager"]: entry for entry in updated["metadata"]["managedFields"]}
    assert owners["kubectl-edit"]["fieldsV1"] == {
        "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
        "f:spec": {"f:containers": {'k:{"name":"app"}': {"f:image": {}}}},
    }
    with pytest.raises(ApiError, match=r'conflict with "kubectl-edit" using v1: \.spec\.containers\[name="app"\]\.image'):
        applied(updated, pod({"name": "app", "image": "x"}), "ann")


def test_several_conflicts_are_listed_by_manager() -> None:
    live = applied(None, pod({"name": "app", "image": "x", "ports": [{"containerPort": 80, "name": "web"}]}), "ann")
    with pytest.raises(ApiError) as conflict:
        applied(live, pod({"name": "app", "image": "y", "ports": [{"containerPort": 80, "name": "www"}]}), "bob")
    assert conflict.value.message.splitlines() == [
        'Apply failed with 2 conflicts: conflicts with "ann":',
        '- .spec.containers[name="app"].image',
        '- .spec.containers[name="app"].ports[containerPort=80,protocol="TCP"].name',
    ]


def test_statuses_have_managers_of_their_own() -> None:
    live = applied(None, pod({"name": "app", "image": "x"}), "ann")
    new = deepcopy(live) | {"status": {"phase": "Running"}}
    apply.track(PODS, live, new, "kubelet", "status")
    (kubelet,) = [entry for entry in new["metadata"]["managedFields"] if entry["manager"] == "kubelet"]
    assert (kubelet["subresource"], kubelet["operation"]) == ("status", "Update")
    assert ownership.read(kubelet["fieldsV1"]) >= {("f:status", "f:phase")}


def test_managed_fields_survive_being_written_down() -> None:
    fields = {("f:a",), ("f:a", "f:b"), ("f:c", 'k:{"name":"x"}'), ("f:c", 'k:{"name":"x"}', "f:y"), ("f:d", 'v:"s"')}
    assert ownership.read(json.loads(json.dumps(ownership.written(fields)))) == fields


def test_odd_managed_fields_of_a_client_are_passed_over() -> None:
    live = applied(None, pod({"name": "app", "image": "x"}), "ann")
    for odd in ([{"manager": 3}], "x", [None], [{"manager": "m", "operation": "Apply", "fieldsV1": []}]):
        new = deepcopy(live)
        new["metadata"]["managedFields"] = odd
        apply.track(PODS, live, new, "eve")
        assert [entry["manager"] for entry in new["metadata"]["managedFields"]] == ["ann"]
    new = deepcopy(live)
    new["metadata"]["managedFields"] = [{}]
    apply.track(PODS, live, new, "eve")
    assert "managedFields" not in new["metadata"]


def test_many_updaters_are_kept_together() -> None:
    live: Object = {"metadata": {"name": "p"}}
    for number in range(30):
        new = deepcopy(live)
        new["metadata"].setdefault("labels", {})[f"l{number}"] = "x"
        apply.track(PODS, live, new, f"m{number}")
        live = new
    names = [entry["manager"] for entry in live["metadata"]["managedFields"]]
    assert len(names) <= apply.MAX_UPDATERS and apply.ANCIENT in names and "m29" in names


def test_copies_of_copies_are_refused() -> None:
    """Each doubles what there is: forty operations would fill any memory."""
    operations = [{"op": "copy", "from": "/metadata", "path": f"/metadata/x{n}"} for n in range(40)]
    with pytest.raises(ApiError, match="accumulated size increase of copy") as refused:
        patch.patched(BY_PLURAL["pods"], {"metadata": {"name": "p"}}, operations, patch.JSON)
    assert refused.value.code == 422


@pytest.mark.parametrize("directive", ["finalizers", "$deleteFromPrimitiveList/finalizers", "$setElementOrder/finalizers"])
def test_a_patch_of_a_long_list_compares_each_item_a_few_times(directive: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Counted(str):
        compared = 0
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            Counted.compared += 1
            return str.__eq__(self, other)

    word = patch._word
    monkeypatch.setattr(patch, "_word", lambda value: Counted(word(value)))
    there = [Counted(f"a.b/{n}") for n in range(500)]
    change = {"metadata": {directive: [Counted(f"a.b/{n}") for n in range(1000, 250, -1)]}}
    patch.patched(BY_PLURAL["pods"], {"metadata": {"finalizers": there}}, change, patch.STRATEGIC)
    assert 0 < Counted.compared < 5_000  # a hundred times as many where each is looked for among all
