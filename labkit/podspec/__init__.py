"""What a Pod is, once: amounts, types, defaults, rules, requests, host ports and selectors.

Used by Pods made by hand, by the API server, the scheduler and the kubelet alike. `messages` makes CRI's messages of a Pod; it is
not imported here, since the API server needs no protobuf.
"""

from labkit.podspec.container_kinds import container_kind, container_names
from labkit.podspec.manifest import (
    DefaultedPod,
    ManifestError,
    defaulted,
    find_container,
    own_claim_name,
    volume_kind,
    with_defaults,
)

__all__ = [
    "DefaultedPod",
    "ManifestError",
    "container_kind",
    "container_names",
    "defaulted",
    "find_container",
    "own_claim_name",
    "volume_kind",
    "with_defaults",
]
