"""CRI messages as YAML, the way Kubernetes people read things."""

from __future__ import annotations

from typing import Any

import yaml
from google.protobuf.message import Message


def to_yaml(message: Message) -> str:
    """A message as YAML: field names as in api.proto and in its order, enums by name, bytes as text, maps sorted by key.

    As in every protobuf text, a field that has its zero value is left out.
    """
    return yaml.safe_dump(to_dict(message), sort_keys=False, allow_unicode=True, width=110)


def to_dict(message: Message) -> dict[str, Any]:
    """A message as plain dicts, lists, strings and numbers (source: protobuf's descriptors)."""
    plain: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            in_map = field.message_type.fields_by_name["value"]
            plain[field.name] = {key: plain_value(in_map, value[key]) for key in sorted(value)}
        elif field.is_repeated:
            plain[field.name] = [plain_value(field, one) for one in value]
        else:
            plain[field.name] = plain_value(field, value)
    return plain


def plain_value(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return to_dict(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    return value.decode(errors="replace") if isinstance(value, bytes) else value
