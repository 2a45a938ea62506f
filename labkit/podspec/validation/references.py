"""References by which a Pod reads its own fields, its containers' resources, ConfigMaps and Secrets; and environment variables.

Knowledge: pkg/apis/core/validation (ValidateEnv, validateObjectFieldSelector), core/pods (ConvertDownwardAPIFieldLabel).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from labkit.podspec.quantity import canonical, exact
from labkit.podspec.validation import field_errors
from labkit.podspec.validation.checks import kinds_of, one_of, wrong
from labkit.podspec.validation.field_errors import Cause, Causes, each, invalid, required, unsupported
from labkit.podspec.validation.rules import At, Check, Table, always, filled, given, inside, needed, of_items

Manifest = Mapping[str, Any]
VARIABLE_FIELDS = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
    "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
)
FILE_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
KNOWN_FIELDS = (
    *VARIABLE_FIELDS, "metadata.annotations", "metadata.labels", "spec.restartPolicy", "spec.schedulerName", "status.phase",
)
RESOURCES = tuple(f"{kind}.{name}" for kind in ("limits", "requests") for name in ("cpu", "ephemeral-storage", "memory"))
SIZES = ("1", *(f"1{suffix}" for suffix in ("k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")))
DIVISORS = {  # resource → the amounts that its divisor may be, and its name in the message
    "cpu": (("1m", "1"), "1m and 1", "cpu"),
    "memory": (SIZES, ", ".join(SIZES), "memory"),
    "ephemeral-storage": (SIZES, ", ".join(SIZES), "local ephemeral storage"),
    "hugepages": (SIZES, ", ".join(SIZES), "hugepages"),
}
TWO = "may not have more than one field specified at a time"


def field_path(allowed: Sequence[str]) -> Check:
    """A field of the Pod itself: one of `allowed`, or one label or annotation."""

    def found_wrong(wanted: str, here: At) -> Iterator[str | Cause]:
        subscripted = re.fullmatch(r"(.+?)\['(.*)'\]", wanted, re.DOTALL)
        field = subscripted[1] if subscripted else "spec.nodeName" if wanted == "spec.host" else wanted
        if here.holder["apiVersion"] != "v1":
            yield f"error converting fieldPath: unsupported pod version: {here.holder['apiVersion']}"
        elif subscripted and field not in ("metadata.annotations", "metadata.labels"):
            yield f'error converting fieldPath: field label does not support subscript: "{field}"'
        elif subscripted:
            key = subscripted[2].lower() if field == "metadata.annotations" else subscripted[2]
            yield from each(here.holder.path, key, field_errors.qualified_name(key))
        elif field not in KNOWN_FIELDS:
            yield f"error converting fieldPath: field label not supported: {field}"
        elif field not in allowed:
            yield unsupported(here.path, field, sorted(allowed))

    return found_wrong


def field_ref(allowed: Sequence[str]) -> Table:
    return (
        needed("apiVersion"),
        needed("fieldPath", field_path(allowed), when=lambda at: at["apiVersion"]),
    )


def resource_name(value: str, here: At) -> Causes:
    if not value:
        yield required(here.path)
    elif value not in RESOURCES and not _huge(value):
        yield unsupported(here.path, value, RESOURCES)


def divisor(value: str, here: At) -> Causes:
    resource = here.holder["resource"] or ""
    amounts, listed, name = DIVISORS.get("hugepages" if _huge(resource) else resource.partition(".")[2], ((), "", ""))
    if amounts and exact(value) != 0 and canonical(str(value)) not in amounts:
        yield invalid(here.path, resource, f"only divisor's values {listed} are supported with the {name} resource")


def _huge(resource: str) -> bool:
    return resource.startswith(("limits.hugepages-", "requests.hugepages-"))


RESOURCE_REF: Table = (always("resource", resource_name), filled("divisor", divisor))
RESOURCE_REF_OF_VOLUME: Table = (
    needed("containerName"),
    always("resource", resource_name, when=lambda at: at["containerName"]),
    filled("divisor", divisor),
)
KEY_REF: Table = (always("name", field_errors.subdomain), needed("key", field_errors.config_key))
VALUE_FROM: dict[str, Table] = {
    "fieldRef": field_ref(VARIABLE_FIELDS),
    "resourceFieldRef": RESOURCE_REF,
    "configMapKeyRef": KEY_REF,
    "secretKeyRef": KEY_REF,
    "fileKeyRef": (needed("key"), needed("volumeName"), needed("path"), filled("path", field_errors.relative_path)),
}


NO_SOURCE = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
REFS = ("configMapRef", "secretRef")


def has_both(at: At) -> bool:
    return bool(at["value"] and kinds_of(at["valueFrom"] or {}, VALUE_FROM))


ENV: Table = (
    needed("name", field_errors.variable_name),
    inside("valueFrom", tuple(inside(kind, table) for kind, table in VALUE_FROM.items())),
    given("valueFrom", wrong("may not be specified when `value` is not empty", ""), when=has_both),
    given("valueFrom", one_of(VALUE_FROM, wrong(NO_SOURCE, ""), wrong(TWO, "")), when=lambda at: not has_both(at)),
)
ENV_FROM: Table = (
    filled("prefix", field_errors.variable_name),
    *(inside(kind, (needed("name", field_errors.subdomain),)) for kind in REFS),
    given("", one_of(REFS, wrong("must specify one of: `configMapRef` or `secretRef`", ""), wrong(TWO, "")), path=of_items),
)
