"""OpenAPI, which kubectl reads to explain kinds, to check manifests and to merge patches: version 2 and version 3.

Both are made of the same definitions (schema.py) and of what api_resources.py serves. Knowledge: Kubernetes' api/openapi-spec.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from labkit.apiserver import api_resources
from labkit.apiserver.api_resources import ApiResource
from labkit.apiserver.discovery import api_groups
from labkit.apiserver.discovery.openapi_protobuf import document
from labkit.podspec import schema

Json = dict[str, Any]
META = "io.k8s.apimachinery.pkg.apis.meta.v1."
STATUS, DELETE_OPTIONS, PATCH = META + "Status", META + "DeleteOptions", META + "Patch"
PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
PRODUCES = ("application/json", "application/yaml")
WRITES = {
    "dryRun": "When present, indicates that modifications should not be persisted. Valid values: All.",
    "fieldManager": "The name of who makes the changes.",
    "fieldValidation": "What to do with unknown and duplicate fields: Ignore, Warn or Strict.",
}
FORCE = {"force": "Whether server-side apply takes fields over from other managers."}
READS = {"pretty": "If 'true', then the output is pretty printed."}
LISTS = {
    "allowWatchBookmarks": "Whether a watch may send BOOKMARK events.",
    "continue": "Where to go on with a list that was cut by `limit`.",
    "fieldSelector": "Restricts the list by the objects' fields.",
    "labelSelector": "Restricts the list by the objects' labels.",
    "limit": "The most objects to answer with.",
    "resourceVersion": "The version that the answer may not be older than.",
    "resourceVersionMatch": "How resourceVersion is applied: Exact or NotOlderThan.",
    "sendInitialEvents": "Whether a watch begins with the objects that are there.",
    "timeoutSeconds": "How long a watch lasts.",
    "watch": "Whether to answer with a stream of events.",
}
DELETES = {
    "dryRun": WRITES["dryRun"],
    "gracePeriodSeconds": "Seconds that the object gets to end.",
    "propagationPolicy": "What becomes of dependents: Orphan, Background or Foreground.",
}
LOGS = {
    "container": "The container; the Pod's only one where it has one.",
    "follow": "Whether to go on with what is written later.",
    "limitBytes": "The most bytes to answer with.",
    "previous": "Whether to read the log of the container's earlier instance.",
    "sinceSeconds": "Only what is at most so old.",
    "sinceTime": "Only what is not older than this moment.",
    "tailLines": "Only so many lines from the end.",
    "timestamps": "Whether each line begins with its moment.",
}
TYPES = dict.fromkeys(
    ("allowWatchBookmarks", "sendInitialEvents", "watch", "force", "follow", "previous", "timestamps"), "boolean"
) | dict.fromkeys(("limit", "timeoutSeconds", "gracePeriodSeconds", "limitBytes", "sinceSeconds", "tailLines"), "integer")


def v2_json() -> Json:
    """The Swagger 2.0 document at /openapi/v2."""
    paths: Json = {}
    for resource in api_resources.RESOURCES:
        for path, operations in _paths(resource):
            paths[path] = {verb: _operation_v2(operation) for verb, operation in operations.items()}
            paths[path]["parameters"] = [_parameter_v2(name, "path") for name in _names(path)]
    return {"swagger": "2.0", "info": _info(), "paths": paths, "definitions": dict(_definitions("#/definitions/"))}


@cache
def v2_protobuf() -> bytes:
    """The same as gnostic's openapi.v2.Document, which kubectl before 1.27 asks for."""
    return document(v2_json())


@cache
def v3_index() -> Json:
    """What /openapi/v3 answers: where each group version's document is, with a hash so that clients may keep it."""
    where: Json = {}
    for version in dict.fromkeys(_place(resource) for resource in api_resources.RESOURCES):
        content = json.dumps(v3(version), sort_keys=True).encode()
        mark = hashlib.sha256(content).hexdigest().upper()
        where[version] = {"serverRelativeURL": f"/openapi/v3/{version}?hash={mark}"}
    return {"paths": where}


