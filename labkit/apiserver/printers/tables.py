"""Tables: what `kubectl get` prints, made by the server. Knowledge: pkg/printers/internalversion/printers.go, meta/v1 Table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from labkit.apiserver.printers.ages import age
from labkit.apiserver.printers.tables_pod import NONE, pod_cells, pod_conditions
from labkit.podspec.matching import class_of
from labkit.podspec.schema import description

Manifest = Mapping[str, Any]
UNSET, UNKNOWN = "<unset>", "<unknown>"
SHORT_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
ROLE_PREFIX, ROLE_LABEL = "node-role.kubernetes.io/", "kubernetes.io/role"


@dataclass(frozen=True)
class Column:
    """A column: its description, or "Kind.field" where it is that field's; wide ones are shown by `-o wide` only."""

    name: str
    about: str
    wide: bool = False
    type: str = "string"
    format: str = ""

    def definition(self) -> dict[str, Any]:
        kind, dot, field = self.about.partition(".")
        words = description(kind, field) if dot and field and " " not in self.about else self.about
        priority = 1 if self.wide else 0
        return {"name": self.name, "type": self.type, "format": self.format, "description": words, "priority": priority}


NAME = Column("Name", "ObjectMeta.name", format="name")
AGE = Column("Age", "ObjectMeta.creationTimestamp")


def table(
    resource: str,
    objects: Iterable[Manifest],
    now: datetime,
    *,
    include_object: str = "Metadata",
    list_meta: Mapping[str, Any] | None = None,
    no_headers: bool = False,
) -> dict[str, Any]:
    """A meta.k8s.io/v1 Table of objects of one resource.

    now: aware of its time zone; ages are counted to it. include_object: what each row carries: Metadata, Object or None.
    no_headers: leave the columns out, as every event of a watch but the first does.
    """
    printer = PRINTERS[resource]
    made: dict[str, Any] = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": dict(list_meta or {})}
    made["columnDefinitions"] = [] if no_headers else [column.definition() for column in printer.columns]
    made["rows"] = [_row(resource, obj, printer.cells(obj, now), include_object) for obj in objects]
    return made


def _row(resource: str, obj: Manifest, cells: Sequence[Any], include_object: str) -> dict[str, Any]:
    row: dict[str, Any] = {"cells": list(cells)}
    if resource == "pods" and (conditions := pod_conditions(obj)):
        row["conditions"] = conditions
    if include_object == "Object":
        row["object"] = obj
    elif include_object == "Metadata":
        meta = obj.get("metadata") or {}
        row["object"] = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta}
    return row


def _name_and_age(obj: Manifest, now: datetime) -> tuple[str, str]:
    meta = obj.get("metadata") or {}
    return meta.get("name") or "", age(meta.get("creationTimestamp"), now)


def _node(node: Manifest, now: datetime) -> list[Any]:
    (name, since), spec, status = _name_and_age(node, now), node.get("spec") or {}, node.get("status") or {}
    ready = [c.get("status") == "True" for c in status.get("conditions") or [] if c.get("type") == "Ready"]
    states = ["Ready" if ready[-1] else "NotReady"] if ready else ["Unknown"]
    states += ["SchedulingDisabled"] if spec.get("unschedulable") else []
    info, addresses = status.get("nodeInfo") or {}, status.get("addresses") or []

    def address(kind: str) -> str:
        return next((a.get("address") or NONE for a in addresses if a.get("type") == kind), NONE)

    labels = (node.get("metadata") or {}).get("labels") or {}
    roles = {label.removeprefix(ROLE_PREFIX) for label in labels if label.startswith(ROLE_PREFIX)} | {
        labels.get(ROLE_LABEL) or ""
    }
    facts = [info.get(field) or UNKNOWN for field in ("osImage", "kernelVersion", "containerRuntimeVersion")]
    return [
        name, ",".join(states), ",".join(sorted(filter(None, roles))) or NONE, since, info.get("kubeletVersion") or "",
        address("InternalIP"), address("ExternalIP"), *facts,
    ]


