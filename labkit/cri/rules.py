"""What must hold in a Pod manifest whose types are right: required fields, names, references, ranges.

The rules and their wording are those of kubernetes' pkg/apis/core/validation, as far as a node depends on them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from labkit.cri.quantity import exact
from labkit.cri.schema import shown

LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{LABEL}(\.{LABEL})*"
LABEL_WORDS = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an "
    f"alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{LABEL}')"
)
SUBDOMAIN_WORDS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end "
    f"with an alphanumeric character (e.g. 'example.com', regex used for validation is '{SUBDOMAIN}')"
)
CONTAINER_LISTS = ("containers", "initContainers", "ephemeralContainers")
FIELD_PATHS = re.compile(
    r"metadata\.(name|namespace|uid|(labels|annotations)\['[^']+'\])|spec\.(nodeName|serviceAccountName)|status\.(podIPs?|hostIPs?)"
)
VARIABLE_WORDS = "a valid environment variable name must consist only of printable ASCII characters other than '='"
REQUIRED = {
    "hostPath": "path",
    "configMap": "name",
    "secret": "secretName",
    "persistentVolumeClaim": "claimName",
    "image": "reference",
}
ALLOWED = {
    "restartPolicy": ("Always", "OnFailure", "Never"),
    "imagePullPolicy": ("Always", "IfNotPresent", "Never"),
    "dnsPolicy": ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    "terminationMessagePolicy": ("FallbackToLogsOnError", "File"),
    "protocol": ("SCTP", "TCP", "UDP"),
    "mountPropagation": ("Bidirectional", "HostToContainer", "None"),
    "procMount": ("Default", "Unmasked"),
    "type": ("Localhost", "RuntimeDefault", "Unconfined"),
}


def rule_problems(pod: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each rule that a manifest with the right types breaks."""
    if pod.get("kind", "Pod") != "Pod":
        yield f'kind: Invalid value: {shown(pod["kind"])}: must be "Pod"'
        return
    if pod.get("apiVersion", "v1") != "v1":
        yield f'apiVersion: Invalid value: {shown(pod["apiVersion"])}: must be "v1"'
    yield from _metadata(pod.get("metadata") or {})
    spec = pod.get("spec") or {}
    if not spec.get("containers"):
        yield "spec.containers: Required value"
    yield from _allowed(spec, "spec", "restartPolicy", "dnsPolicy")
    yield from _not_negative(spec, "terminationGracePeriodSeconds", "spec")
    for field in ("hostname", "subdomain"):
        if spec.get(field):
            yield from _label(spec[field], f"spec.{field}")
    if spec.get("hostUsers") is False:
        yield "spec.hostUsers: Forbidden: a user namespace needs id ranges, which only a kubelet hands out"
    yield from _security(spec.get("securityContext") or {}, "spec.securityContext")
    volumes = list(_each(spec, "volumes", "spec"))
    yield from _unique(volumes, "name")
    for volume, path in volumes:
        yield from _volume(volume, path)
    containers = [found for kind in CONTAINER_LISTS for found in _each(spec, kind, "spec")]
    yield from _unique(containers, "name")
    for container, path in containers:
        yield from _container(container, path, {volume.get("name") for volume, _ in volumes})


def _metadata(metadata: Mapping[str, Any]) -> Iterator[str]:
    if not metadata.get("name"):
        yield "metadata.name: Required value: name or generateName is required"
    else:
        yield from _matches(metadata["name"], "metadata.name", SUBDOMAIN, SUBDOMAIN_WORDS, 253)
    if metadata.get("namespace"):
        yield from _label(metadata["namespace"], "metadata.namespace")
    if metadata.get("uid"):
        words = "it is part of paths: letters, digits, '-' and '.' only"
        yield from _matches(metadata["uid"], "metadata.uid", r"[0-9A-Za-z]([-.0-9A-Za-z]*[0-9A-Za-z])?", words, 128)


def _container(container: Mapping[str, Any], path: str, volumes: set[str | None]) -> Iterator[str]:
    if not container.get("name"):
        yield f"{path}.name: Required value"
    else:
        yield from _label(container["name"], f"{path}.name")
    if not container.get("image"):
        yield f"{path}.image: Required value"
    elif container["image"] != container["image"].strip():
        yield f"{path}.image: Invalid value: {shown(container['image'])}: must not have leading or trailing whitespace"
    yield from _allowed(container, path, "imagePullPolicy", "terminationMessagePolicy")
    if container.get("restartPolicy"):
        yield from _allowed(container, path, "restartPolicy")
    yield from _resources(container.get("resources") or {}, f"{path}.resources")
    yield from _security(container.get("securityContext") or {}, f"{path}.securityContext")
    for port, at in _each(container, "ports", path):
        yield from _port(port, at)
    for variable, at in _each(container, "env", path):
        yield from _variable(variable, at)
    mounts = list(_each(container, "volumeMounts", path))
    for mount, at in mounts:
        yield from _mount(mount, at, volumes)
    yield from _unique(mounts, "mountPath", lambda at, value: f"{at}: Invalid value: {shown(value)}: must be unique")


def _port(port: Mapping[str, Any], path: str) -> Iterator[str]:
    if port.get("containerPort") is None:
        yield f"{path}.containerPort: Required value"
    for field in ("containerPort", "hostPort"):
        if port.get(field) is not None and not (field == "hostPort" and port[field] == 0) and not 1 <= port[field] <= 65535:
            yield f"{path}.{field}: Invalid value: {port[field]}: must be between 1 and 65535, inclusive"
    yield from _allowed(port, path, "protocol")