def v3(group_version: str) -> Json:
    """The OpenAPI 3.0 document of "api/v1" or "apis/GROUP/VERSION". Raises KeyError for one that is not served."""
    served = [resource for resource in api_resources.RESOURCES if _place(resource) == group_version.strip("/")]
    if not served:
        raise KeyError(group_version)
    paths: Json = {}
    for resource in served:
        for path, operations in _paths(resource):
            paths[path] = {verb: _operation_v3(operation) for verb, operation in operations.items()}
            paths[path]["parameters"] = [_parameter_v3(name, "path") for name in _names(path)]
    schemas = {name: value for name, value in _definitions("#/components/schemas/", version=3) if _belongs(name, served)}
    return {"openapi": "3.0.0", "info": _info(), "paths": paths, "components": {"schemas": schemas}}


def _info() -> Json:
    return {"title": "labkit's stand-in for kube-apiserver", "version": api_groups.NAME}


def _place(resource: ApiResource) -> str:
    return f"apis/{resource.api_version}" if resource.group else f"api/{resource.version}"


def _belongs(name: str, served: list[ApiResource]) -> bool:
    """Whether a definition is of these resources' group: the core's, or those of meta, which are of all."""
    leases = name.startswith("io.k8s.api.coordination.")
    return leases == bool(served[0].group) or not name.startswith("io.k8s.api.")


def _names(path: str) -> list[str]:
    return [step.strip("{}") for step in path.split("/") if step.startswith("{")]


