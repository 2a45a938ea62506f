"""Makes schema.json: the kinds that kubeapi serves, as OpenAPI v2 definitions: `python -m authoring.generate.api_schema`.

Names, types, required fields and descriptions come from the models of the `kubernetes` package, which are themselves made
from Kubernetes' OpenAPI. What those models lose on the way (the width of integers, quantities, and how lists are merged by
strategic-merge and server-side apply) is written here, from the field tags in k8s.io/api's types.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import labkit.podspec.schema

PATH = Path(labkit.podspec.schema.__file__).with_name("schema.json")
CORE, META = "io.k8s.api.core.v1.", "io.k8s.apimachinery.pkg.apis.meta.v1."
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
TIME, MICRO_TIME, FIELDS, PATCH = (META + name for name in ("Time", "MicroTime", "FieldsV1", "Patch"))
KINDS = (
    "Pod", "Node", "Namespace", "ConfigMap", "Secret", "PersistentVolume", "PersistentVolumeClaim", "ServiceAccount", "Lease",
)
ROOTS = (
    *(f"V1{kind}{part}" for kind in KINDS for part in ("", "List")),
    *("CoreV1Event", "CoreV1EventList", "V1Binding", "V1Eviction", "V1Status", "V1DeleteOptions"),
)
OTHER_GROUPS = {"Lease": "coordination.k8s.io", "LeaseList": "coordination.k8s.io", "Eviction": "policy"}
METAS = (
    "DeleteOptions", "LabelSelector", "LabelSelectorRequirement", "ListMeta", "ManagedFieldsEntry", "ObjectMeta",
    "OwnerReference", "Preconditions", "ShardInfo", "Status", "StatusCause", "StatusDetails",
)
LEASES = ("Lease", "LeaseList", "LeaseSpec")
QUANTITY_MAPS = ("limits", "requests", "capacity", "allocatable", "allocatedResources", "overhead")
QUANTITIES = ("ResourceFieldSelector.divisor", "EmptyDirVolumeSource.sizeLimit")
MICRO_TIMES = ("LeaseSpec.acquireTime", "LeaseSpec.renewTime", "Event.eventTime", "EventSeries.lastObservedTime")
INT64 = (  # every other integer is an int32
    "activeDeadlineSeconds", "capacity", "defaultUser", "deletionGracePeriodSeconds", "expirationSeconds", "fsGroup",
    "generation", "gid", "gracePeriodSeconds", "observedGeneration", "remainingItemCount", "runAsGroup", "runAsUser", "seconds",
    "sizeBytes", "supplementalGroups", "terminationGracePeriodSeconds", "tolerationSeconds", "uid", "user",
)
MERGE_KEYS = {  # patchMergeKey with patchStrategy merge
    "Container.env": "name",
    "Container.ports": "containerPort",
    "Container.volumeDevices": "devicePath",
    "Container.volumeMounts": "mountPath",
    "ContainerStatus.allocatedResourcesStatus": "name",
    "ContainerStatus.volumeMounts": "mountPath",
    "NamespaceStatus.conditions": "type",
    "NodeStatus.addresses": "type",
    "NodeStatus.conditions": "type",
    "ObjectMeta.ownerReferences": "uid",
    "PersistentVolumeClaimStatus.conditions": "type",
    "PodSpec.containers": "name",
    "PodSpec.ephemeralContainers": "name",
    "PodSpec.hostAliases": "ip",
    "PodSpec.imagePullSecrets": "name",
    "PodSpec.initContainers": "name",
    "PodSpec.resourceClaims": "name",
    "PodSpec.schedulingGates": "name",
    "PodSpec.topologySpreadConstraints": "topologyKey",
    "PodSpec.volumes": "name",
    "PodStatus.conditions": "type",
    "PodStatus.hostIPs": "ip",
    "PodStatus.podIPs": "ip",
    "PodStatus.resourceClaimStatuses": "name",
    "ServiceAccount.secrets": "name",
} | {f"EphemeralContainer.{name}": key for name, key in (
    ("env", "name"), ("ports", "containerPort"), ("volumeDevices", "devicePath"), ("volumeMounts", "mountPath"))}
RETAIN_KEYS = ("PodSpec.volumes", "PodSpec.resourceClaims", "PodStatus.resourceClaimStatuses")
SETS = ("ObjectMeta.finalizers", "NodeSpec.podCIDRs")  # listType=set, patchStrategy=merge
MAP_KEYS = {  # listMapKey, where it is not the merge key
    "Container.ports": ["containerPort", "protocol"],
    "EphemeralContainer.ports": ["containerPort", "protocol"],
    "PodSpec.topologySpreadConstraints": ["topologyKey", "whenUnsatisfiable"],
    "ResourceRequirements.claims": ["name"],
    "ResourceStatus.resources": ["resourceID"],
}
ATOMIC_ALL_THE_SAME = ("PodStatus.hostIPs",)
ATOMIC_MAPS = (
    "ConfigMapKeySelector", "FileKeySelector", "LabelSelector", "LocalObjectReference", "NodeSelector", "NodeSelectorTerm",
    "ObjectFieldSelector", "ObjectReference", "OwnerReference", "ResourceFieldSelector", "SecretKeySelector", "SecretReference",
    "TypedLocalObjectReference",
)
DEFAULTS = {"ContainerPort.protocol": "TCP"}
PULL, EFFECTS, POLICIES = (
    ["Always", "IfNotPresent", "Never"], ["NoSchedule", "PreferNoSchedule", "NoExecute"], ["Honor", "Ignore"],
)
ENUMS = {  # in the order in which Kubernetes' refusals list them
    "AppArmorProfile.type": ["Localhost", "RuntimeDefault", "Unconfined"],
    "Container.imagePullPolicy": PULL,
    "Container.restartPolicy": ["Always", "Never", "OnFailure"],
    "Container.terminationMessagePolicy": ["File", "FallbackToLogsOnError"],
    "ContainerPort.protocol": ["SCTP", "TCP", "UDP"],
    "ContainerResizePolicy.resourceName": ["cpu", "memory"],
    "ContainerResizePolicy.restartPolicy": ["NotRequired", "RestartContainer"],
    "HTTPGetAction.scheme": ["HTTP", "HTTPS"],
    "HostPathVolumeSource.type": [
        "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"],
    "ImageVolumeSource.pullPolicy": PULL,
    "PersistentVolumeClaimSpec.accessModes": ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"],
    "PersistentVolumeSpec.persistentVolumeReclaimPolicy": ["Delete", "Recycle", "Retain"],
    "PersistentVolumeSpec.volumeMode": ["Block", "Filesystem"],
    "PodOS.name": ["linux", "windows"],
    "PodSecurityContext.fsGroupChangePolicy": ["Always", "OnRootMismatch"],
    "PodSecurityContext.seLinuxChangePolicy": ["MountOption", "Recursive"],
    "PodSecurityContext.supplementalGroupsPolicy": ["Merge", "Strict"],
    "PodSpec.dnsPolicy": ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
    "PodSpec.preemptionPolicy": ["PreemptLowerPriority", "Never"],
    "PodSpec.restartPolicy": ["Always", "OnFailure", "Never"],
    "SeccompProfile.type": ["Localhost", "RuntimeDefault", "Unconfined"],
    "SecurityContext.procMount": ["Default", "Unmasked"],
    "Taint.effect": EFFECTS,
    "Toleration.effect": EFFECTS,
    "Toleration.operator": ["Equal", "Exists"],
    "TopologySpreadConstraint.nodeAffinityPolicy": POLICIES,
    "TopologySpreadConstraint.nodeTaintsPolicy": POLICIES,
    "TopologySpreadConstraint.whenUnsatisfiable": ["DoNotSchedule", "ScheduleAnyway"],
    "VolumeMount.mountPropagation": ["Bidirectional", "HostToContainer", "None"],
    "VolumeMount.recursiveReadOnly": ["Disabled", "Enabled", "IfPossible"],
}
SAME_ENUMS = {"EphemeralContainer": "Container", "PersistentVolumeSpec.accessModes": "PersistentVolumeClaimSpec.accessModes",
              "PersistentVolumeClaimSpec.volumeMode": "PersistentVolumeSpec.volumeMode"}
CONVENTIONS = "More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"
ABOUT = {  # fields of a kind of their own: the package's models leave out what the API says of them
    "*.metadata": f"Standard object's metadata. {CONVENTIONS}#metadata",
    "*List.metadata": f"Standard list metadata. {CONVENTIONS}#types-kinds",
    "*.spec": f"Specification of the desired behavior of the object. {CONVENTIONS}#spec-and-status",
    "*.status": f"Most recently observed status of the object. Populated by the system. Read-only. {CONVENTIONS}#spec-and-status",
    "*.exec": "Exec specifies a command to execute in the container.",
    "*.httpGet": "HTTPGet specifies an HTTP GET request to perform.",
    "*.tcpSocket": "TCPSocket specifies a connection to a TCP port.",
    "*.grpc": "GRPC specifies a GRPC HealthCheckRequest.",
    "*.sleep": "Sleep represents a duration that the container should sleep.",
    "*.lifecycle": "Actions that the management system should take in response to container lifecycle events.",
    "*.livenessProbe": "Periodic probe of container liveness. Container will be restarted if the probe fails. Cannot be updated.",
    "*.readinessProbe": "Periodic probe of container service readiness. Container will be removed from service endpoints if the "
    "probe fails. Cannot be updated.",
    "*.startupProbe": "StartupProbe indicates that the Pod has successfully initialized. If specified, no other probes are "
    "executed until this completes successfully. If this probe fails, the Pod will be restarted, as if the livenessProbe failed.",
    "*.resources": "Compute resources required: requests and limits.",
    "*.securityContext": "SecurityContext defines the security options to run with. Those of a container override the Pod's.",
    "PodSpec.affinity": "If specified, the pod's scheduling constraints",
    "PodSpec.dnsConfig": "Specifies the DNS parameters of a pod, merged into the configuration that dnsPolicy gives.",
    "EnvVar.valueFrom": "Source for the environment variable's value. Cannot be used if value is not empty.",
    "*.configMapKeyRef": "Selects a key of a ConfigMap.",
    "*.secretKeyRef": "Selects a key of a secret in the pod's namespace",
    "*.fieldRef": "Selects a field of the pod, such as metadata.name, metadata.labels['KEY'], spec.nodeName or status.podIP.",
    "*.resourceFieldRef": "Selects a resource of the container: its limits or requests of cpu, memory and ephemeral-storage.",
    "*.configMapRef": "The ConfigMap to select from",
    "*.secretRef": "The Secret to select from",
    "Volume.configMap": "configMap represents a configMap that should populate this volume",
    "Volume.downwardAPI": "downwardAPI represents downward API about the pod that should populate this volume",
    "Volume.emptyDir": "emptyDir represents a temporary directory that shares a pod's lifetime.",
    "Volume.hostPath": "hostPath represents a pre-existing file or directory on the host machine that is directly exposed to the "
    "container. Most containers do not need it.",
    "Volume.persistentVolumeClaim": "persistentVolumeClaim represents a reference to a claim in the same namespace.",
    "Volume.projected": "projected items for all in one resources secrets, configmaps, and downward API",
    "Volume.secret": "secret represents a secret that should populate this volume.",
    "*.state": "Details about the container's current condition.",
    "*.lastState": "Details about the container's last termination, if it has ever been restarted.",
}
SCALARS: dict[str, dict[str, Any]] = {
    QUANTITY: {
        "description": "Quantity is an exact amount: a number with a suffix such as m, k, M, G, Ki, Mi, Gi, or an exponent.",
        "type": "string",
    },
    INT_OR_STRING: {
        "description": "IntOrString is a number or a string, such as the number or the name of a port.",
        "type": "string",
        "format": "int-or-string",
    },
    TIME: {"description": "Time is a moment, written as RFC 3339 with seconds.", "type": "string", "format": "date-time"},
    MICRO_TIME: {
        "description": "MicroTime is a moment, written as RFC 3339 with microseconds.",
        "type": "string",
        "format": "date-time",
    },
    FIELDS: {"description": "FieldsV1 is a set of fields, stored as a trie in JSON.", "type": "object"},
    PATCH: {"description": "Patch is what a PATCH request carries.", "type": "object"},
}


def make() -> dict[str, Any]:
    """{"source": which package, "definitions": {full name: OpenAPI v2 schema}} of ROOTS and all that they refer to."""
    import kubernetes.client.models as models
    from kubernetes import __version__

    definitions, waiting = dict(SCALARS), list(ROOTS)
    while waiting:
        model = waiting.pop()
        if full_name(model) not in definitions:
            definitions[full_name(model)] = _definition(getattr(models, model))
            for kind in getattr(models, model).openapi_types.values():
                waiting += [word for word in re.findall(r"\w+V1\w+|V1\w+", kind) if hasattr(models, word)]
    return {"source": f"kubernetes {__version__}", "definitions": dict(sorted(definitions.items()))}


def text(schema: dict[str, Any]) -> str:
    """schema.json's text: a line for each definition, so that a change shows where it is."""
    lines = (f"{json.dumps(name)}:{json.dumps(value, **COMPACT)}" for name, value in schema["definitions"].items())
    return f'{{"source":{json.dumps(schema["source"])},"definitions":{{\n' + ",\n".join(lines) + "\n}}\n"


