"""What discovery lists: resources that are served, those that the kubelet answers, and those that Kubernetes has beyond them."""

from __future__ import annotations

import pytest

from labkit.apiserver import api_resources
from labkit.apiserver.discovery import absent
from labkit.apiserver.discovery import api_groups as discovery


def listed(group: str, version: str) -> dict[str, dict[str, object]]:
    answer = discovery.resources(group, version)
    assert answer and answer["groupVersion"] == (f"{group}/{version}" if group else version)
    return {entry["name"]: entry for entry in answer["resources"]}


def test_each_group_is_listed_once_and_has_resources() -> None:
    groups = [group["name"] for group in discovery.groups()["groups"]]
    assert len(groups) == len(set(groups)) and {"apps", "coordination.k8s.io", "metrics.k8s.io"} <= set(groups)
    for name in groups:
        about = discovery.group(name)
        assert about and all(listed(name, version["version"]) for version in about["versions"])
    assert discovery.group("example.com") is None and discovery.resources("apps", "v2") is None


def test_what_is_served_has_verbs_and_what_is_not_has_none_but_a_way_out() -> None:
    core = listed("", "v1")
    assert core["pods"] == {
        "name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": list(api_resources.ALL_VERBS),
        "shortNames": ["po"], "categories": ["all"],
    }
    assert core["pods/exec"]["kind"] == "PodExecOptions" and core["nodes"]["namespaced"] is False
    assert listed("metrics.k8s.io", "v1beta1")["pods"]["verbs"] == ["get", "list"]
    assert listed("apps", "v1")["deployments"] == {
        "name": "deployments", "singularName": "deployment", "namespaced": True, "kind": "Deployment", "verbs": [],
        "shortNames": ["deploy"],
    }


@pytest.mark.parametrize("resource", absent.ABSENT, ids=str)
def test_every_resource_that_is_not_served_is_found_by_its_path(resource: absent.UnservedResource) -> None:
    base = f"/apis/{resource.api_version}" if resource.group else "/api/v1"
    path = f"{base}/namespaces/default/{resource.plural}/x" if resource.namespaced else f"{base}/{resource.plural}/x"
    assert absent.find(path) is resource
    refusal = resource.refusal()
    assert refusal.code == resource.code and refusal.message.endswith(f"are not served by the lab's API. {resource.advice}")
    assert listed(resource.group, resource.version)[resource.plural]["verbs"] == []
