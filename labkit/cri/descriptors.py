"""What CRI v1 consists of, read from the service descriptors: RPCs, their Python names, signatures and documentation.

Everything that lists RPCs (the client's methods, their type stub, the catalogue of notebook 01) comes from here, so
that an RPC added to api.proto is an RPC of the client.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from labkit.cri.v1 import api_pb2

SCALARS = {
    FieldDescriptor.CPPTYPE_INT32: "int",
    FieldDescriptor.CPPTYPE_INT64: "int",
    FieldDescriptor.CPPTYPE_UINT32: "int",
    FieldDescriptor.CPPTYPE_UINT64: "int",
    FieldDescriptor.CPPTYPE_DOUBLE: "float",
    FieldDescriptor.CPPTYPE_FLOAT: "float",
    FieldDescriptor.CPPTYPE_BOOL: "bool",
    FieldDescriptor.CPPTYPE_ENUM: "int | str",
}


@dataclass(frozen=True)
class Rpc:
    """One remote procedure of CRI v1.

    `service` is "RuntimeService" or "ImageService", `rpc` the name in api.proto, `method` the CriClient method;
    `request` and `response` are message names of `labkit.cri.v1.api_pb2`; `streaming` says that the runtime answers with
    a stream of responses. `fields` maps each field of the request to its Python type, in the order of api.proto, and
    `contract` names the release of that file.
    """

    service: str
    rpc: str
    method: str
    request: str
    response: str
    streaming: bool
    fields: dict[str, str]
    contract: str = api_pb2.CONTRACT

    def request_class(self) -> Any:
        return getattr(api_pb2, self.request)

    def response_class(self) -> Any:
        return getattr(api_pb2, self.response)


@cache
def services() -> tuple[Rpc, ...]:
    """Every RPC of RuntimeService and ImageService in CRI v1, in the order of api.proto."""
    return tuple(
        Rpc(
            service=service.name,
            rpc=method.name,
            method=snake_case(method.name),
            request=method.input_type.name,
            response=method.output_type.name,
            streaming=method.server_streaming,
            fields={field.name: field_type(field) for field in method.input_type.fields},
        )
        for service in api_pb2.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    )


def snake_case(name: str) -> str:
    """The Python name of an RPC: `ListContainerStats` → `list_container_stats`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def field_type(field: Any) -> str:
    """The Python type that a keyword for this protobuf field takes, as it is written in a signature."""
    if field.message_type and field.message_type.GetOptions().map_entry:
        entry = field.message_type.fields_by_name
        return f"Mapping[{field_type(entry['key'])}, {field_type(entry['value'])}]"
    if field.message_type:
        one = f"pb.{field.message_type.name} | Mapping[str, Any]"
    elif field.type == FieldDescriptor.TYPE_BYTES:
        one = "bytes"
    else:
        one = SCALARS.get(field.cpp_type, "str")
    return f"Sequence[{one}]" if field.is_repeated else one


def own_timeout(rpc: Rpc) -> bool:
    """Whether `timeout` is a field of the request (a grace period) and not the deadline of the call."""
    return "timeout" in rpc.fields


def result_type(rpc: Rpc) -> str:
    return f"CriStream[pb.{rpc.response}]" if rpc.streaming else f"pb.{rpc.response}"


def signature(rpc: Rpc) -> inspect.Signature:
    """`(self, request=None, /, *, FIELD=None, …, timeout=None)` with the types of api.proto as annotations."""
    first = next(iter(rpc.fields.values()), None)
    request = f"pb.{rpc.request} | {first} | None" if first else f"pb.{rpc.request} | None"
    fields = {**rpc.fields, **({} if own_timeout(rpc) else {"timeout": "float"})}
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Signature(
        [
            inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY),
            inspect.Parameter("request", inspect.Parameter.POSITIONAL_ONLY, default=None, annotation=request),
            *(inspect.Parameter(name, keyword, default=None, annotation=f"{kind} | None") for name, kind in fields.items()),
        ],
        return_annotation=result_type(rpc),
    )


def docstring(rpc: Rpc) -> str:
    """What `help(cri.METHOD)` and an editor show: the RPC, the fields of its request, what comes back."""
    lines = [f"{rpc.service}.{rpc.rpc}: {rpc.request} → {'stream of ' if rpc.streaming else ''}{rpc.response}.", ""]
    lines += ["Pass one request message, or its fields:"] if rpc.fields else ["The request has no fields."]
    for field in rpc.request_class().DESCRIPTOR.fields:
        lines.append(f"    {field.name}: {rpc.fields[field.name].replace('pb.', '')}{_choices(field)}")
    if own_timeout(rpc):
        lines += ["", "`timeout` is the request's own field, in seconds; the call may take that and the client's time-out."]
    else:
        lines += ["", "`timeout`: seconds until the call is given up."]
    lines += [f"Returns {'an iterator (CriStream) of ' if rpc.streaming else ''}{_fields(rpc.response)}", "Raises CriError."]
    return "\n".join(lines)


def unknown_field(rpc: Rpc, name: str) -> str:
    """The sentence for a keyword that the request does not have."""
    have = ", ".join([*rpc.fields, *([] if own_timeout(rpc) else ["timeout"])])
    return f"{rpc.method}() has no keyword {name!r}: {rpc.rpc} takes {have}."


def _choices(field: Any) -> str:
    return f" ({', '.join(value.name for value in field.enum_type.values)})" if field.enum_type else ""


def _fields(message: str) -> str:
    names = ", ".join(field.name for field in api_pb2.DESCRIPTOR.message_types_by_name[message].fields)
    return f"{message} ({names})." if names else f"{message} (empty)."