def _namespace(namespace: Manifest, now: datetime) -> list[Any]:
    name, since = _name_and_age(namespace, now)
    return [name, (namespace.get("status") or {}).get("phase") or "", since]


def _config_map(config_map: Manifest, now: datetime) -> list[Any]:
    name, since = _name_and_age(config_map, now)
    return [name, len(config_map.get("data") or {}) + len(config_map.get("binaryData") or {}), since]


def _secret(secret: Manifest, now: datetime) -> list[Any]:
    name, since = _name_and_age(secret, now)
    return [name, secret.get("type") or "", len(secret.get("data") or {}), since]


def _service_account(account: Manifest, now: datetime) -> list[Any]:
    name, since = _name_and_age(account, now)
    return [name, len(account.get("secrets") or []), since]


def _lease(lease: Manifest, now: datetime) -> list[Any]:
    name, since = _name_and_age(lease, now)
    return [name, (lease.get("spec") or {}).get("holderIdentity") or "", since]


def _event(event: Manifest, now: datetime) -> list[Any]:
    about, source, series = event.get("involvedObject") or {}, event.get("source") or {}, event.get("series")
    first = age(event.get("firstTimestamp") or event.get("eventTime"), now)
    last = age(event.get("lastTimestamp"), now) if event.get("lastTimestamp") else first
    count = event.get("count") or 1
    if series is not None:
        last, count = age(series.get("lastObservedTime"), now), series.get("count") or 0
    kind = (about.get("kind") or "").lower()
    reporter = source.get("component") or event.get("reportingComponent") or ""
    where = source.get("host") or event.get("reportingInstance") or ""
    return [
        last, event.get("type") or "", event.get("reason") or "", f"{kind}/{about['name']}" if about.get("name") else kind,
        about.get("fieldPath") or "", f"{reporter}, {where}" if where else reporter, (event.get("message") or "").strip(),
        first, count, (event.get("metadata") or {}).get("name") or "",
    ]


def _persistent_volume(volume: Manifest, now: datetime) -> list[Any]:
    (name, since), spec, status = _name_and_age(volume, now), volume.get("spec") or {}, volume.get("status") or {}
    claim = spec.get("claimRef")
    going = (volume.get("metadata") or {}).get("deletionTimestamp")
    return [
        name, (spec.get("capacity") or {}).get("storage") or "0", _modes(spec), spec.get("persistentVolumeReclaimPolicy") or "",
        "Terminating" if going else status.get("phase") or "",
        f"{claim.get('namespace') or ''}/{claim.get('name') or ''}" if claim else "",
        class_of(volume), spec.get("volumeAttributesClassName") or UNSET, status.get("reason") or "", since,
        spec.get("volumeMode") or UNSET,
    ]


def _claim(claim: Manifest, now: datetime) -> list[Any]:
    (name, since), spec, status = _name_and_age(claim, now), claim.get("spec") or {}, claim.get("status") or {}
    bound = bool(spec.get("volumeName"))
    going = (claim.get("metadata") or {}).get("deletionTimestamp")
    return [
        name, "Terminating" if going else status.get("phase") or "", spec.get("volumeName") or "",
        ((status.get("capacity") or {}).get("storage") or "0") if bound else "", _modes(status) if bound else "",
        class_of(claim), spec.get("volumeAttributesClassName") or UNSET, since, spec.get("volumeMode") or UNSET,
    ]


def _modes(holder: Manifest) -> str:
    modes = holder.get("accessModes") or []
    return ",".join(short for mode, short in SHORT_MODES.items() if mode in modes)


@dataclass(frozen=True)
class Printer:
    columns: tuple[Column, ...]
    cells: Callable[[Manifest, datetime], list[Any]]


