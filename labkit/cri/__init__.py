"""Speak CRI, the Container Runtime Interface: a client, its errors, and the kubelet's messages made from a Pod manifest.

Knows gRPC and protobuf, nothing of nodes. The contract itself is `api.proto` of kubernetes/cri-api.
"""

from labkit.cri.client import CriClient, CriStream
from labkit.cri.configs import container_config, sandbox_config
from labkit.cri.descriptors import Rpc, services
from labkit.cri.environment import CreateContainerConfigError
from labkit.cri.errors import CriError
from labkit.cri.manifest import ManifestError, container_names, with_defaults
from labkit.cri.probe import answered_rpcs
from labkit.cri.resources import Machine, qos_class
from labkit.cri.text import to_dict, to_yaml

__all__ = [
    "CreateContainerConfigError",
    "CriClient",
    "CriError",
    "CriStream",
    "Machine",
    "ManifestError",
    "Rpc",
    "answered_rpcs",
    "container_config",
    "container_names",
    "qos_class",
    "sandbox_config",
    "services",
    "to_dict",
    "to_yaml",
    "with_defaults",
]
