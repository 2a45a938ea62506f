"""What kubectl reads of the API's types: made from the `kubernetes` package, and the same in each of its forms."""

import json

import kubernetes
import pytest

from authoring.generate import api_schema
from labkit.apiserver import api_resources
from labkit.apiserver.discovery import openapi
from labkit.podspec import schema
from labkit.util.protowire import fields


@pytest.mark.skipif(
    api_schema.PATH.read_text().partition(",")[0] != f'{{"source":"kubernetes {kubernetes.__version__}"',
    reason="schema.json was made from another version of the kubernetes package",
)
def test_the_stored_schema_is_the_one_that_the_package_gives():
    assert api_schema.text(api_schema.make()) == api_schema.PATH.read_text(encoding="utf-8")


def test_the_stored_schema_is_small_and_whole():
    assert api_schema.PATH.stat().st_size < 600_000
    for kind in schema.definitions():
        for field in schema.fields(kind).values():
            while field.items:
                field = field.items
            assert field.type != "object" or field.ref in schema.definitions()


def test_every_served_kind_is_there():
    assert {resource.plural: resource.kind for resource in api_resources.RESOURCES} == schema.KINDS


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (("spec", "containers"), "name"),
        (("spec", "containers", 0, "ports"), "containerPort"),
        (("spec", "containers", 0, "env"), "name"),
        (("spec", "initContainers", 1, "volumeMounts"), "mountPath"),
        (("spec", "volumes"), "name"),
        (("spec", "tolerations"), ""),
        (("spec", "containers", 0, "command"), ""),
        (("metadata", "ownerReferences"), "uid"),
        (("status", "conditions"), "type"),
        (("status", "nothing"), ""),
        (("metadata", "labels", "a", "b"), ""),
    ],
)
def test_how_strategic_merge_patch_merges_a_list(path, key):
    assert schema.merge_key("Pod", path) == key


def test_how_server_side_apply_sees_a_list():
    ports = schema.walk("Pod", ("spec", "containers", 0, "ports"))
    assert (ports.list_type, ports.map_keys) == ("map", ("containerPort", "protocol"))
    assert schema.field("ContainerPort", "protocol").default == "TCP"
    assert schema.field("PodSpec", "volumes").strategy == ("merge", "retainKeys")
    assert schema.field("ObjectMeta", "finalizers").list_type == "set"
    assert schema.field("PodSpec", "tolerations").list_type == "atomic"
    assert schema.field("EnvVarSource", "secretKeyRef").atomic
    with pytest.raises(KeyError):
        schema.field("Deployment", "spec")


def test_types_that_the_packages_models_have_lost():
    assert schema.field("ContainerPort", "containerPort").format == "int32"
    assert schema.field("PodSpec", "terminationGracePeriodSeconds").format == "int64"
    assert schema.walk("Pod", ("spec", "containers", 0, "resources", "limits", "cpu")).type == "quantity"
    assert schema.field("LeaseSpec", "renewTime").type == "microtime"
    assert schema.field("Secret", "data").items.type == "bytes"
    assert schema.field("HTTPGetAction", "port").type == "int-or-string"


def references(value):
    if isinstance(value, dict):
        yield from ([value["$ref"]] if isinstance(value.get("$ref"), str) else [])
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_version_2_has_every_path_and_no_dangling_reference():
    document = json.loads(json.dumps(openapi.v2_json()))
    assert set(references(document)) <= {f"#/definitions/{name}" for name in document["definitions"]}
    for resource in api_resources.RESOURCES:
        place = f"/apis/{resource.api_version}" if resource.group else "/api/v1"
        path = f"{place}{'/namespaces/{namespace}' if resource.namespaced else ''}/{resource.plural}/{{name}}"
        patch = document["paths"][path]["patch"]
        assert {"dryRun", "fieldValidation", "force"} <= {parameter["name"] for parameter in patch["parameters"]}
        assert patch["x-kubernetes-action"] == "patch"
        assert patch["x-kubernetes-group-version-kind"]["kind"] == resource.kind
    named = [
        operation["operationId"]
        for path in document["paths"].values()
        for verb, operation in path.items()
        if verb != "parameters"
    ]
    assert len(named) == len(set(named))


def test_version_3_has_a_document_for_each_group_that_says_the_same():
    index = openapi.v3_index()["paths"]
    assert set(index) == {"api/v1", "apis/coordination.k8s.io/v1"}
    two = openapi.v2_json()
    paths = {}
    for place, found in index.items():
        assert found["serverRelativeURL"].startswith(f"/openapi/v3/{place}?hash=")
        document = openapi.v3(place)
        schemas = document["components"]["schemas"]
        assert set(references(document)) <= {f"#/components/schemas/{name}" for name in schemas}
        paths |= document["paths"]
        patches = [path["patch"] for path in document["paths"].values() if "patch" in path]
        assert all("application/strategic-merge-patch+json" in patch["requestBody"]["content"] for patch in patches)
    assert set(paths) == set(two["paths"])
    containers = openapi.v3("api/v1")["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name" and containers["description"]
    with pytest.raises(KeyError):
        openapi.v3("apis/apps/v1")


def of(data, number):
    return [value for found, value in fields(data) if found == number]


def test_protobuf_says_what_version_2_says():
    document, two = openapi.v2_protobuf(), openapi.v2_json()
    assert of(document, 1) == [b"2.0"]
    (definitions,) = of(document, 9)
    kinds = {of(named, 1)[0].decode(): of(named, 2)[0] for named in of(definitions, 1)}
    assert set(kinds) == set(two["definitions"])
    spec = two["definitions"]["io.k8s.api.core.v1.PodSpec"]
    (properties,) = of(kinds["io.k8s.api.core.v1.PodSpec"], 25)
    written = {of(named, 1)[0].decode(): of(named, 2)[0] for named in of(properties, 1)}
    assert set(written) == set(spec["properties"])
    assert of(written["containers"], 4) == [spec["properties"]["containers"]["description"].encode()]
    extensions = {of(named, 1)[0].decode(): json.loads(of(of(named, 2)[0], 2)[0]) for named in of(written["containers"], 31)}
    assert extensions["x-kubernetes-patch-merge-key"] == "name"
    (of_container,) = of(kinds["io.k8s.api.core.v1.Container"], 25)
    policy = {of(named, 1)[0]: of(named, 2)[0] for named in of(of_container, 1)}[b"imagePullPolicy"]
    listed = [json.loads(of(value, 2)[0]) for value in of(policy, 20)]
    assert listed == two["definitions"]["io.k8s.api.core.v1.Container"]["properties"]["imagePullPolicy"]["enum"]
    (paths,) = of(document, 8)
    assert {of(named, 1)[0].decode() for named in of(paths, 2)} == set(two["paths"])
