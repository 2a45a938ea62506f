"""Speak CRI, the Container Runtime Interface: a client for it, its errors, its messages as text.

Knows gRPC and protobuf, nothing of nodes and Pods. The contract itself is `api.proto` of kubernetes/cri-api. What makes messages
of a Pod manifest is in `labkit.podspec.messages`.
"""

from labkit.cri.client import CriClient, CriStream
from labkit.cri.cri_errors import CriError
from labkit.cri.descriptors import Rpc, services
from labkit.cri.probe import answered_rpcs
from labkit.cri.text import to_dict, to_yaml

__all__ = ["CriClient", "CriError", "CriStream", "Rpc", "answered_rpcs", "services", "to_dict", "to_yaml"]