def _paths(resource: ApiResource) -> Iterator[tuple[str, dict[str, Json]]]:
    """Each path of a resource with its operations: what they take, what they answer, and what they are called."""
    base, kind = f"/{_place(resource)}", schema.full_name(resource.kind)
    listed = schema.full_name(f"{resource.kind}List")
    group = "".join(part.capitalize() for part in (resource.group.partition(".")[0] or "core", resource.version))
    scope = "Namespaced" if resource.namespaced else ""

    def operation(action: str, called: str, answer: str, queries: Json, body: str = "", consumes: tuple[str, ...] = ()) -> Json:
        gvk = {"group": resource.group, "kind": resource.kind, "version": resource.version}
        return {
            "id": called, "answer": answer, "queries": queries, "body": body, "consumes": consumes,
            "tag": f"{resource.group.partition('.')[0] or 'core'}_{resource.version}",
            "extensions": {"x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk},
        }

    def changes(what: str) -> dict[str, Json]:
        return {
            "get": operation("get", f"read{what}", kind, READS),
            "put": operation("put", f"replace{what}", kind, WRITES, kind),
            "patch": operation("patch", f"patch{what}", kind, WRITES | FORCE, PATCH, PATCHES),
        }

    what, collection = f"{group}{scope}{resource.kind}", f"{group}Collection{scope}{resource.kind}"
    at = f"{base}/namespaces/{{namespace}}/{resource.plural}" if resource.namespaced else f"{base}/{resource.plural}"
    yield (
        at,
        {
            "get": operation("list", f"list{what}", listed, LISTS),
            "post": operation("post", f"create{what}", kind, WRITES, kind),
            "delete": operation("deletecollection", f"delete{collection}", STATUS, LISTS | DELETES, DELETE_OPTIONS),
        },
    )
    if resource.namespaced:
        everywhere = operation("list", f"list{group}{resource.kind}ForAllNamespaces", listed, LISTS)
        yield f"{base}/{resource.plural}", {"get": everywhere}
    removal = operation("delete", f"delete{what}", STATUS, DELETES, DELETE_OPTIONS)
    yield f"{at}/{{name}}", {**changes(what), "delete": removal}
    if resource.has_status:
        yield f"{at}/{{name}}/status", changes(f"{what}Status")
    if "binding" in resource.subresources:
        binding = schema.full_name("Binding")
        yield f"{at}/{{name}}/binding", {"post": operation("post", f"create{what}Binding", binding, WRITES, binding)}
    if "log" in resource.subresources:
        yield f"{at}/{{name}}/log", {"get": operation("get", f"read{what}Log", "", LOGS)}


def _parameter_v2(name: str, where: str, about: str = "") -> Json:
    made: Json = {"name": name, "in": where, "type": TYPES.get(name, "string"), "uniqueItems": True}
    made["description"] = about or _about(name)
    return made | ({"required": True} if where == "path" else {})


def _parameter_v3(name: str, where: str, about: str = "") -> Json:
    made: Json = {"name": name, "in": where, "description": about or _about(name)}
    made["schema"] = {"type": TYPES.get(name, "string"), "uniqueItems": True}
    return made | ({"required": True} if where == "path" else {})


def _about(name: str) -> str:
    return "name of the object" if name == "name" else "object name and auth scope, such as for teams and projects"


def _operation_v2(operation: Json) -> Json:
    parameters = [_parameter_v2(name, "query", about) for name, about in operation["queries"].items()]
    if operation["body"]:
        shape = {"$ref": f"#/definitions/{operation['body']}"}
        parameters.append({"name": "body", "in": "body", "required": operation["body"] != DELETE_OPTIONS, "schema": shape})
    answer = {"$ref": f"#/definitions/{operation['answer']}"} if operation["answer"] else {"type": "string"}
    return {
        "tags": [operation["tag"]],
        "operationId": operation["id"],
        "consumes": list(operation["consumes"] or ("*/*",)),
        "produces": list(PRODUCES if operation["answer"] else ("text/plain",)),
        "parameters": parameters,
        "responses": {code: {"description": words, "schema": answer} for code, words in _codes(operation)}
        | {"401": {"description": "Unauthorized"}},
        **operation["extensions"],
    }


def _operation_v3(operation: Json) -> Json:
    answer = {"$ref": f"#/components/schemas/{operation['answer']}"} if operation["answer"] else {"type": "string"}
    content = {kind: {"schema": answer} for kind in (PRODUCES if operation["answer"] else ("text/plain",))}
    made: Json = {
        "tags": [operation["tag"]],
        "operationId": operation["id"],
        "parameters": [_parameter_v3(name, "query", about) for name, about in operation["queries"].items()],
        "responses": {code: {"description": words, "content": content} for code, words in _codes(operation)}
        | {"401": {"description": "Unauthorized"}},
        **operation["extensions"],
    }
    if operation["body"]:
        shape = {"schema": {"$ref": f"#/components/schemas/{operation['body']}"}}
        accepted = operation["consumes"] or ("application/json", "application/yaml")
        made["requestBody"] = {"content": dict.fromkeys(accepted, shape), "required": operation["body"] != DELETE_OPTIONS}
    return made


def _codes(operation: Json) -> Iterator[tuple[str, str]]:
    action = operation["extensions"]["x-kubernetes-action"]
    yield "200", "OK"
    if action in ("post", "put", "patch"):
        yield "201", "Created"
    if action in ("post", "delete"):
        yield "202", "Accepted"


def _definitions(prefix: str, version: int = 2) -> Iterator[tuple[str, Json]]:
    for name, definition in schema.definitions().items():
        if name == schema.QUANTITY and version == 3:
            definition = {"description": definition["description"], "oneOf": [{"type": "string"}, {"type": "number"}]}
        elif name == schema.INT_OR_STRING and version == 3:
            either = [{"type": "integer"}, {"type": "string"}]
            definition = {"description": definition["description"], "format": "int-or-string", "oneOf": either}
        elif "properties" in definition:
            properties = {field: _property(value, prefix, version) for field, value in definition["properties"].items()}
            definition = {**definition, "properties": properties}
        yield name, definition


def _property(value: Json, prefix: str, version: int) -> Json:
    """A field's schema with its references turned to `prefix`; a reference that says nothing says what its kind says."""
    if "$ref" in value:
        name = value["$ref"].removeprefix("#/definitions/")
        about = value.get("description") or schema.definitions()[name].get("description", "")
        if version == 2:
            return {"description": about, "$ref": prefix + name}
        return {"description": about, "allOf": [{"$ref": prefix + name}]}
    made = dict(value)
    for inner in ("items", "additionalProperties"):
        if inner in value:
            made[inner] = _reference(value[inner], prefix)
    return made


def _reference(value: Json, prefix: str) -> Json:
    return {"$ref": prefix + value["$ref"].removeprefix("#/definitions/")} if "$ref" in value else value