COMPACT: Any = {"separators": (",", ":"), "sort_keys": True, "ensure_ascii": False}


def full_name(model: str) -> str:
    """A model's name in Kubernetes' OpenAPI: V1Pod → io.k8s.api.core.v1.Pod."""
    kind = re.sub(r"^(Core)?V1", "", model)
    if kind in METAS:
        return META + kind
    group = "coordination" if kind in LEASES else "policy" if kind == "Eviction" else "core"
    return f"io.k8s.api.{group}.v1.{kind}"


def _definition(model: Any) -> dict[str, Any]:
    kind = full_name(model.__name__).rpartition(".")[2]
    fields = {name.removeprefix("var_").lstrip("_"): field for name, field in model.model_fields.items()}
    properties, required = {}, []
    for python_name, name in model.attribute_map.items():
        field = fields[python_name.removeprefix("var_").lstrip("_")]
        value = _property(kind, name, model.openapi_types[python_name])
        if about := field.description or _about(kind, name):
            value["description"] = about
        properties[name] = value
        required += [name] if field.is_required() else []
    words = (model.__doc__ or "").partition("Attributes:")[0].strip()
    definition: dict[str, Any] = {"description": words, "type": "object", "properties": properties}
    if required:
        definition["required"] = sorted(required)
    if kind in ATOMIC_MAPS:
        definition["x-kubernetes-map-type"] = "atomic"
    if {"apiVersion", "kind", "metadata"} <= set(properties) or kind in ("Status", "DeleteOptions"):
        definition["x-kubernetes-group-version-kind"] = list(_versions(kind))
    return definition


