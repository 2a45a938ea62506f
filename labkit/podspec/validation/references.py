"""References by which a Pod reads its own fields, its containers' resources, ConfigMaps and Secrets; and environment variables.

Knowledge: pkg/apis/core/validation (ValidateEnv, validateObjectFieldSelector), core/pods (ConvertDownwardAPIFieldLabel).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from labkit.podspec.quantity import canonical, exact
from labkit.podspec.validation import words
from labkit.podspec.validation.words import Causes, each, invalid, required, unsupported

Manifest = Mapping[str, Any]
VARIABLE_FIELDS = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
    "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
)  # fmt: skip
KNOWN_FIELDS = (
    *VARIABLE_FIELDS, "metadata.annotations", "metadata.labels", "spec.restartPolicy", "spec.schedulerName", "status.phase",
)  # fmt: skip
RESOURCES = tuple(f"{kind}.{name}" for kind in ("limits", "requests") for name in ("cpu", "ephemeral-storage", "memory"))
SIZES = ("1", *(f"1{suffix}" for suffix in ("k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")))
DIVISORS = {"cpu": ("1m", "1"), "memory": SIZES, "ephemeral-storage": SIZES, "hugepages": SIZES}
DIVISOR_WORDS = {"cpu": "cpu", "memory": "memory", "ephemeral-storage": "local ephemeral storage", "hugepages": "hugepages"}
SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
TWO = "may not have more than one field specified at a time"


def environment(container: Manifest, path: str) -> Causes:
    """A container's `env` and `envFrom`."""
    for number, variable in enumerate(container.get("env") or []):
        at, name = f"{path}.env[{number}]", variable.get("name") or ""
        if not name:
            yield required(f"{at}.name")
        else:
            yield from each(f"{at}.name", name, words.variable_name(name))
        if variable.get("valueFrom") is not None:
            yield from _value_from(variable, f"{at}.valueFrom")
    for number, source in enumerate(container.get("envFrom") or []):
        at = f"{path}.envFrom[{number}]"
        if prefix := source.get("prefix"):
            yield from each(f"{at}.prefix", prefix, words.variable_name(prefix))
        given = [kind for kind in ("configMapRef", "secretRef") if source.get(kind) is not None]
        for kind in given:
            name = source[kind].get("name") or ""
            yield from each(f"{at}.{kind}.name", name, words.subdomain(name)) if name else [required(f"{at}.{kind}.name")]
        if len(given) != 1:
            yield invalid(f"{path}.envFrom", "", TWO if given else "must specify one of: `configMapRef` or `secretRef`")


def _value_from(variable: Manifest, path: str) -> Causes:
    source = variable["valueFrom"]
    given = [kind for kind in SOURCES if source.get(kind) is not None]
    for kind in given:
        at, reference = f"{path}.{kind}", source[kind]
        match kind:
            case "fieldRef":
                yield from field_ref(reference, at, VARIABLE_FIELDS)
            case "resourceFieldRef":
                yield from resource_field_ref(reference, at)
            case "configMapKeyRef" | "secretKeyRef":
                yield from each(f"{at}.name", reference.get("name") or "", words.subdomain(reference.get("name") or ""))
                yield from _key(reference, at)
            case "fileKeyRef":
                yield from _file_key(reference, at)
    if not given:
        choice = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        yield invalid(path, "", choice)
    elif variable.get("value"):
        yield invalid(path, "", "may not be specified when `value` is not empty")
    elif len(given) > 1:
        yield invalid(path, "", TWO)


def _key(reference: Manifest, path: str) -> Causes:
    key = reference.get("key") or ""
    yield from each(f"{path}.key", key, words.config_key(key)) if key else [required(f"{path}.key")]


def _file_key(reference: Manifest, path: str) -> Causes:
    for field in ("key", "volumeName", "path"):
        if not reference.get(field):
            yield required(f"{path}.{field}")
    yield from words.local_path(f"{path}.path", reference.get("path") or "")


def field_ref(reference: Manifest, path: str, allowed: Sequence[str]) -> Causes:
    """A reference to a field of the Pod itself: one of `allowed`, or one label or annotation."""
    wanted, version = reference.get("fieldPath") or "", reference.get("apiVersion") or ""
    if not version:
        yield required(f"{path}.apiVersion")
        return
    if not wanted:
        yield required(f"{path}.fieldPath")
        return
    subscripted = re.fullmatch(r"(.+?)\['(.*)'\]", wanted, re.DOTALL)
    field = subscripted[1] if subscripted else "spec.nodeName" if wanted == "spec.host" else wanted
    if version != "v1":
        yield invalid(f"{path}.fieldPath", wanted, f"error converting fieldPath: unsupported pod version: {version}")
    elif subscripted and field not in ("metadata.annotations", "metadata.labels"):
        said = f'error converting fieldPath: field label does not support subscript: "{field}"'
        yield invalid(f"{path}.fieldPath", wanted, said)
    elif subscripted:
        key = subscripted[2].lower() if field == "metadata.annotations" else subscripted[2]
        yield from each(path, key, words.qualified_name(key))
    elif field not in KNOWN_FIELDS:
        yield invalid(f"{path}.fieldPath", wanted, f"error converting fieldPath: field label not supported: {field}")
    elif field not in allowed:
        yield unsupported(f"{path}.fieldPath", field, sorted(allowed))


def resource_field_ref(reference: Manifest, path: str, *, of_volume: bool = False) -> Causes:
    """A reference to a container's limit or request; in a volume it names the container."""
    resource = reference.get("resource") or ""
    kind, _, name = resource.partition(".")
    huge = kind in ("limits", "requests") and name.startswith("hugepages-")
    if of_volume and not reference.get("containerName"):
        yield required(f"{path}.containerName")
    elif not resource:
        yield required(f"{path}.resource")
    elif resource not in RESOURCES and not huge:
        yield unsupported(f"{path}.resource", resource, RESOURCES)
    divisor, divisors = reference.get("divisor") or "0", "hugepages" if huge else name
    if divisors in DIVISORS and exact(divisor) != 0 and canonical(str(divisor)) not in DIVISORS[divisors]:
        values = "values 1m and 1" if divisors == "cpu" else f"values {', '.join(SIZES)}"
        said = f"only divisor's {values} are supported with the {DIVISOR_WORDS[divisors]} resource"
        yield invalid(f"{path}.divisor", resource, said)
