"""What is filled in where an object is silent: held against objects that a real API server completed."""

import copy

import pytest
from hypothesis import given, settings

from labkit.apiserver.objects import object_defaults
from labkit.podspec import schema
from labkit.podspec.schema.decoding import decoding_error
from tests.truth import truth
from tests.unit.kubeapi_objects import WILD, container, pod, shaped

SERVER = ("tolerations", "priority", "preemptionPolicy", "nodeName", "serviceAccount", "serviceAccountName")


def filled(resource, obj):
    whole = copy.deepcopy(obj)
    object_defaults.fill(resource, whole)
    return whole


def without_defaults(full):
    """What its author wrote of an object: the fields of the container and Pod that are no defaults."""
    names = ("command", "args", "env", "image", "name", "ports", "resources", "volumeMounts", "securityContext")
    spec = full["spec"]
    keep = {
        key: spec[key]
        for key in ("volumes", "restartPolicy", "dnsPolicy", "terminationGracePeriodSeconds", *SERVER)
        if key in spec
    }
    for kind in ("containers", "initContainers"):
        if kind in spec:
            keep[kind] = [{name: each[name] for name in names if name in each} for each in spec[kind]]
    return {**full, "spec": keep}


def test_a_pod_that_a_real_server_completed_is_complete():
    real = truth("shop.json")["pod"]
    assert filled("pods", real) == real


def test_what_its_author_wrote_is_completed_as_a_real_server_did():
    real = truth("shop.json")["pod"]
    written = without_defaults(real)
    assert "schedulerName" not in written["spec"] and "imagePullPolicy" not in written["spec"]["containers"][0]
    assert filled("pods", written) == real


def test_a_real_node_is_complete():
    real = truth("node.json")
    assert filled("nodes", real) == real


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("a", "Always"),
        ("a:latest", "Always"),
        ("a:1", "IfNotPresent"),
        ("host:5000/a", "Always"),
        ("host:5000/a:2", "IfNotPresent"),
        ("a@sha256:" + "0" * 64, "IfNotPresent"),
        ("a:latest@sha256:" + "0" * 64, "Always"),
    ],
)
def test_what_moves_is_pulled_always(image, policy):
    assert filled("pods", pod(container(image=image)))["spec"]["containers"][0]["imagePullPolicy"] == policy


def test_each_field_of_a_container():
    got = filled(
        "pods",
        pod(
            container(
                ports=[{"containerPort": 80}],
                env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                livenessProbe={"httpGet": {"port": 80}},
                lifecycle={"preStop": {"httpGet": {"port": 81}}},
                resources={"limits": {"cpu": 0.5, "memory": "1024Mi"}, "requests": {"cpu": "250m"}},
            ),
            hostNetwork=True,
        ),
    )["spec"]["containers"][0]
    assert got["ports"] == [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]
    assert got["env"][0]["valueFrom"]["fieldRef"] == {"apiVersion": "v1", "fieldPath": "metadata.name"}
    assert got["livenessProbe"] == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    assert got["lifecycle"]["preStop"]["httpGet"] == {"port": 81, "path": "/", "scheme": "HTTP"}
    assert got["resources"] == {"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "250m", "memory": "1Gi"}}


def test_each_type_of_volume():
    volumes = [
        {"name": "a"},
        {"name": "b", "hostPath": {"path": "/x"}},
        {"name": "c", "configMap": {"name": "c"}},
        {"name": "d", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
        {
            "name": "e",
            "downwardAPI": {"items": [{"path": "p", "resourceFieldRef": {"containerName": "app", "resource": "limits.cpu"}}]},
        },
        {"name": "f", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"]}}}},
    ]
    a, b, c, d, e, f = filled("pods", pod(volumes=volumes))["spec"]["volumes"]
    assert a == {"name": "a", "emptyDir": {}}
    assert b["hostPath"] == {"path": "/x", "type": ""}
    assert c["configMap"] == {"name": "c", "defaultMode": 0o644}
    assert d["projected"] == {
        "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}],
        "defaultMode": 0o644,
    }
    assert e["downwardAPI"]["items"][0]["resourceFieldRef"]["divisor"] == "0"
    assert f["ephemeral"]["volumeClaimTemplate"]["spec"]["volumeMode"] == "Filesystem"


def test_a_whole_pods_requests_are_its_containers_sum_or_its_limit():
    asked = container(resources={"requests": {"cpu": "100m"}})
    spec = filled(
        "pods",
        pod(
            asked, container(name="b", resources={"requests": {"cpu": "0.2"}}), resources={"limits": {"cpu": 1, "memory": "1Gi"}}
        ),
    )
    assert spec["spec"]["resources"]["requests"] == {"cpu": "300m", "memory": "1Gi"}


def test_other_kinds():
    assert filled("secrets", {"stringData": {"a": "x"}, "data": {"b": "eQ=="}}) == {
        "type": "Opaque",
        "data": {"b": "eQ==", "a": "eA=="},
    }
    namespace = filled("namespaces", {"metadata": {"name": "n"}})
    assert namespace["metadata"]["labels"] == {"kubernetes.io/metadata.name": "n"}
    assert namespace["spec"] == {} and namespace["status"] == {"phase": "Active"}
    claim = filled("persistentvolumeclaims", {"spec": {}})
    assert claim["spec"]["volumeMode"] == "Filesystem" and claim["status"]["phase"] == "Pending"
    assert filled("persistentvolumes", {"spec": {}})["spec"]["persistentVolumeReclaimPolicy"] == "Retain"


def test_decoding_leaves_out_what_go_leaves_out():
    got = filled("pods", pod(container(env=[], tty=None, imagee="x"), nodeSelector={}, meta={"labels": {}}))
    assert "labels" not in got["metadata"] and "nodeSelector" not in got["spec"]
    assert not {"env", "tty", "imagee"} & set(got["spec"]["containers"][0])


@pytest.mark.parametrize("resource", sorted(schema.KINDS))
@settings(max_examples=12, deadline=None, database=None)
@given(obj=WILD)
def test_no_json_whatever_makes_it_fail(resource, obj):
    if isinstance(obj, dict):
        object_defaults.fill(resource, obj)


@pytest.mark.parametrize("resource", sorted(schema.KINDS))
def test_filling_twice_is_filling_once(resource):
    @settings(max_examples=8, deadline=None, database=None)
    @given(obj=shaped(schema.KINDS[resource]))
    def check(obj):
        once = filled(resource, obj)
        if decoding_error(resource, obj) is None:
            assert filled(resource, once) == once

    check()
