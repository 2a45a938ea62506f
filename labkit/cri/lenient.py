"""CRI messages whose strings are not UTF-8, and values for fields in whatever form a caller has them.

Runtimes written in Go accept and send any bytes in a `string` of api.proto; Python's protobuf refuses them. On the wire string
and bytes are the same, and Kubernetes has made KeyValue.value `bytes` for that reason. Here invalid bytes are read as U+FFFD.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from labkit.cri.v1 import api_pb2 as pb


def parse(kind: Any, data: bytes) -> Any:
    """The message of class `kind` in `data`. Raises DecodeError for bytes that are none."""
    try:
        return kind.FromString(data)
    except DecodeError:
        message = _with_bytes(kind.DESCRIPTOR.full_name).FromString(data)
        _make_readable(message)
        return kind.FromString(message.SerializeToString())


def variables_of(config: pb.ContainerConfig) -> dict[str, str]:
    """The environment variables of a container, bytes that are not UTF-8 as surrogate escapes."""
    return {variable.key: variable.value.decode(errors="surrogateescape") for variable in config.envs}


def value(field: FieldDescriptor, given: Any) -> Any:
    """What a field is set to. For bytes a str may be given too; for a message one of other stubs, or a mapping of its fields."""
    if isinstance(given, Mapping):
        inside = field.message_type.fields_by_name if field.message_type else {}
        if field.message_type and field.message_type.GetOptions().map_entry:
            return {key: value(inside["value"], each) for key, each in given.items()}
        return {name: value(inside[name], each) if name in inside else each for name, each in given.items()}
    if isinstance(given, list | tuple):
        return [value(field, each) for each in given]
    if isinstance(given, str) and field.type == FieldDescriptor.TYPE_BYTES:
        return given.encode(errors="surrogateescape")
    return own(given) if isinstance(given, Message) else given


def own(message: Message) -> Message:
    """A message of other stubs of CRI v1, as the same of api_pb2; any other message as it is."""
    name, pool = message.DESCRIPTOR.full_name, pb.DESCRIPTOR.pool
    if message.DESCRIPTOR.file.pool is pool or message.DESCRIPTOR.file.package != pb.DESCRIPTOR.package:
        return message
    try:
        kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
    except KeyError:
        return message
    return kind.FromString(message.SerializeToString())


@cache
def _with_bytes(name: str) -> Any:
    """The class of CRI's message of that full name, with bytes in place of each string."""
    return message_factory.GetMessageClass(_pool_of_bytes().FindMessageTypeByName(name))


@cache
def _pool_of_bytes() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto.FromString(pb.DESCRIPTOR.serialized_pb)
    for message in file.message_type:
        for part in (message, *message.nested_type):
            for field in part.field:
                if field.type == FieldDescriptor.TYPE_STRING:
                    field.type = FieldDescriptor.TYPE_BYTES  # type: ignore[assignment]
                    part.options.ClearField("map_entry")  # a map's key cannot be bytes; a list of entries is the same on the wire
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


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
