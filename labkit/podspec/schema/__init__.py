"""The types of what the API serves: each kind's fields, how they are written, and how their lists are merged.

Read from schema.json, which make.py makes. A kind is named by its short name ("Pod", "Container") or its name in
Kubernetes' OpenAPI ("io.k8s.api.core.v1.Pod").
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("schema.json")
KINDS = {  # resource → kind
    "configmaps": "ConfigMap",
    "events": "Event",
    "leases": "Lease",
    "namespaces": "Namespace",
    "nodes": "Node",
    "persistentvolumeclaims": "PersistentVolumeClaim",
    "persistentvolumes": "PersistentVolume",
    "pods": "Pod",
    "secrets": "Secret",
    "serviceaccounts": "ServiceAccount",
}
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
SCALARS = {
    QUANTITY: "quantity",
    INT_OR_STRING: "int-or-string",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": "time",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": "microtime",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": "any",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Patch": "any",
}


@dataclass(frozen=True)
class Field:
    """A field of a kind, or the item of a list or map.

    type: object (its kind is `ref`), array, map (both of `items`), string, boolean, integer (`format` int32 or int64), bytes,
    quantity, int-or-string, time, microtime, any. merge_key, strategy: strategic-merge patch's; an empty strategy replaces.
    list_type, map_keys, atomic: server-side apply's (atomic, set or map; the keys of a map; a struct taken whole).
    enum: the values that a string may have; those of a list are its items'.
    """

    name: str
    type: str
    format: str = ""
    ref: str = ""
    items: Field | None = None
    merge_key: str = ""
    strategy: tuple[str, ...] = ()
    list_type: str = ""
    map_keys: tuple[str, ...] = ()
    atomic: bool = False
    required: bool = False
    default: Any = None
    enum: tuple[str, ...] = ()


def full_name(kind: str) -> str:
    """ "Pod" → "io.k8s.api.core.v1.Pod". Raises KeyError for a kind that is not served."""
    return kind if kind in definitions() else _short_names()[kind]


@cache
def fields(kind: str) -> Mapping[str, Field]:
    """A kind's fields by their names in JSON. Raises KeyError for a kind that is not served."""
    definition = definitions()[full_name(kind)]
    required = definition.get("required", ())
    return {name: _field(name, value, name in required) for name, value in definition.get("properties", {}).items()}


def field(kind: str, name: str) -> Field | None:
    """The field of that name; None if the kind has none such. Raises KeyError for a kind that is not served."""
    return fields(kind).get(name)


def walk(kind: str, path: Iterable[str | int]) -> Field | None:
    """The field at a path such as ("spec", "containers", 0, "ports"): an item for an index or a map's key; None where none is."""
    found: Field | None = Field("", "object", ref=full_name(kind))
    for step in path:
        if found is None:
            return None
        found = field(found.ref, str(step)) if found.type == "object" else found.items
    return found


def visit(kind: str, obj: Any, path: str = "") -> Iterator[tuple[str, str, str, Any]]:
    """(path, kind, name, value) of each field of an object and of the objects in it, known to its kind or not, in the object's
    order; what has not the type of its field is passed over."""
    known = fields(kind)
    for name, value in obj.items() if isinstance(obj, dict) else ():
        at = f"{path}.{name}" if path else str(name)
        yield at, kind, name, value
        found = known.get(name)
        inner = found.items if found and found.items else found
        if found is None or inner is None or inner.type != "object":
            continue
        if found.type == "object":
            yield from visit(inner.ref, value, at)
        elif found.type == "array" and isinstance(value, list):
            for number, item in enumerate(value):
                yield from visit(inner.ref, item, f"{at}[{number}]")
        elif found.type == "map" and isinstance(value, dict):
            for key, item in value.items():
                yield from visit(inner.ref, item, f"{at}.{key}")


def merge_key(kind: str, path: Iterable[str | int]) -> str:
    """The key by which strategic merge patch merges the list at a path; "" where the list is replaced."""
    found = walk(kind, path)
    return found.merge_key if found else ""


def description(kind: str, name: str) -> str:
    """What the API says of a field, else of its kind."""
    value = definitions()[full_name(kind)]["properties"][name]
    of_kind = definitions().get(value.get("$ref", "").removeprefix("#/definitions/"), {})
    return str(value.get("description") or of_kind.get("description", ""))


@cache
def definitions() -> dict[str, dict[str, Any]]:
    """Every kind as an OpenAPI v2 schema, by its full name. Shared: not to be changed."""
    made: dict[str, dict[str, Any]] = json.loads(PATH.read_text(encoding="utf-8"))["definitions"]
    return made


def _field(name: str, value: Mapping[str, Any], required: bool = False) -> Field:
    ref = value.get("$ref", "").removeprefix("#/definitions/")
    common: dict[str, Any] = {"name": name, "required": required, "default": value.get("default")}
    if ref:
        atomic = definitions()[ref].get("x-kubernetes-map-type") == "atomic"
        return Field(**common, type=SCALARS.get(ref, "object"), ref="" if ref in SCALARS else ref, atomic=atomic)
    if value["type"] == "array":
        return Field(
            **common,
            type="array",
            items=_field("", value["items"]),
            enum=tuple(value["items"].get("enum", ())),
            merge_key=value.get("x-kubernetes-patch-merge-key", ""),
            strategy=tuple(filter(None, value.get("x-kubernetes-patch-strategy", "").split(","))),
            list_type=value.get("x-kubernetes-list-type", "atomic"),
            map_keys=tuple(value.get("x-kubernetes-list-map-keys", ())),
        )
    if value["type"] == "object":
        return Field(**common, type="map", items=_field("", value["additionalProperties"]))
    kind = "bytes" if value.get("format") == "byte" else value["type"]
    return Field(**common, type=kind, format=value.get("format", ""), enum=tuple(value.get("enum", ())))


@cache
def _short_names() -> dict[str, str]:
    return {name.rpartition(".")[2]: name for name in definitions()}
