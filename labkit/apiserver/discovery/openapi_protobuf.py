"""A Swagger 2.0 document in protobuf: gnostic's openapi.v2.Document.

Field names and numbers are those of gnostic's openapiv2/OpenAPIv2.proto; only the fields that our document has are written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from labkit.util.protowire import bytes_field, number_field, text_field

Json = Mapping[str, Any]


def document(swagger: Json) -> bytes:
    """The whole document."""
    info = _text(1, swagger["info"]["title"]) + _text(2, swagger["info"]["version"])
    paths = _named(2, ((path, _path(item)) for path, item in swagger["paths"].items()))
    definitions = _named(1, ((name, _schema(value)) for name, value in swagger["definitions"].items()))
    return _text(1, swagger["swagger"]) + bytes_field(2, info) + bytes_field(8, paths) + bytes_field(9, definitions)


def _path(item: Json) -> bytes:
    numbers = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}
    operations = b"".join(bytes_field(numbers[verb], _operation(item[verb])) for verb in numbers if verb in item)
    return operations + _parameters(9, item.get("parameters", ()))


def _operation(operation: Json) -> bytes:
    responses = _named(1, ((code, bytes_field(1, _response(value))) for code, value in operation["responses"].items()))
    return b"".join(
        (
            *(_text(1, tag) for tag in operation["tags"]),
            _text(5, operation["operationId"]),
            *(_text(6, kind) for kind in operation["produces"]),
            *(_text(7, kind) for kind in operation["consumes"]),
            _parameters(8, operation["parameters"]),
            bytes_field(9, responses),
            _extensions(13, operation),
        )
    )


def _response(response: Json) -> bytes:
    shape = bytes_field(2, bytes_field(1, _schema(response["schema"]))) if "schema" in response else b""
    return _text(1, response["description"]) + shape


def _parameters(number: int, parameters: Iterable[Json]) -> bytes:
    return b"".join(bytes_field(number, bytes_field(1, _parameter(parameter))) for parameter in parameters)


def _parameter(parameter: Json) -> bytes:
    """A parameter: of the body, or one of those that are not, which have a message for each place."""
    name, where, about = parameter["name"], parameter["in"], parameter.get("description", "")
    needed = bool(parameter.get("required"))
    if where == "body":
        shape = bytes_field(5, _schema(parameter["schema"]))
        return bytes_field(1, _text(1, about) + _text(2, name) + _text(3, where) + _flag(4, needed) + shape)
    number, kind, unique = {"query": (3, 6, 20), "path": (4, 5, 19)}[where]
    common = _flag(1, needed) + _text(2, where) + _text(3, about) + _text(4, name)
    return bytes_field(
        2, bytes_field(number, common + _text(kind, parameter["type"]) + _flag(unique, parameter.get("uniqueItems")))
    )


def _schema(schema: Json) -> bytes:
    parts = [
        _text(1, schema.get("$ref", "")),
        _text(2, schema.get("format", "")),
        _text(4, schema.get("description", "")),
        bytes_field(5, _any(schema["default"])) if "default" in schema else b"",
        *(_text(19, name) for name in schema.get("required", ())),
        *(bytes_field(20, _any(value)) for value in schema.get("enum", ())),
        bytes_field(21, bytes_field(1, _schema(schema["additionalProperties"]))) if "additionalProperties" in schema else b"",
        bytes_field(22, _text(1, schema["type"])) if "type" in schema else b"",
        bytes_field(23, bytes_field(1, _schema(schema["items"]))) if "items" in schema else b"",
    ]
    if "properties" in schema:
        parts.append(bytes_field(25, _named(1, ((name, _schema(value)) for name, value in schema["properties"].items()))))
    return b"".join(parts) + _extensions(31, schema)


def _extensions(number: int, holder: Json) -> bytes:
    return _named(number, ((name, _any(value)) for name, value in holder.items() if name.startswith("x-")))


def _any(value: Any) -> bytes:
    """gnostic's Any: the value as YAML, of which JSON is a part."""
    return _text(2, json.dumps(value) + "\n")


def _named(number: int, items: Iterable[tuple[str, bytes]]) -> bytes:
    return b"".join(bytes_field(number, _text(1, name) + bytes_field(2, value)) for name, value in items)


def _text(number: int, text: str) -> bytes:
    return text_field(number, text) if text else b""


def _flag(number: int, value: bool | None) -> bytes:
    return number_field(number, 1) if value else b""
