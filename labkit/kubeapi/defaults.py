"""What Kubernetes fills in where an object is silent. Knowledge: pkg/apis/core/v1/defaults.go and conversion.go.

A Pod's admission (tolerations, priority, service account) is not here: strategy.py has it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from typing import Any

from labkit.kubeapi.decoding import Undecodable, decoded
from labkit.kubeapi.quantity import exact
from labkit.kubeapi.quantity_text import canonical

Object = dict[str, Any]
MODE_0644 = 0o644
CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
PROBE_NUMBERS = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
NETWORK_VOLUMES: dict[str, Object] = {
    "iscsi": {"iscsiInterface": "default"},
    "azureDisk": {"cachingMode": "ReadWrite", "fsType": "ext4", "readOnly": False, "kind": "Shared"},
    "scaleIO": {"storageMode": "ThinProvisioned", "fsType": "xfs"},
    "rbd": {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"},
}
WITH_MODE = ("secret", "configMap", "downwardAPI", "projected")


def fill(resource: str, obj: Object) -> None:
    """Complete an object in place as decoding and defaulting do: unknown fields and nulls go, amounts are written in their
    canonical form, silent fields get their defaults. What cannot be decoded gets none: `validate` refuses it."""
    try:
        decoded(resource, obj, in_place=True)
    except Undecodable:
        return
    if resource in KINDS:
        KINDS[resource](obj)


def _pod(pod: Object) -> None:
    spec = pod.setdefault("spec", {})
    if account := spec.get("serviceAccountName") or spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    _default(
        spec,
        restartPolicy="Always",
        terminationGracePeriodSeconds=30,
        dnsPolicy="ClusterFirst",
        securityContext={},
        schedulerName="default-scheduler",
        enableServiceLinks=True,
    )
    for kind in CONTAINERS:
        for container in spec.get(kind) or ():
            _container(container, bool(spec.get("hostNetwork")) and kind != "ephemeralContainers")
    for volume in spec.get("volumes") or ():
        _volume(volume)
    _whole_pods_requests(spec)


def _container(container: Object, host_network: bool) -> None:
    _default(
        container,
        imagePullPolicy=pull_policy(container.get("image") or ""),
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
        resources={},
    )
    limits = container["resources"].get("limits")
    if limits:
        container["resources"]["requests"] = {**limits, **(container["resources"].get("requests") or {})}
    for port in container.get("ports") or ():
        _default(port, protocol="TCP")
        if host_network and not port.get("hostPort") and port.get("containerPort"):
            port["hostPort"] = port["containerPort"]
    for variable in container.get("env") or ():
        _references(variable.get("valueFrom") or {})
    for probe in (container[kind] for kind in PROBES if container.get(kind) is not None):
        _default(probe, **PROBE_NUMBERS)
        _handler(probe)
    for hook in (container.get("lifecycle") or {}).values():
        if isinstance(hook, dict):
            _handler(hook)


def pull_policy(image: str) -> str:
    """Always for a tag that moves: `latest`, or none at all."""
    name, at, _ = image.partition("@")
    tag = re.search(r":([^:/]+)$", name)
    return "Always" if (tag[1] if tag else "" if at else "latest") == "latest" else "IfNotPresent"


def _handler(handler: Object) -> None:
    if handler.get("httpGet") is not None:
        _default(handler["httpGet"], path="/", scheme="HTTP")
    if handler.get("grpc") is not None:
        handler["grpc"].setdefault("service", "")


def _references(source: Object) -> None:
    if source.get("fieldRef") is not None:
        _default(source["fieldRef"], apiVersion="v1")
    if source.get("resourceFieldRef") is not None:
        source["resourceFieldRef"].setdefault("divisor", "0")


def _volume(volume: Object) -> None:
    if not set(volume) - {"name"}:
        volume["emptyDir"] = {}
    _volume_source(volume)
    projected = volume.get("projected") or {}
    for source in projected.get("sources") or ():
        if source.get("serviceAccountToken") is not None:
            _default(source["serviceAccountToken"], expirationSeconds=3600)
    for holder in (volume.get("downwardAPI"), *(source.get("downwardAPI") for source in projected.get("sources") or ())):
        for item in (holder or {}).get("items") or ():
            _references(item)
    if volume.get("image") is not None:
        _default(volume["image"], pullPolicy=pull_policy(volume["image"].get("reference") or ""))
    template = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
    if template:
        _default(template.setdefault("spec", {}), volumeMode="Filesystem")


def _volume_source(holder: Object) -> None:
    """Defaults by type of volume: a Pod's and a PersistentVolume's."""
    for kind in WITH_MODE:
        if holder.get(kind) is not None:
            holder[kind].setdefault("defaultMode", MODE_0644)
    if holder.get("hostPath") is not None:
        holder["hostPath"].setdefault("type", "")
    for kind, values in NETWORK_VOLUMES.items():
        if holder.get(kind) is not None:
            for name, value in values.items():
                holder[kind].setdefault(name, value)


def _whole_pods_requests(spec: Object) -> None:
    """Requests of the Pod as a whole, where it has limits: its containers' sum, else the limit."""
    limits = (spec.get("resources") or {}).get("limits") or {}
    if not limits:
        return
    requests = spec["resources"].setdefault("requests", {})
    for name, limit in limits.items():
        asked = [amount for amount in _asked(spec, name) if amount]
        requests.setdefault(name, canonical(f"{sum(exact(amount) * 1000 for amount in asked)}m") if asked else limit)


def _asked(spec: Object, name: str) -> Iterator[str | None]:
    for container in spec.get("containers") or ():
        yield (container["resources"].get("requests") or {}).get(name)


def _namespace(namespace: Object) -> None:
    meta = namespace.setdefault("metadata", {})
    if meta.get("name"):
        meta.setdefault("labels", {})["kubernetes.io/metadata.name"] = meta["name"]
    if not meta.get("deletionTimestamp"):
        namespace.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
        _default(namespace.setdefault("status", {}), phase="Active")


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
    _default(spec, persistentVolumeReclaimPolicy="Retain", volumeMode="Filesystem")
    _volume_source(spec)
    _default(volume.setdefault("status", {}), phase="Pending")


def _claim(claim: Object) -> None:
    spec = claim.setdefault("spec", {})
    _default(spec, volumeMode="Filesystem", resources={})
    _default(claim.setdefault("status", {}), phase="Pending")


def _secret(secret: Object) -> None:
    _default(secret, type="Opaque")
    for key, value in secret.pop("stringData", {}).items():
        secret.setdefault("data", {})[key] = base64.b64encode(value.encode(errors="surrogatepass")).decode()


def _default(obj: Object, **values: Any) -> None:
    """Set what is absent or empty: Go's zero value counts as unset for these fields."""
    for name, value in values.items():
        if obj.get(name) in (None, "", {}) or (obj.get(name) == 0 and name in (*PROBE_NUMBERS, "expirationSeconds")):
            obj[name] = dict(value) if isinstance(value, dict) else value


KINDS: dict[str, Callable[[Object], None]] = {
    "namespaces": _namespace,
    "nodes": _node,
    "persistentvolumeclaims": _claim,
    "persistentvolumes": _persistent_volume,
    "pods": _pod,
    "secrets": _secret,
}