def _variable(variable: Mapping[str, Any], path: str) -> Iterator[str]:
    name = variable.get("name")
    if not name:
        yield f"{path}.name: Required value"
    elif "=" in name or not name.isprintable():
        yield f"{path}.name: Invalid value: {shown(name)}: {VARIABLE_WORDS}"
    source = variable.get("valueFrom")
    if source is None:
        return
    if variable.get("value"):
        yield f'{path}.valueFrom: Invalid value: "": may not be specified when `value` is not empty'
    given = {key: value for key, value in source.items() if value is not None}
    if len(given) != 1:
        what = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef`"
        what = "may not have more than one field specified at a time" if given else what
        yield f'{path}.valueFrom: Invalid value: "": {what}'
    for kind, reference in given.items():
        for field in {"fieldRef": ("fieldPath",), "resourceFieldRef": ("resource",)}.get(kind, ("key", "name")):
            if not reference.get(field) and kind != "fileKeyRef":
                yield f"{path}.valueFrom.{kind}.{field}: Required value"
    field_path = (given.get("fieldRef") or {}).get("fieldPath")
    if field_path and not FIELD_PATHS.fullmatch(field_path):
        words = f"error converting fieldPath: field label not supported: {field_path}"
        yield f"{path}.valueFrom.fieldRef.fieldPath: Invalid value: {shown(field_path)}: {words}"


def _mount(mount: Mapping[str, Any], path: str, volumes: set[str | None]) -> Iterator[str]:
    if not mount.get("name"):
        yield f"{path}.name: Required value"
    elif mount["name"] not in volumes:
        yield f"{path}.name: Not found: {shown(mount['name'])}"
    if not mount.get("mountPath"):
        yield f"{path}.mountPath: Required value"
    sub_path = mount.get("subPath") or ""
    if sub_path.startswith("/"):
        yield f"{path}.subPath: Invalid value: {shown(sub_path)}: must be a relative path"
    if ".." in sub_path.split("/"):
        yield f"{path}.subPath: Invalid value: {shown(sub_path)}: must not contain '..'"
    yield from _allowed(mount, path, "mountPropagation")


def _volume(volume: Mapping[str, Any], path: str) -> Iterator[str]:
    if not volume.get("name"):
        yield f"{path}.name: Required value"
    else:
        yield from _label(volume["name"], f"{path}.name")
    sources = [key for key, value in volume.items() if key != "name" and value is not None]
    for extra in sources[1:]:
        yield f"{path}.{extra}: Forbidden: may not specify more than 1 volume type"
    for kind, field in REQUIRED.items():
        if volume.get(kind) is not None and not volume[kind].get(field):
            yield f"{path}.{kind}.{field}: Required value"
    if ".." in ((volume.get("hostPath") or {}).get("path") or "").split("/"):
        yield f"{path}.hostPath.path: Invalid value: {shown(volume['hostPath']['path'])}: must not contain '..'"


def _resources(resources: Mapping[str, Any], path: str) -> Iterator[str]:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for field, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            if exact(amount) < 0:
                yield f"{path}.{field}[{name}]: Invalid value: {shown(str(amount))}: must be greater than or equal to 0"
    for name, amount in requests.items():
        if name in limits and exact(amount) > exact(limits[name]):
            words = f"must be less than or equal to {name} limit of {limits[name]}"
            yield f"{path}.requests: Invalid value: {shown(str(amount))}: {words}"


def _security(context: Mapping[str, Any], path: str) -> Iterator[str]:
    for field in ("runAsUser", "runAsGroup", "fsGroup"):
        yield from _not_negative(context, field, path)
    yield from _allowed(context, path, "procMount")
    for field in ("seccompProfile", "appArmorProfile"):
        profile = context.get(field)
        if profile is None:
            continue
        if not profile.get("type"):
            yield f"{path}.{field}.type: Required value: type is required when {field} is set"
        yield from _allowed(profile, f"{path}.{field}", "type")
        if profile.get("type") == "Localhost" and not profile.get("localhostProfile"):
            words = f"must be set when {field.removesuffix('Profile')} type is Localhost"
            yield f"{path}.{field}.localhostProfile: Required value: {words}"
    if context.get("privileged") and context.get("allowPrivilegeEscalation") is False:
        yield f"{path}: Invalid value: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"


def _each(owner: Mapping[str, Any], field: str, path: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    for number, item in enumerate(owner.get(field) or ()):
        yield item, f"{path}.{field}[{number}]"


def _duplicate(path: str, value: object) -> str:
    return f"{path}: Duplicate value: {shown(value)}"


def _unique(
    items: list[tuple[Mapping[str, Any], str]], field: str, words: Callable[[str, object], str] = _duplicate
) -> Iterator[str]:
    seen: set[object] = set()
    for item, path in items:
        if item.get(field) and item[field] in seen:
            yield words(f"{path}.{field}", item[field])
        seen.add(item.get(field))


def _allowed(owner: Mapping[str, Any], path: str, *fields: str) -> Iterator[str]:
    for field in fields:
        if owner.get(field) and owner[field] not in ALLOWED[field]:
            values = ", ".join(shown(value) for value in ALLOWED[field])
            yield f"{path}.{field}: Unsupported value: {shown(owner[field])}: supported values: {values}"


def _not_negative(owner: Mapping[str, Any], field: str, path: str) -> Iterator[str]:
    if (owner.get(field) or 0) < 0:
        yield f"{path}.{field}: Invalid value: {owner[field]}: must be greater than or equal to 0"


def _label(value: str, path: str) -> Iterator[str]:
    yield from _matches(value, path, LABEL, LABEL_WORDS, 63)


def _matches(value: str, path: str, pattern: str, words: str, length: int) -> Iterator[str]:
    if not re.fullmatch(pattern, value):
        yield f"{path}: Invalid value: {shown(value)}: {words}"
    if len(value) > length:
        yield f"{path}: Invalid value: {shown(value)}: must be no more than {length} characters"
