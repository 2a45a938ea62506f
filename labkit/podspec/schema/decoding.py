"""What a strict JSON decoder says of an object, and what it silently makes of it.

Wording: Go's encoding/json (UnmarshalTypeError), sigs.k8s.io/json's strict errors, and apimachinery's unmarshallers of Quantity,
Time and IntOrString.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from labkit.podspec import schema
from labkit.podspec.quantity import canonical, problem
from labkit.podspec.schema import Field

GO_SCALARS = {"string": "string", "boolean": "bool", "bytes": "[]uint8"}
GO_NAMED = {
    "quantity": "resource.Quantity",
    "int-or-string": "intstr.IntOrString",
    "time": "v1.Time",
    "microtime": "v1.MicroTime",
}
GO_ALIASES = {  # strings and maps that have types of their own in k8s.io/api
    "accessModes": "v1.PersistentVolumeAccessMode", "add": "v1.Capability", "allocatable": "v1.ResourceList",
    "capacity": "v1.ResourceList", "dnsPolicy": "v1.DNSPolicy", "drop": "v1.Capability", "effect": "v1.TaintEffect",
    "imagePullPolicy": "v1.PullPolicy", "limits": "v1.ResourceList", "medium": "v1.StorageMedium",
    "mountPropagation": "v1.MountPropagationMode", "overhead": "v1.ResourceList", "PodOS.name": "v1.OSName",
    "persistentVolumeReclaimPolicy": "v1.PersistentVolumeReclaimPolicy", "preemptionPolicy": "v1.PreemptionPolicy",
    "procMount": "v1.ProcMountType", "protocol": "v1.Protocol", "requests": "v1.ResourceList", "scheme": "v1.URIScheme",
    "terminationMessagePolicy": "v1.TerminationMessagePolicy", "uid": "types.UID", "volumeMode": "v1.PersistentVolumeMode",
    "Container.restartPolicy": "v1.ContainerRestartPolicy", "HostPathVolumeSource.type": "v1.HostPathType",
    "NodeSelectorRequirement.operator": "v1.NodeSelectorOperator", "PodSpec.restartPolicy": "v1.RestartPolicy",
    "SeccompProfile.type": "v1.SeccompProfileType", "Secret.type": "v1.SecretType",
    "Toleration.operator": "v1.TolerationOperator",
}
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([.,]\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
LAYOUT = "2006-01-02T15:04:05Z07:00"
SHOWN_UNSET = ("eventTime", "firstTimestamp", "lastProbeTime", "lastTimestamp", "lastTransitionTime")
"""Times that Go writes as null where they are not set."""


class Undecodable(ValueError):
    """An object that cannot be read as its kind; `str()` is what the decoder says, `words` the same without the kind. `restored`:
    what the converter says that reads patched objects (apimachinery's runtime.DefaultUnstructuredConverter)."""

    def __init__(self, words: str, restored: str = "", about: str = "") -> None:
        super().__init__(about + words)
        self.words, self.restored = words, restored or words


def decoding_error(resource: str, obj: Any) -> str | None:
    """Why an object cannot be read as one of that resource (HTTP 400), in kube-apiserver's words; None if it can be."""
    try:
        decoded(resource, obj)
    except Undecodable as refused:
        return str(refused)
    return None


def decoded(resource: str, obj: Any, *, in_place: bool = False) -> dict[str, Any]:
    """The object as decoding and encoding it again leaves it: without unknown fields, nulls, empty lists and maps; amounts and
    moments as Kubernetes writes them. A copy, or the object itself changed. Raises Undecodable."""
    kind = schema.KINDS.get(resource, resource)
    version = "coordination.k8s.io/v1" if kind == "Lease" else "v1"
    reader = _Reader(in_place)
    try:
        if not isinstance(obj, dict):
            raise Undecodable(f"json: cannot unmarshal {_word(obj)} into Go value of type v1.{kind}")
        return reader.object(obj, schema.full_name(kind))
    except Undecodable as refused:
        about = f'{kind} in version "{version}" cannot be handled as a {kind}: '
        raise Undecodable(refused.words, refused.restored, about) from None


def read_value(value: Any, field: Field) -> Any:
    """One value of a field as `decoded` leaves it. Raises Undecodable."""
    reader = _Reader(in_place=False)
    reader.path.append(field.name)
    return reader.value(value, field)


def unknown_fields(resource: str, obj: Any) -> list[str]:
    """`unknown field "spec.containers[0].imagee"` for each field that the kind does not have, in the object's order."""
    kind = schema.KINDS.get(resource, resource)
    visited = schema.visit(kind, obj)
    return [f'unknown field "{path}"' for path, holder, name, _ in visited if name not in schema.fields(holder)]


class _Reader:
    """Reads one object. `path` is where it is, for what it says when it stops."""

    def __init__(self, in_place: bool) -> None:
        self.in_place = in_place
        self.path: list[str] = []
        self.struct = ""

    def object(self, obj: dict[str, Any], ref: str) -> dict[str, Any]:
        fields, struct = schema.fields(ref), ref.rpartition(".")[2]
        read: dict[str, Any] = {}
        for key, value in obj.items():
            field = fields.get(key)
            if field is None:
                continue
            if value is None:
                if key in SHOWN_UNSET:
                    read[key] = None
                continue
            self.path.append(key)
            self.struct = struct
            value = self.value(value, field)
            self.path.pop()
            if value or field.type not in ("array", "map") or field.required:
                read[key] = value
        if not self.in_place:
            return read
        obj.clear()
        obj.update(read)
        return obj

    def value(self, value: Any, field: Field) -> Any:
        kind, word = field.type, _word(value)
        if kind == "object":
            return self.object(value, field.ref) if isinstance(value, dict) else self.stop(word, field)
        if kind == "string" or kind == "boolean":
            return value if word == GO_SCALARS[kind] else self.stop(word, field)
        if kind == "array":
            return self.array(value, field) if isinstance(value, list) else self.stop(word, field)
        if kind == "map":
            return self.map(value, field) if isinstance(value, dict) else self.stop(word, field)
        if kind == "integer":
            wrong = _not_whole(value, field.format)
            return self.stop(wrong, field) if wrong else value
        if kind == "bytes":
            return _bytes(value) if word == "string" else self.stop(word, field)
        return _special(value, kind, word)

    def array(self, value: list[Any], field: Field) -> list[Any]:
        assert field.items is not None
        items, struct = [], self.struct
        for item in value:
            self.struct = struct
            items.append(_zero(field.items) if item is None else self.value(item, field.items))
        if not self.in_place:
            return items
        value[:] = items
        return value

    def map(self, value: dict[str, Any], field: Field) -> dict[str, Any]:
        assert field.items is not None
        inner = field.items
        items = {key: _zero(inner) if item is None else self.value(item, inner) for key, item in value.items()}
        if not self.in_place:
            return items
        value.update(items)
        return value

    def stop(self, word: str, field: Field) -> Any:
        name, where = self.path[-1], f"{self.struct}.{'.'.join(self.path)}"
        alias = GO_ALIASES.get(f"{self.struct}.{name}") or GO_ALIASES.get(name)
        kind = go_type(field)
        if alias and (field.type == "map") == (alias == "v1.ResourceList"):
            kind = alias if field.type == "map" else kind.replace("string", alias)
        words = f"json: cannot unmarshal {word} into Go struct field {where} of type {kind}"
        raise Undecodable(words, _restored(word, field, kind))


def _restored(word: str, field: Field, kind: str) -> str:
    """What apimachinery's converter says of a value that does not fit a field."""
    holders = {"object": "struct from:", "array": "slice from", "bytes": "slice from", "map": "map from"}
    found = word.partition(" ")[0]
    if field.type in holders:
        names = {"array": "slice", "object": "map", "number": "int64"}
        return f"cannot restore {holders[field.type]} {names.get(found, found)}"
    if found == "number" and field.type in ("string", "integer"):
        return f"cannot convert {'int64' if field.type == 'string' else 'float64'} to {kind}"
    return f"unrecognized type: {field.format or GO_SCALARS[field.type]}"


def go_type(field: Field) -> str:
    """The Go type that Kubernetes has for a field: "[]v1.ContainerPort"."""
    if field.type == "array" and field.items:
        return f"[]{go_type(field.items)}"
    if field.type == "map" and field.items:
        return f"map[string]{go_type(field.items)}"
    if field.type == "object":
        return f"v1.{field.ref.rpartition('.')[2]}"
    if field.type == "integer":
        return field.format
    return GO_SCALARS.get(field.type) or GO_NAMED.get(field.type, "v1.FieldsV1")


def _word(value: Any) -> str:
    if isinstance(value, str):
        return "string"
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, (int, float)) else "array" if isinstance(value, list) else "object"


