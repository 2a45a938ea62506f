"""The fields of a Pod manifest that this package reads, with their types, and the check of a manifest against them.

Names and types are those of core/v1 in Kubernetes' OpenAPI. A field that is in the API but that nothing here reads has
the type ANY; a field that is not in the API is an error, as `kubectl apply` makes it one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from labkit.cri.quantity import exact

ANY = object()
QUANTITY = object()
QUANTITY_PATTERN = r"^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"
WORDS = {str: "a string", int: "an integer", bool: "true or false", QUANTITY: "a quantity"}


def names(text: str) -> dict[str, Any]:
    """Fields that may be there and are not read."""
    return dict.fromkeys(text.split(), ANY)


QUANTITIES = {str: QUANTITY}
RESOURCES = {"limits": QUANTITIES, "requests": QUANTITIES, **names("claims")}
KEY_REF = {"name": str, "key": str, "optional": bool}
SELINUX = {"user": str, "role": str, "type": str, "level": str}
PROFILE = {"type": str, "localhostProfile": str}
USER = {
    "runAsUser": int,
    "runAsGroup": int,
    "runAsNonRoot": bool,
    "seLinuxOptions": SELINUX,
    "seccompProfile": PROFILE,
    "appArmorProfile": PROFILE,
    **names("windowsOptions"),
}
POD_SECURITY = {
    **USER,
    "fsGroup": int,
    "supplementalGroups": [int],
    "supplementalGroupsPolicy": str,
    "sysctls": [{"name": str, "value": str}],
    **names("fsGroupChangePolicy seLinuxChangePolicy"),
}
CONTAINER_SECURITY = {
    **USER,
    "privileged": bool,
    "readOnlyRootFilesystem": bool,
    "allowPrivilegeEscalation": bool,
    "procMount": str,
    "capabilities": {"add": [str], "drop": [str]},
}
ENV = {
    "name": str,
    "value": str,
    "valueFrom": {
        "fieldRef": {"apiVersion": str, "fieldPath": str},
        "resourceFieldRef": {"containerName": str, "resource": str, "divisor": QUANTITY},
        "configMapKeyRef": KEY_REF,
        "secretKeyRef": KEY_REF,
        **names("fileKeyRef"),
    },
}
ENV_FROM = {"prefix": str, "configMapRef": {"name": str, "optional": bool}, "secretRef": {"name": str, "optional": bool}}
VOLUME_MOUNT = {
    "name": str,
    "mountPath": str,
    "subPath": str,
    "subPathExpr": str,
    "readOnly": bool,
    "recursiveReadOnly": str,
    "mountPropagation": str,
    **names("bindMountOptions"),
}
CONTAINER = {
    "name": str,
    "image": str,
    "imagePullPolicy": str,
    "command": [str],
    "args": [str],
    "workingDir": str,
    "env": [ENV],
    "envFrom": [ENV_FROM],
    "ports": [{"name": str, "containerPort": int, "hostPort": int, "hostIP": str, "protocol": str}],
    "resources": RESOURCES,
    "securityContext": CONTAINER_SECURITY,
    "volumeMounts": [VOLUME_MOUNT],
    "restartPolicy": str,
    "lifecycle": {"stopSignal": str, **names("postStart preStop")},
    "stdin": bool,
    "stdinOnce": bool,
    "tty": bool,
    "terminationMessagePath": str,
    "terminationMessagePolicy": str,
    **names("livenessProbe readinessProbe startupProbe resizePolicy restartPolicyRules volumeDevices"),
}
EPHEMERAL_CONTAINER = {**CONTAINER, "targetContainerName": str}
VOLUME = {
    "name": str,
    "hostPath": {"path": str, "type": str},
    "emptyDir": {"medium": str, "sizeLimit": QUANTITY, **names("mode")},
    "configMap": {"name": str, "optional": bool, **names("items defaultMode defaultUser")},
    "secret": {"secretName": str, "optional": bool, **names("items defaultMode defaultUser")},
    "persistentVolumeClaim": {"claimName": str, "readOnly": bool},
    "image": {"reference": str, "pullPolicy": str},
    **names(
        "awsElasticBlockStore azureDisk azureFile cephfs cinder csi downwardAPI ephemeral fc flexVolume flocker "
        "gcePersistentDisk gitRepo glusterfs iscsi nfs photonPersistentDisk portworxVolume projected quobyte rbd scaleIO "
        "storageos vsphereVolume"
    ),
}
METADATA = {
    "name": str,
    "namespace": str,
    "uid": str,
    "labels": {str: str},
    "annotations": {str: str},
    "deletionGracePeriodSeconds": int,
    **names(
        "creationTimestamp deletionTimestamp finalizers generateName generation managedFields ownerReferences resourceVersion "
        "selfLink"
    ),
}
SPEC = {
    "containers": [CONTAINER],
    "initContainers": [CONTAINER],
    "ephemeralContainers": [EPHEMERAL_CONTAINER],
    "volumes": [VOLUME],
    "restartPolicy": str,
    "terminationGracePeriodSeconds": int,
    "dnsPolicy": str,
    "dnsConfig": {"nameservers": [str], "searches": [str], "options": [{"name": str, "value": str}]},
    "hostname": str,
    "hostnameOverride": str,
    "subdomain": str,
    "hostNetwork": bool,
    "hostPID": bool,
    "hostIPC": bool,
    "hostUsers": bool,
    "shareProcessNamespace": bool,
    "securityContext": POD_SECURITY,
    "resources": RESOURCES,
    "overhead": QUANTITIES,
    "nodeName": str,
    "serviceAccountName": str,
    "priority": int,
    "priorityClassName": str,
    "enableServiceLinks": bool,
    "imagePullSecrets": [{"name": str}],
    **names(
        "activeDeadlineSeconds affinity automountServiceAccountToken hostAliases nodeSelector os preemptionPolicy "
        "readinessGates resourceClaims runtimeClassName schedulerName schedulingGates schedulingGroup serviceAccount "
        "setHostnameAsFQDN tolerations topologySpreadConstraints evictionResponders"
    ),
}
POD = {"apiVersion": str, "kind": str, "metadata": METADATA, "spec": SPEC, "status": {str: ANY}}


def type_problems(value: Any, wanted: Any = POD, path: str = "") -> Iterator[str]:
    """A sentence for each value whose type is not `wanted`. None counts as absent, as in the API."""
    if value is None or wanted is ANY:
        return
    if isinstance(wanted, list):
        yield from _list_problems(value, wanted[0], path)
    elif isinstance(wanted, Mapping):
        yield from _object_problems(value, wanted, path)
    elif wanted is QUANTITY:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)) or not is_quantity(value):
            yield f"{path}: Invalid value: {shown(value)}: quantities must match the regular expression '{QUANTITY_PATTERN}'"
    elif type(value) is not wanted:
        yield f"{path}: Invalid value: {shown(value)}: must be {WORDS[wanted]}"


def is_quantity(value: object) -> bool:
    """Whether `value` is written as Kubernetes writes amounts: "250m", "64Mi", "1e3", 2."""
    try:
        exact(str(value))
    except ValueError:
        return False
    return True


def shown(value: object) -> str:
    """A value in a message, as Kubernetes shows it: strings quoted, true and false."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or isinstance(value, (str, Mapping)):
        return '"' + str("null" if value is None else value if isinstance(value, str) else dict(value)) + '"'
    return str(value)


def _list_problems(value: Any, item: Any, path: str) -> Iterator[str]:
    if not isinstance(value, (list, tuple)):
        what = {str: "a list of strings", int: "a list of integers"}.get(item, "a list") if isinstance(item, type) else "a list"
        yield f"{path}: Invalid value: {shown(value)}: must be {what}"
        return
    for number, element in enumerate(value):
        if element is None:
            yield f"{path}[{number}]: Required value"
        yield from type_problems(element, item, f"{path}[{number}]")


def _object_problems(value: Any, wanted: Mapping[Any, Any], path: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{path or 'manifest'}: Invalid value: {shown(value)}: must be a mapping of fields"
        return
    for key, element in value.items():
        if not isinstance(key, str):
            yield f"{path}: Invalid value: {shown(key)}: keys must be strings"
        elif str in wanted:
            if element is None:
                yield f"{path}[{key}]: Invalid value: {shown(element)}: must be {WORDS.get(wanted[str], 'a value')}"
            yield from type_problems(element, wanted[str], f"{path}[{key}]")
        elif key not in wanted:
            yield f'unknown field "{path}.{key}"' if path else f'unknown field "{key}"'
        else:
            yield from type_problems(element, wanted[key], f"{path}.{key}" if path else key)
