"""Speak CRI, the Container Runtime Interface: a client for it, its errors, its messages as text.

Knows gRPC and protobuf, nothing of nodes and Pods. The contract itself is `api.proto` of kubernetes/cri-api. What makes messages
of a Pod manifest is in `labkit.podspec`; a learner finds the builders here, too.
"""

from importlib import import_module
from typing import Any

from labkit.cri.client import CriClient, CriStream
from labkit.cri.descriptors import Rpc, services
from labkit.cri.errors import CriError
from labkit.cri.probe import answered_rpcs
from labkit.cri.text import to_dict, to_yaml

__all__ = ["CriClient", "CriError", "CriStream", "Rpc", "answered_rpcs", "services", "to_dict", "to_yaml"]

_OF_PODSPEC = {
    "labkit.podspec": ("ManifestError", "container_names", "with_defaults"),
    "labkit.podspec.messages": ("CreateContainerConfigError", "Machine", "container_config", "qos_class", "sandbox_config"),
}


def __getattr__(name: str) -> Any:
    for room, names in _OF_PODSPEC.items():
        if name in names:
            return getattr(import_module(room), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