def _zero(field: Field) -> Any:
    """What null becomes inside a list or map."""
    zeros: dict[str, Any] = {"object": {}, "map": {}, "array": [], "integer": 0, "boolean": False, "quantity": "0"}
    zero = zeros.get(field.type, "")
    return type(zero)() if isinstance(zero, (dict, list)) else zero


def _special(value: Any, kind: str, word: str) -> Any:
    """Types that read themselves: they do not say where they stand."""
    if kind == "quantity":
        text = value.strip() if isinstance(value, str) else _number(value) if word == "number" else ""
        if message := problem(text):
            raise Undecodable(message)
        return canonical(text)
    if kind == "int-or-string" and word != "string" and (wrong := _not_whole(value, "int32")):
        raise Undecodable(f"json: cannot unmarshal {wrong} into Go value of type int32")
    if kind in ("time", "microtime"):
        if word != "string":
            raise Undecodable(f"json: cannot unmarshal {word} into Go value of type string")
        return read_time(value, kind == "microtime")
    return value


def _number(value: int | float) -> str:
    """The number as it stood in the JSON, as near as can be."""
    return repr(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e21 else repr(value)


def _not_whole(value: Any, width: str) -> str:
    """What to say of a value that is no integer of that width; "" if it is one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return _word(value)
    bits = 32 if width == "int32" else 64
    if isinstance(value, float) or not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
        return f"number {value!r}"
    return ""


def _bytes(value: str) -> str:
    try:
        base64.b64decode(re.sub(r"[\r\n]", "", value), validate=True)
    except (binascii.Error, ValueError):
        bad = re.search(r"[^A-Za-z0-9+/\r\n]", value)
        raise Undecodable(f"illegal base64 data at input byte {bad.start() if bad else len(value)}") from None
    return value


@lru_cache(maxsize=1024)
def read_time(text: str, micro: bool = False) -> str:
    """A moment as Kubernetes writes it. Raises Undecodable."""
    moment = _moment(text, micro)
    if moment is None:
        raise Undecodable(f'parsing time "{text}" as "{LAYOUT}": cannot parse "{text}" as "2006"')
    return moment


def _moment(text: str, micro: bool) -> str | None:
    """A moment as Kubernetes writes it, in UTC; None if it is none."""
    if not MOMENT.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text.replace(",", ".")).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment.isoformat(timespec="microseconds" if micro else "seconds").replace("+00:00", "Z")
