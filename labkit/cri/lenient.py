"""CRI messages with strings that are not UTF-8: invalid bytes are read as U+FFFD, environment variables are sent as they are.

Runtimes written in Go accept and send any bytes in a `string` of api.proto; Python's protobuf refuses them. On the wire string
and bytes are the same, and Kubernetes has made KeyValue.value `bytes` for that reason (1.37, and back to 1.34).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from cri_api.v1 import api_pb2 as pb
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

PACKAGE = pb.DESCRIPTOR.package


def parse(kind: Any, data: bytes) -> Any:
    """The message of class `kind` in `data`. Raises DecodeError for bytes that are none."""
    try:
        return kind.FromString(data)
    except DecodeError:
        message = _classes(_any_string)(kind.DESCRIPTOR.full_name).FromString(data)
        _make_readable(message)
        return kind.FromString(message.SerializeToString())


def with_variables(config: pb.ContainerConfig, variables: Mapping[str, str]) -> Any:
    """`config` with these environment variables. Where a value is not UTF-8 (a str with surrogate escapes) the result is a
    message whose KeyValue.value is bytes, and which is else the same."""
    binary = any(not _is_text(value) for value in variables.values())
    if binary:
        config = _classes(_variable)(config.DESCRIPTOR.full_name).FromString(config.SerializeToString())
    for key, value in variables.items():
        config.envs.add(key=key, value=value.encode(errors="surrogateescape") if binary else value)
    return config


def variables_of(config: Any) -> dict[str, str]:
    """The environment variables of a ContainerConfig, bytes that are not UTF-8 as surrogate escapes."""
    values = ((variable.key, variable.value) for variable in config.envs)
    return {key: value if isinstance(value, str) else value.decode(errors="surrogateescape") for key, value in values}


def request_class(kind: Any, fields: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The class of a request and its fields, as they fit together: a field may be a message that `with_variables` made."""
    messages = [value for value in fields.values() if isinstance(value, Message)]
    if all(message.DESCRIPTOR.file.pool is pb.DESCRIPTOR.pool for message in messages):
        return kind, dict(fields)
    find = _classes(_variable)
    return find(kind.DESCRIPTOR.full_name), {
        name: find(value.DESCRIPTOR.full_name).FromString(value.SerializeToString()) if isinstance(value, Message) else value
        for name, value in fields.items()
    }


def _is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _any_string(message: str, field: str) -> bool:
    return True


def _variable(message: str, field: str) -> bool:
    return (message, field) == ("KeyValue", "value")


@cache
def _classes(chosen: Callable[[str, str], bool]) -> Callable[[str], Any]:
    """Full name → class, of CRI's messages in which the strings that `chosen(message, field)` picks are bytes."""
    file = descriptor_pb2.FileDescriptorProto.FromString(pb.DESCRIPTOR.serialized_pb)
    for message in file.message_type:
        for part in (message, *message.nested_type):
            for field in part.field:
                if field.type == FieldDescriptor.TYPE_STRING and chosen(part.name, field.name):
                    field.type = FieldDescriptor.TYPE_BYTES  # type: ignore[assignment]
                    part.options.ClearField("map_entry")  # a map's key cannot be bytes; a list of entries is the same on the wire
    pool = descriptor_pool.DescriptorPool()
    for needed in pb.DESCRIPTOR.dependencies:
        pool.AddSerializedFile(needed.serialized_pb)
    pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def _make_readable(message: Any) -> None:
    """Put U+FFFD in place of what is not UTF-8, in all that is a string in CRI."""
    strict = pb.DESCRIPTOR.pool.FindMessageTypeByName(message.DESCRIPTOR.full_name).fields_by_name
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in value if field.is_repeated else (value,):
                _make_readable(one)
        elif strict[field.name].type == FieldDescriptor.TYPE_STRING:
            if field.is_repeated:
                value[:] = [one.decode(errors="replace").encode() for one in value]
            else:
                setattr(message, field.name, value.decode(errors="replace").encode())
