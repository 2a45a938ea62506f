"""What Kubernetes fills in where an object is silent; a Pod's defaults are in `labkit.podspec`.

Knowledge: pkg/apis/core/v1/defaults.go and conversion.go. A Pod's admission (tolerations, priority, service account) is not here:
strategy.py has it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from labkit.podspec.defaults import fill_pod, fill_volume_source, set_defaults
from labkit.podspec.schema.decoding import Undecodable, decoded

Object = dict[str, Any]


def fill(resource: str, obj: Object) -> None:
    """Complete an object in place as decoding and defaulting do: unknown fields and nulls go, amounts are written in their
    canonical form, silent fields get their defaults. What cannot be decoded gets none: `validate` refuses it."""
    try:
        decoded(resource, obj, in_place=True)
    except Undecodable:
        return
    if resource in KINDS:
        KINDS[resource](obj)


def _namespace(namespace: Object) -> None:
    meta = namespace.setdefault("metadata", {})
    if meta.get("name"):
        meta.setdefault("labels", {})["kubernetes.io/metadata.name"] = meta["name"]
    namespace.setdefault("spec", {})
    set_defaults(namespace.setdefault("status", {}), phase="Active")


def _node(node: Object) -> None:
    spec, status = node.setdefault("spec", {}), node.get("status") or {}
    if status.get("capacity") and "allocatable" not in status:
        status["allocatable"] = dict(status["capacity"])
    if spec.get("podCIDR") and not spec.get("podCIDRs"):
        spec["podCIDRs"] = [spec["podCIDR"]]
    elif spec.get("podCIDRs") and not spec.get("podCIDR"):
        spec["podCIDR"] = spec["podCIDRs"][0]


def _persistent_volume(volume: Object) -> None:
    spec = volume.setdefault("spec", {})
    set_defaults(spec, persistentVolumeReclaimPolicy="Retain", volumeMode="Filesystem")
    fill_volume_source(spec)
    set_defaults(volume.setdefault("status", {}), phase="Pending")


def _claim(claim: Object) -> None:
    spec = claim.setdefault("spec", {})
    set_defaults(spec, volumeMode="Filesystem", resources={})
    set_defaults(claim.setdefault("status", {}), phase="Pending")


def _secret(secret: Object) -> None:
    set_defaults(secret, type="Opaque")
    for key, value in secret.pop("stringData", {}).items():
        secret.setdefault("data", {})[key] = base64.b64encode(value.encode(errors="surrogatepass")).decode()


KINDS: dict[str, Callable[[Object], None]] = {
    "namespaces": _namespace,
    "nodes": _node,
    "persistentvolumeclaims": _claim,
    "persistentvolumes": _persistent_volume,
    "pods": fill_pod,
    "secrets": _secret,
}
