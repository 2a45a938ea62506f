"""The resources that this API serves, and what may be asked of each.

Short names, categories and selectable fields are those of kube-apiserver (pkg/registry, `GetAttrs` of each resource).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True)
class Named:
    """How a resource of Kubernetes is named, whether this API serves it or not."""

    plural: str
    kind: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True
    short: tuple[str, ...] = ()

    @property
    def singular(self) -> str:
        return self.kind.lower()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def is_at(self, group: str, version: str) -> bool:
        return (self.group, self.version) == (group, version)


@dataclass(frozen=True)
class ApiResource(Named):
    """One kind of object. `fields` are the field selectors beyond metadata.name and metadata.namespace; `counted` says that
    metadata.generation follows the spec, `made_by_update` that a PUT makes what is not there, `unconditional` that an update
    needs no resourceVersion."""

    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    counted: bool = False
    made_by_update: bool = False
    unconditional: bool = True

    @property
    def has_status(self) -> bool:
        return "status" in self.subresources


@dataclass(frozen=True)
class Subresource:
    """How discovery announces what lies below an object: its kind ("" for the object's own) and verbs."""

    kind: str
    verbs: tuple[str, ...]


STREAM = ("create", "get")
SUBRESOURCES = {
    "status": Subresource("", ("get", "patch", "update")),
    "finalize": Subresource("", ("update",)),
    "binding": Subresource("Binding", ("create",)),
    "ephemeralcontainers": Subresource("", ("get", "patch", "update")),
    "log": Subresource("Pod", ("get",)),
    "exec": Subresource("PodExecOptions", STREAM),
    "attach": Subresource("PodAttachOptions", STREAM),
    "portforward": Subresource("PodPortForwardOptions", STREAM),
}

EVENT_FIELDS = (
    *(f"involvedObject.{name}" for name in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")),
    "reason", "reportingComponent", "source", "type",
)
POD_FIELDS = (
    "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
    "status.phase", "status.podIP", "status.podIPs", "status.nominatedNodeName",
)

RESOURCES = (
    ApiResource("configmaps", "ConfigMap", short=("cm",)),
    ApiResource("events", "Event", short=("ev",), fields=EVENT_FIELDS, made_by_update=True),
    ApiResource("namespaces", "Namespace", namespaced=False, short=("ns",), subresources=("finalize", "status"),
             fields=("status.phase", "name")),
    ApiResource("nodes", "Node", namespaced=False, short=("no",), subresources=("status",), fields=("spec.unschedulable",)),
    ApiResource("persistentvolumeclaims", "PersistentVolumeClaim", short=("pvc",), subresources=("status",), fields=("name",)),
    ApiResource("persistentvolumes", "PersistentVolume", namespaced=False, short=("pv",), subresources=("status",)),
    ApiResource("pods", "Pod", short=("po",), categories=("all",), fields=POD_FIELDS, counted=True,
             subresources=("status", "ephemeralcontainers", "binding", "log", "exec", "attach", "portforward")),
    ApiResource("secrets", "Secret", fields=("type",)),
    ApiResource("serviceaccounts", "ServiceAccount", short=("sa",)),
    ApiResource("leases", "Lease", group="coordination.k8s.io", made_by_update=True, unconditional=False),
)
BY_PLURAL = {resource.plural: resource for resource in RESOURCES}

METRICS = (
    Named("nodes", "NodeMetrics", "metrics.k8s.io", "v1beta1", namespaced=False),
    Named("pods", "PodMetrics", "metrics.k8s.io", "v1beta1"),
)
"""What the kubelet answers: `kubectl top` reads it."""


def find(group: str, version: str, plural: str) -> ApiResource | None:
    """The resource served under that group, version and plural name."""
    resource = BY_PLURAL.get(plural)
    return resource if resource and resource.is_at(group, version) else None


def field(resource: ApiResource, obj: dict[str, Any], path: str) -> str:
    """The value that a field selector compares: text, empty where the object has none."""
    if resource.plural == "events" and path == "source":
        return str((obj.get("source") or {}).get("component") or obj.get("reportingComponent") or "")
    if path == "name":
        return str(obj["metadata"]["name"])
    if path == "status.podIPs":
        return ",".join(str(address.get("ip", "")) for address in (obj.get("status") or {}).get("podIPs") or [])
    value: Any = obj
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    if path in ("spec.hostNetwork", "spec.unschedulable"):
        return "true" if value else "false"
    return "" if value is None else str(value)
