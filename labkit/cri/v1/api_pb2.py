"""The messages and enumerations of CRI v1: `from labkit.cri.v1.api_pb2 import ContainerConfig, CONTAINER_RUNNING`.

The contract is `api.proto` of k8s.io/cri-api, in its release CONTRACT; api.binpb is what protoc makes of it, and editors read
api_pb2.pyi (see `authoring.generate.cri_descriptors`). Copyright The Kubernetes Authors, Apache License 2.0, as api.proto.

They have a pool of their own, so that stubs of another release can be imported as well. CriClient takes messages of either.
"""

from __future__ import annotations

from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

_SET = descriptor_pb2.FileDescriptorSet.FromString(Path(__file__).with_name("api.binpb").read_bytes())
_POOL = descriptor_pool.DescriptorPool()
DESCRIPTOR = _POOL.AddSerializedFile(_SET.file[0].SerializeToString())
CONTRACT = "cri-api 0.36.4"
"""The module of Kubernetes that api.proto is from, and its release: that of Kubernetes 1.36.4."""

for _name, _enum in DESCRIPTOR.enum_types_by_name.items():
    globals()[_name] = EnumTypeWrapper(_enum)
    globals().update({value.name: value.number for value in _enum.values})
for _name, _message in DESCRIPTOR.message_types_by_name.items():
    globals()[_name] = message_factory.GetMessageClass(_message)