PRINTERS = {
    "pods": Printer(
        (
            NAME,
            Column("Ready", "The aggregate readiness state of this pod for accepting traffic."),
            Column("Status", "The aggregate status of the containers in this pod."),
            Column(
                "Restarts",
                "The number of times the containers in this pod have been restarted and when the last container in "
                "this pod has restarted.",
            ),
            AGE,
            Column("IP", "PodStatus.podIP", wide=True),
            Column("Node", "PodSpec.nodeName", wide=True),
            Column("Nominated Node", "PodStatus.nominatedNodeName", wide=True),
            Column("Readiness Gates", "PodSpec.readinessGates", wide=True),
        ),
        pod_cells,
    ),
    "nodes": Printer(
        (
            NAME,
            Column("Status", "The status of the node"),
            Column("Roles", "The roles of the node"),
            AGE,
            Column("Version", "NodeSystemInfo.kubeletVersion"),
            Column("Internal-IP", "NodeStatus.addresses", wide=True),
            Column("External-IP", "NodeStatus.addresses", wide=True),
            Column("OS-Image", "NodeSystemInfo.osImage", wide=True),
            Column("Kernel-Version", "NodeSystemInfo.kernelVersion", wide=True),
            Column("Container-Runtime", "NodeSystemInfo.containerRuntimeVersion", wide=True),
        ),
        _node,
    ),
    "namespaces": Printer((NAME, Column("Status", "The status of the namespace"), AGE), _namespace),
    "configmaps": Printer((NAME, Column("Data", "ConfigMap.data"), AGE), _config_map),
    "secrets": Printer((NAME, Column("Type", "Secret.type"), Column("Data", "Secret.data"), AGE), _secret),
    "serviceaccounts": Printer((NAME, Column("Secrets", "ServiceAccount.secrets"), AGE), _service_account),
    "leases": Printer((NAME, Column("Holder", "LeaseSpec.holderIdentity"), AGE), _lease),
    "events": Printer(
        (
            Column("Last Seen", "Event.lastTimestamp"),
            Column("Type", "Event.type"),
            Column("Reason", "Event.reason"),
            Column("Object", "Event.involvedObject"),
            Column("Subobject", "ObjectReference.fieldPath", wide=True),
            Column("Source", "Event.source", wide=True),
            Column("Message", "Event.message"),
            Column("First Seen", "Event.firstTimestamp", wide=True),
            Column("Count", "Event.count", wide=True),
            Column("Name", "ObjectMeta.name", wide=True, format="name"),
        ),
        _event,
    ),
    "persistentvolumes": Printer(
        (
            NAME,
            Column("Capacity", "PersistentVolumeSpec.capacity"),
            Column("Access Modes", "PersistentVolumeSpec.accessModes"),
            Column("Reclaim Policy", "PersistentVolumeSpec.persistentVolumeReclaimPolicy"),
            Column("Status", "PersistentVolumeStatus.phase"),
            Column("Claim", "PersistentVolumeSpec.claimRef"),
            Column("StorageClass", "StorageClass of the pv"),
            Column("VolumeAttributesClass", "PersistentVolumeSpec.volumeAttributesClassName"),
            Column("Reason", "PersistentVolumeStatus.reason"),
            AGE,
            Column("VolumeMode", "PersistentVolumeSpec.volumeMode", wide=True),
        ),
        _persistent_volume,
    ),
    "persistentvolumeclaims": Printer(
        (
            NAME,
            Column("Status", "PersistentVolumeClaimStatus.phase"),
            Column("Volume", "PersistentVolumeClaimSpec.volumeName"),
            Column("Capacity", "PersistentVolumeClaimStatus.capacity"),
            Column("Access Modes", "PersistentVolumeClaimSpec.accessModes"),
            Column("StorageClass", "PersistentVolumeClaimSpec.storageClassName"),
            Column("VolumeAttributesClass", "PersistentVolumeClaimSpec.volumeAttributesClassName"),
            AGE,
            Column("VolumeMode", "PersistentVolumeClaimSpec.volumeMode", wide=True),
        ),
        _claim,
    ),
}
