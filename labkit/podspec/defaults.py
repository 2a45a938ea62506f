"""What Kubernetes fills in where a Pod is silent. Knowledge: pkg/apis/core/v1/defaults.go and conversion.go."""

from __future__ import annotations

import random
import re
from typing import Any

from labkit.podspec.container_kinds import KINDS
from labkit.podspec.quantity import canonical
from labkit.podspec.requests import OF_WHOLE_POD, of_containers

Object = dict[str, Any]
MODE_0644 = 0o644
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
PROBE_NUMBERS = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
NETWORK_VOLUMES: dict[str, Object] = {
    "iscsi": {"iscsiInterface": "default"},
    "azureDisk": {"cachingMode": "ReadWrite", "fsType": "ext4", "readOnly": False, "kind": "Shared"},
    "scaleIO": {"storageMode": "ThinProvisioned", "fsType": "xfs"},
    "rbd": {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"},
}
SAFE_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""What apimachinery's names are made of: nothing that could spell a word."""
WITH_MODE = ("secret", "configMap", "downwardAPI", "projected")


def fill_pod(pod: Object) -> None:
    """Complete a Pod in place."""
    spec = pod.setdefault("spec", {})
    if account := spec.get("serviceAccountName") or spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    set_defaults(
        spec,
        restartPolicy="Always",
        terminationGracePeriodSeconds=30,
        dnsPolicy="ClusterFirst",
        securityContext={},
        schedulerName="default-scheduler",
        enableServiceLinks=True,
    )
    for kind in KINDS:
        for container in spec.get(kind) or ():
            _container(container, bool(spec.get("hostNetwork")) and kind != "ephemeralContainers")
    for volume in spec.get("volumes") or ():
        _volume(volume)
    _whole_pods_requests(spec)


def generated(prefix: str) -> str:
    """A name from metadata.generateName: at most 63 characters, the last five by chance."""
    return prefix[:58] + "".join(random.choices(SAFE_LETTERS, k=5))


def _container(container: Object, host_network: bool) -> None:
    set_defaults(
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
        set_defaults(port, protocol="TCP")
        if host_network and not port.get("hostPort") and port.get("containerPort"):
            port["hostPort"] = port["containerPort"]
    for variable in container.get("env") or ():
        _references(variable.get("valueFrom") or {})
    for probe in (container[kind] for kind in PROBES if container.get(kind) is not None):
        set_defaults(probe, **PROBE_NUMBERS)
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
        set_defaults(handler["httpGet"], path="/", scheme="HTTP")
    if handler.get("grpc") is not None:
        handler["grpc"].setdefault("service", "")


def _references(source: Object) -> None:
    if source.get("fieldRef") is not None:
        set_defaults(source["fieldRef"], apiVersion="v1")
    if source.get("resourceFieldRef") is not None:
        source["resourceFieldRef"].setdefault("divisor", "0")


def _volume(volume: Object) -> None:
    if not set(volume) - {"name"}:
        volume["emptyDir"] = {}
    fill_volume_source(volume)
    projected = volume.get("projected") or {}
    for source in projected.get("sources") or ():
        if source.get("serviceAccountToken") is not None:
            set_defaults(source["serviceAccountToken"], expirationSeconds=3600)
    for holder in (volume.get("downwardAPI"), *(source.get("downwardAPI") for source in projected.get("sources") or ())):
        for item in (holder or {}).get("items") or ():
            _references(item)
    if volume.get("image") is not None:
        set_defaults(volume["image"], pullPolicy=pull_policy(volume["image"].get("reference") or ""))
    template = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
    if template:
        set_defaults(template.setdefault("spec", {}), volumeMode="Filesystem")


def fill_volume_source(holder: Object) -> None:
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
    """Requests of the Pod as a whole, where it has limits: its containers' together, else the limit (defaultPodRequests)."""
    limits = (spec.get("resources") or {}).get("limits") or {}
    if not limits:
        return
    requests = spec["resources"].setdefault("requests", {})
    for name, amount in of_containers(spec, "requests").items():
        if name in OF_WHOLE_POD:
            requests.setdefault(name, canonical(f"{amount}m" if name == "cpu" else str(amount)))
    for name, limit in limits.items():
        requests.setdefault(name, limit)


def set_defaults(obj: Object, **values: Any) -> None:
    """Set what is absent or empty: Go's zero value counts as unset for these fields."""
    for name, value in values.items():
        if obj.get(name) in (None, "", {}) or (obj.get(name) == 0 and name in (*PROBE_NUMBERS, "expirationSeconds")):
            obj[name] = dict(value) if isinstance(value, dict) else value
