"""Bodies in Kubernetes' protobuf, which kubectl sends for what `kubectl create` makes of its arguments and for DeleteOptions.

Every kind that is served can be read; the answer to all others is 415, and to a field that is unknown here 400. The frame is
apimachinery's (pkg/runtime/serializer/protobuf).
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from labkit.apiserver import api_errors, api_resources
from labkit.util import protowire

MAGIC = b"k8s\x00"
MAX_FIELDS = 500_000


@dataclass(frozen=True)
class Known:
    """A field: its name in JSON ("": the fields of its message stand in the one around it); text, bytes, int, bool, one of
    SPECIAL, or a message's name; "", list or map; and whether an empty value counts."""

    name: str
    type: str
    many: str = ""
    kept: bool = False


FRAME = {
    "Unknown": {
        1: Known("typeMeta", "TypeMeta"),
        2: Known("raw", "raw"),
        3: Known("contentEncoding", "text"),
        4: Known("contentType", "text"),
    },
    "TypeMeta": {1: Known("apiVersion", "text"), 2: Known("kind", "text")},
    "Timestamp": {1: Known("seconds", "int"), 2: Known("nanos", "int")},
    "Quantity": {1: Known("string", "text")},
    "IntOrString": {1: Known("type", "int"), 2: Known("intVal", "int"), 3: Known("strVal", "text")},
    "FieldsV1": {1: Known("Raw", "raw")},
}
KINDS = (*(resource.kind for resource in api_resources.RESOURCES), "Binding", "DeleteOptions", "Eviction")
EMPTY: tuple[Any, ...] = ("", None, 0, {}, [])


@cache
def messages() -> dict[str, dict[int, Known]]:
    """What the fields of each message are, by number (protobuf.json, made by `labkit.apiserver.discovery.protobuf_make`)."""
    made = json.loads(Path(__file__).with_name("protobuf.json").read_text(encoding="utf-8"))
    return FRAME | {name: {int(number): Known(*about) for number, about in fields.items()} for name, fields in made.items()}


def decode(body: bytes) -> dict[str, Any]:
    """The object in a body. Raises ApiError: 400 for what is malformed, 415 for a kind that is not read."""
    try:
        if not body.startswith(MAGIC):
            raise ValueError("it does not begin as Kubernetes' protobuf does")
        envelope = _read(body[len(MAGIC) :], "Unknown", [MAX_FIELDS])
        meta = envelope.get("typeMeta") or {}
        if meta.get("kind") not in KINDS:
            raise api_errors.unsupported_media_type("protobuf", ("application/json", "application/yaml"))
        return {**meta, **_read(envelope.get("raw", b""), meta["kind"], [MAX_FIELDS])}
    except (ValueError, IndexError, OverflowError, OSError, TypeError, RecursionError) as error:
        raise api_errors.bad_request(f"couldn't get version/kind; protobuf parse error: {error}") from error


def _read(data: bytes, message: str, left: list[int]) -> dict[str, Any]:
    """A message of at most `left` fields, those of its messages included."""
    found: dict[str, Any] = {}
    for number, value in _fields(data, left):
        known = messages()[message].get(number)
        if known is None:
            raise ValueError(f"field {number} of {message} is unknown here")
        if known.many == "map":
            entry = dict(_fields(value, left))
            found.setdefault(known.name, {})[bytes(entry.get(1, b"")).decode()] = _value(entry.get(2, b""), known.type, left)
        elif known.many == "list":
            found.setdefault(known.name, []).append(_value(value, known.type, left))
        elif not known.name:
            found |= _value(value, known.type, left)
        elif (read := _value(value, known.type, left)) not in EMPTY or (known.kept and read is not None):
            found[known.name] = read  # Go writes its zero values too: they are fields that nobody set
    return found


def _value(value: Any, kind: str, left: list[int]) -> Any:
    """A field's value as JSON has it; None for a time that is not set."""
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
        case "Time" | "MicroTime":
            inner = _read(value, "Timestamp", left)
            at = datetime.fromtimestamp(inner.get("seconds", 0), UTC)
            micros = f".{inner.get('nanos', 0) // 1000:06}" if kind == "MicroTime" else ""
            return f"{at:%Y-%m-%dT%H:%M:%S}{micros}Z" if inner else None
    inner = _read(value, kind, left)
    match kind:
        case "Quantity":
            return inner.get("string", "")
        case "IntOrString":
            return inner.get("strVal", "") if inner.get("type") else inner.get("intVal", 0)
        case "FieldsV1":
            return json.loads(inner["Raw"]) if "Raw" in inner else None
    return inner


def _fields(data: bytes, left: list[int]) -> Iterator[tuple[int, Any]]:
    """Number and raw value of each field in a message."""
    for field in protowire.fields(data):
        left[0] -= 1
        if left[0] < 0:
            raise ValueError("it has too many fields")
        yield field
