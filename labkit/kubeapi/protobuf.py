"""Bodies in Kubernetes' protobuf, which kubectl sends for what `kubectl create` makes of its arguments and for DeleteOptions.

Only the kinds are read that it sends so; the answer to all others is 415. The frame is apimachinery's
(pkg/runtime/serializer/protobuf), field numbers are those of k8s.io/api's and apimachinery's generated.proto.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from labkit.kubeapi import status

MAGIC = b"k8s\x00"
MAX_FIELDS = 500_000


@dataclass(frozen=True)
class Known:
    """A field: its name in JSON; text, bytes, int, bool, time, json, or a message's name; a list or a map of those."""

    name: str
    type: str
    many: str = ""


def _message(**numbers: tuple[str, int] | tuple[str, int, str]) -> dict[int, Known]:
    return {given[1]: Known(name, given[0], *given[2:]) for name, given in numbers.items()}


MESSAGES: dict[str, dict[int, Known]] = {
    "Unknown": {1: Known("typeMeta", "TypeMeta"), 2: Known("raw", "raw"), 3: Known("contentEncoding", "text")},
    "TypeMeta": _message(apiVersion=("text", 1), kind=("text", 2)),
    "ObjectMeta": _message(
        name=("text", 1), generateName=("text", 2), namespace=("text", 3), uid=("text", 5), resourceVersion=("text", 6),
        generation=("int", 7), creationTimestamp=("Time", 8), deletionTimestamp=("Time", 9),
        deletionGracePeriodSeconds=("int", 10), labels=("text", 11, "map"), annotations=("text", 12, "map"),
        ownerReferences=("OwnerReference", 13, "list"), finalizers=("text", 14, "list"),
        managedFields=("ManagedFieldsEntry", 17, "list"),
    ),
    "Time": _message(seconds=("int", 1), nanos=("int", 2)),
    "OwnerReference": _message(kind=("text", 1), name=("text", 3), uid=("text", 4), apiVersion=("text", 5),
                               controller=("bool", 6), blockOwnerDeletion=("bool", 7)),
    "ManagedFieldsEntry": _message(manager=("text", 1), operation=("text", 2), apiVersion=("text", 3), time=("Time", 4),
                                   fieldsType=("text", 6), fieldsV1=("FieldsV1", 7), subresource=("text", 8)),
    "FieldsV1": {1: Known("Raw", "json")},
    "ConfigMap": _message(metadata=("ObjectMeta", 1), data=("text", 2, "map"), binaryData=("bytes", 3, "map"),
                          immutable=("bool", 4)),
    "Secret": _message(metadata=("ObjectMeta", 1), data=("bytes", 2, "map"), type=("text", 3), stringData=("text", 4, "map"),
                       immutable=("bool", 5)),
    "Namespace": _message(metadata=("ObjectMeta", 1), spec=("NamespaceSpec", 2), status=("NamespaceStatus", 3)),
    "NamespaceSpec": _message(finalizers=("text", 1, "list")),
    "NamespaceStatus": _message(phase=("text", 1)),
    "ServiceAccount": _message(metadata=("ObjectMeta", 1), secrets=("ObjectReference", 2, "list"),
                               imagePullSecrets=("LocalObjectReference", 3, "list"), automountServiceAccountToken=("bool", 4)),
    "ObjectReference": _message(kind=("text", 1), namespace=("text", 2), name=("text", 3), uid=("text", 4),
                                apiVersion=("text", 5), resourceVersion=("text", 6), fieldPath=("text", 7)),
    "LocalObjectReference": _message(name=("text", 1)),
    "DeleteOptions": _message(gracePeriodSeconds=("int", 1), preconditions=("Preconditions", 2), orphanDependents=("bool", 3),
                              propagationPolicy=("text", 4), dryRun=("text", 5, "list")),
    "Preconditions": _message(uid=("text", 1), resourceVersion=("text", 2)),
}  # fmt: skip
KINDS = ("ConfigMap", "Secret", "Namespace", "ServiceAccount", "DeleteOptions")


def decode(body: bytes) -> dict[str, Any]:
    """The object in a body. Raises ApiError: 400 for what is malformed, 415 for a kind that is not read."""
    try:
        if not body.startswith(MAGIC):
            raise ValueError("it does not begin as Kubernetes' protobuf does")
        envelope = _read(body[len(MAGIC) :], "Unknown", [MAX_FIELDS])
        meta = envelope.get("typeMeta") or {}
        if meta.get("kind") not in KINDS:
            raise status.unsupported_media_type("protobuf", ("application/json", "application/yaml"))
        return {**meta, **_read(envelope.get("raw", b""), meta["kind"], [MAX_FIELDS])}
    except (ValueError, IndexError, OverflowError, OSError, RecursionError) as error:
        raise status.bad_request(f"couldn't get version/kind; protobuf parse error: {error}") from error


def _read(data: bytes, message: str, left: list[int]) -> dict[str, Any]:
    """A message of at most `left` fields, those of its messages included."""
    found: dict[str, Any] = {}
    for number, value in _fields(data, left):
        known = MESSAGES[message].get(number)
        if known is None:
            continue
        if known.many == "map":
            entry = dict(_fields(value, left))
            found.setdefault(known.name, {})[bytes(entry.get(1, b"")).decode()] = _value(entry.get(2, b""), known.type, left)
        elif known.many == "list":
            found.setdefault(known.name, []).append(_value(value, known.type, left))
        else:
            found[known.name] = _value(value, known.type, left)
    # Go writes its zero values: an empty text there is a field that nobody set.
    return {name: value for name, value in found.items() if value not in ("", None)}


def _value(value: Any, kind: str, left: list[int]) -> Any:
    if kind in ("int", "bool"):
        if not isinstance(value, int):
            raise ValueError("a number is missing")
        return bool(value) if kind == "bool" else value - (1 << 64) if value >> 63 else value
    if not isinstance(value, bytes):
        raise ValueError("a text is missing")
    match kind:
        case "text":
            return value.decode()
        case "raw":
            return value
        case "bytes":
            return b64encode(value).decode()
        case "json":
            return json.loads(value)
    inner = _read(value, kind, left)
    if kind == "Time":
        return datetime.fromtimestamp(inner["seconds"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if inner.get("seconds") else None
    return inner.get("Raw") if kind == "FieldsV1" else inner


def _fields(data: bytes, left: list[int]) -> Iterator[tuple[int, Any]]:
    """Number and raw value of each field in a message."""
    place = 0
    while place < len(data):
        left[0] -= 1
        if left[0] < 0:
            raise ValueError("it has too many fields")
        tag, place = _varint(data, place)
        value: Any
        match tag & 7:
            case 0:
                value, place = _varint(data, place)
            case 2:
                length, place = _varint(data, place)
                if place + length > len(data):
                    raise ValueError("a field is cut short")
                value, place = data[place : place + length], place + length
            case 1 | 5 as wire:
                value, place = None, place + (8 if wire == 1 else 4)
            case wire:
                raise ValueError(f"wire type {wire} is unknown")
        yield tag >> 3, value


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, place
    raise ValueError("a number is too long")