def _about(kind: str, name: str) -> str:
    patterns = (f"{kind}.{name}", "*List.metadata" if kind.endswith("List") and name == "metadata" else "", f"*.{name}")
    return next((ABOUT[pattern] for pattern in patterns if pattern in ABOUT), "")


def _versions(kind: str) -> Iterator[dict[str, str]]:
    groups = ["", "coordination.k8s.io", "policy"] if kind == "DeleteOptions" else [OTHER_GROUPS.get(kind, "")]
    for group in groups:
        yield {"group": group, "kind": kind, "version": "v1"}


def _property(kind: str, name: str, python_type: str) -> dict[str, Any]:
    field = f"{kind}.{name}"
    if match := re.fullmatch(r"List\[(.+)\]", python_type):
        value: dict[str, Any] = {"type": "array", "items": _property(kind, name, match[1])}
        return value if kind.endswith("List") and name == "items" else value | _merging(field)
    if match := re.fullmatch(r"Dict\[str, (.+)\]", python_type):
        inner = {"$ref": f"#/definitions/{QUANTITY}"} if name in QUANTITY_MAPS else _property(kind, "", match[1])
        return {"type": "object", "additionalProperties": inner}
    if field in QUANTITIES:
        return {"$ref": f"#/definitions/{QUANTITY}"}
    simple: dict[str, dict[str, Any]] = {
        "str": {"type": "string"},
        "bool": {"type": "boolean"},
        "int": {"type": "integer", "format": "int64" if name in INT64 else "int32"},
        "bytes": {"type": "string", "format": "byte"},
        "datetime": {"$ref": f"#/definitions/{MICRO_TIME if field in MICRO_TIMES else TIME}"},
        "object": {"$ref": f"#/definitions/{FIELDS if name == 'fieldsV1' else INT_OR_STRING}"},
    }
    value = simple.get(python_type) or {"$ref": f"#/definitions/{full_name(python_type)}"}
    enum = ENUMS.get(SAME_ENUMS.get(field) or f"{SAME_ENUMS.get(kind, kind)}.{name}")
    return value | ({"default": DEFAULTS[field]} if field in DEFAULTS else {}) | ({"enum": enum} if enum else {})


def _merging(field: str) -> dict[str, Any]:
    """The x-kubernetes- extensions of a list."""
    key = MERGE_KEYS.get(field)
    map_keys = MAP_KEYS.get(field, [key] if key and field not in ATOMIC_ALL_THE_SAME else [])
    value: dict[str, Any] = {"x-kubernetes-list-type": "map" if map_keys else "set" if field in SETS else "atomic"}
    if map_keys:
        value["x-kubernetes-list-map-keys"] = map_keys
    if key:
        value["x-kubernetes-patch-merge-key"] = key
    if key or field in SETS:
        value["x-kubernetes-patch-strategy"] = "merge,retainKeys" if field in RETAIN_KEYS else "merge"
    return value


if __name__ == "__main__":
    PATH.write_text(text(make()), encoding="utf-8")
    print(f"{PATH}: {PATH.stat().st_size} bytes", file=sys.stderr)
