"""Every kind but Pods. Knowledge: pkg/apis/core/validation (validation.go, events.go) and pkg/apis/coordination/validation."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

from labkit.podspec import schema
from labkit.podspec.quantity import canonical, exact
from labkit.podspec.validation import field_errors
from labkit.podspec.validation.checks import enum, must, never
from labkit.podspec.validation.field_errors import (
    IMMUTABLE,
    Cause,
    Causes,
    duplicate,
    each,
    forbidden,
    invalid,
    required,
    too_long,
    unsupported,
)
from labkit.podspec.validation.meta import SELECTOR, finalizer_name, metadata, not_negative
from labkit.podspec.validation.resources import quantity
from labkit.podspec.validation.rules import At, Check, Table, always, check, every, filled, given, inside, needed
from labkit.podspec.validation.scheduling import NODE_SELECTOR, TAINT
from labkit.podspec.validation.update import difference
from labkit.podspec.validation.volumes import one_source, sources_of

Manifest = Mapping[str, Any]
LARGEST = 1024 * 1024
NEEDED_KEYS = {  # of Secrets by type
    "kubernetes.io/dockercfg": (".dockercfg",), "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
SET_IMMUTABLE = "field is immutable when `immutable` is set"
OF_TOKEN = "kubernetes.io/service-account.name"


# Namespaces, nodes


def phase(value: str, here: At) -> Iterator[Cause]:
    going = here.holder.holder["metadata.deletionTimestamp"]
    wanted, when = ("Terminating", "not empty") if going else ("Active", "empty")
    if value != wanted:
        yield invalid("status.Phase", value, f"may only be '{wanted}' if `deletionTimestamp` is {when}")


def amounts(values: Manifest, here: At) -> Causes:
    for name, amount in values.items():
        yield from each(f"{here.path}.{name}", canonical(str(amount)), quantity(name, amount))


def is_network(block: str) -> bool:
    address, slash, length = block.partition("/")
    widest = 128 if ":" in address else 32
    if not slash or any(field_errors.address(address)):
        return False
    return length.isascii() and length.isdigit() and int(length[:4]) <= widest


NAMESPACE: Table = (
    metadata(field_errors.label, namespaced=False),
    inside("spec", (
        filled("finalizers", lambda values, here: (
            cause for value in values for cause in (
                *each(here.path, value, field_errors.qualified_name(value)),
                *each(here.path, value, finalizer_name(value, here))))),
    )),
)
FINALIZED: Table = (
    NAMESPACE[0],
    every("spec.finalizers", field_errors.qualified_name),
    every("spec.finalizers", finalizer_name),
)
"""A namespace whose finalizers are written (its subresource finalize)."""


def families(blocks: list[str], here: At) -> Causes:
    """One network for each IP family, each of them once."""
    if len(blocks) > 2 or len({":" in block for block in blocks}) < len(blocks):
        yield invalid(here.path, blocks, "may specify no more than one CIDR for each IP family")
    yield from (duplicate(f"{here.path}[{number}]", block) for number, block in enumerate(blocks) if block in blocks[:number])


NODE: Table = (
    metadata(field_errors.subdomain, namespaced=False),
    inside("spec.taints", TAINT, path=lambda here: "metadata.taints"),
    filled("status.capacity", amounts),
    filled("status.allocatable", amounts),
    every("spec.podCIDRs", must(is_network, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")),
    filled("spec.podCIDRs", families),
)


def namespace(new: At, old: Manifest | None) -> Causes:
    yield from filled("status.phase", phase).causes(new) if old is not None else ()


def node(new: At, old: Manifest | None) -> Causes:
    if old is None:
        return
    addresses = new["status.addresses"] or []
    for number, address in enumerate(addresses):
        if address in addresses[:number]:
            yield duplicate(f"status.addresses[{number}]", dict(address))
    for field, name in (("podCIDRs", "podCIDR"), ("providerID", "providerID")):
        before = (old.get("spec") or {}).get(field)
        if before and before != (new[f"spec.{field}"] or type(before)()):
            yield forbidden(f"spec.{field}", f'node updates may not change {name} except from "" to valid')
    if (new["spec.externalID"] or "") != ((old.get("spec") or {}).get("externalID") or ""):
        yield forbidden("spec.externalID", "may not be updated")


# ConfigMaps, Secrets


def keys(values: Manifest, here: At) -> Causes:
    for name in values:
        yield from each(f"{here.path}[{name}]", name, field_errors.config_key(name))
        if here.name == "data" and name in (here.holder["binaryData"] or ()):
            yield invalid(f"data[{name}]", name, "duplicate of key present in binaryData")


def fits(path: str, *fields: str) -> Check:
    """The values of these fields together are at most LARGEST bytes: texts, or bytes in base64."""

    def size(obj: Manifest, here: At) -> Causes:
        total = 0
        for name in fields:
            items = schema.fields(here.kind)[name].items
            encoded = items is not None and items.type == "bytes"
            values = (obj.get(name) or {}).values()
            total += sum(len(base64.b64decode(value) if encoded else value.encode(errors="surrogatepass")) for value in values)
        if total > LARGEST:
            yield too_long(path, LARGEST)

    return size


def keys_of_type(secret: Manifest, here: At) -> Causes:
    kind, data = secret.get("type") or "", secret.get("data") or {}
    if kind == "kubernetes.io/service-account-token" and not (here["metadata.annotations"] or {}).get(OF_TOKEN):
        yield required(f"metadata.annotations[{OF_TOKEN}]")
    if kind == "kubernetes.io/basic-auth" and not {"username", "password"} & set(data):
        yield from (required(f"data[%s][{name}]") for name in ("username", "password"))  # so it is called in Kubernetes
    if kind == "kubernetes.io/ssh-auth" and not data.get("ssh-privatekey"):
        yield required("data[%s][ssh-privatekey]")
    for name in NEEDED_KEYS.get(kind, ()):
        if name not in data:
            yield required(f"data[{name}]")
        elif kind.startswith("kubernetes.io/dockerc"):
            yield from each(f"data[{name}]", "<secret contents redacted>", docker_config(base64.b64decode(data[name])))


def docker_config(content: bytes) -> Iterator[str]:
    try:
        if not isinstance(json.loads(content), dict):
            yield "json: cannot unmarshal value into Go value of type map[string]interface {}"
    except (ValueError, RecursionError):
        yield "invalid character in the JSON" if content.strip() else "unexpected end of JSON input"


CONFIG_MAP: Table = (
    metadata(field_errors.subdomain, namespaced=True),
    filled("data", keys),
    filled("binaryData", keys),
    given("", fits("[]", "data", "binaryData")),
)
SECRET: Table = (
    metadata(field_errors.subdomain, namespaced=True),
    filled("data", keys),
    given("", fits("data", "data")),
    given("", keys_of_type),
)


def fixed(new: At, old: Manifest | None) -> Causes:
    """ConfigMaps and Secrets that were made immutable stay so, and a Secret keeps its type."""
    if old is None:
        return
    if new.kind == "Secret" and (new["type"] or "Opaque") != (old.get("type") or "Opaque"):
        yield invalid("type", new["type"] or "", IMMUTABLE)
    if old.get("immutable"):
        yield from [] if new["immutable"] else [forbidden("immutable", SET_IMMUTABLE)]
        fields = ("data",) if new.kind == "Secret" else ("data", "binaryData")
        yield from (forbidden(field, SET_IMMUTABLE) for field in fields if (new[field] or {}) != (old.get(field) or {}))


# Volumes and claims


def access_modes(modes: list[str], here: At) -> Causes:
    """Their messages name the list."""
    known = here.enum
    yield from (unsupported(here.path, mode, known) for mode in modes if mode not in known)
    if "ReadWriteOncePod" in modes and {*modes} & {*known} != {"ReadWriteOncePod"}:
        yield forbidden(here.path, "may not use ReadWriteOncePod with other access modes")


def positive(amount: Any, path: str) -> Causes:
    yield from [invalid(path, canonical(str(amount)), "must be greater than zero")] if exact(amount) <= 0 else []


def capacity(values: Manifest, here: At) -> Causes:
    if set(values) != {"storage"}:
        yield unsupported(here.path, values, ("storage",))
    for name, amount in values.items():
        yield from positive(amount, f"{here.path}[{name}]")


def storage(requests: Manifest, here: At) -> Causes:
    at = "spec.resources[storage]"
    yield from positive(requests["storage"], at) if "storage" in requests else [required(at)]


def is_root(path: str | None) -> bool:
    return bool(path) and str(path).strip("/.") == ""


CLASS_AND_MODE: Table = (filled("storageClassName", field_errors.subdomain), given("volumeMode", enum))
VOLUME: Table = (
    metadata(field_errors.subdomain, namespaced=False),
    inside("spec", (
        needed("accessModes"),
        filled("accessModes", access_modes),
        needed("capacity"),
        always("capacity", capacity, absent={}),
        filled("persistentVolumeReclaimPolicy", enum),
        needed("nodeAffinity.required", detail="must specify required node constraints",
               when=lambda at: at["nodeAffinity"] is not None and at["nodeAffinity.required"] is None),
        inside("nodeAffinity.required", NODE_SELECTOR),
        given("", one_source("PersistentVolumeSpec")),
        needed("nodeAffinity", detail="Local volume requires node affinity",
               when=lambda at: at["local"] is not None and not at["nodeAffinity.required"]),
        filled("persistentVolumeReclaimPolicy", never("may not be 'recycle' for a hostPath mount of '/'"),
               when=lambda at: at["persistentVolumeReclaimPolicy"] == "Recycle" and is_root(at["hostPath.path"])),
        *CLASS_AND_MODE,
    ), absent={}),
)
CLAIM: Table = (
    metadata(field_errors.subdomain, namespaced=True),
    inside("spec", (
        needed("accessModes", detail="at least 1 access mode is required"),
        inside("selector", SELECTOR),
        filled("accessModes", access_modes),
        always("resources.requests", storage, absent={}),
        *CLASS_AND_MODE,
    ), absent={}),
)


def persistent_volume(new: At, old: Manifest | None) -> Causes:
    if old is None:
        return
    spec, before = new["spec"] or {}, old.get("spec") or {}
    was, now = ({kind: value[kind] for kind in sources_of("PersistentVolumeSpec") if kind in value} for value in (before, spec))
    if was != now:
        detail = f"spec.persistentvolumesource is immutable after creation\n{difference('core.PersistentVolumeSource', was, now)}"
        yield forbidden("spec.persistentvolumesource", detail)
    if spec.get("volumeMode") != before.get("volumeMode"):
        yield invalid("volumeMode", spec.get("volumeMode"), IMMUTABLE)
    if before.get("nodeAffinity") and spec.get("nodeAffinity") != before["nodeAffinity"]:
        yield invalid("nodeAffinity", spec.get("nodeAffinity"), IMMUTABLE)


def claim(new: At, old: Manifest | None) -> Causes:
    """It stays as it is once made, but for its volume's name and, when bound, its size."""
    if old is None:
        return
    spec, before = dict(new["spec"] or {}), dict(old.get("spec") or {})
    if not before.get("volumeName") and spec.get("volumeName"):
        before["volumeName"] = spec["volumeName"]
    if before.get("storageClassName") is None and spec.get("storageClassName") is not None:
        before["storageClassName"] = spec["storageClassName"]
    size, was = (((value.get("resources") or {}).get("requests") or {}).get("storage") for value in (spec, before))
    mode = (spec.get("volumeMode"), before.get("volumeMode"))
    if new["status.phase"] == "Bound":
        for value in (spec, before):
            value["resources"] = {"requests": {**((value.get("resources") or {}).get("requests") or {}), "storage": ""}}
    if spec != before:
        detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        yield forbidden("spec", f"{detail}\n{difference('core.PersistentVolumeClaimSpec', before, spec)}")
    if size and was and exact(size) < exact(was):
        has = ((old.get("status") or {}).get("capacity") or {}).get("storage") or "0"
        if exact(size) <= exact(has):
            yield forbidden("spec.resources.requests.storage", "field can not be less than status.capacity")
    if mode[0] != mode[1]:
        yield invalid("volumeMode", mode[0], IMMUTABLE)


# Events, leases, service accounts


def namespace_of_event(event: Manifest, here: At) -> Causes:
    own, about = here["metadata.namespace"] or "", here["involvedObject.namespace"] or ""
    clusters = ("", "default", "kube-system") if event.get("eventTime") else ("", "default")
    if (not about and own not in clusters) or (about and not event.get("eventTime") and about != own):
        yield invalid("involvedObject.namespace", about, "does not match event.namespace")


def at_most(number: int) -> Any:
    return lambda value, here: (
        [invalid(here.path, "", f"can have at most {number} characters")]
        if len(value.encode(errors="surrogatepass")) > number else []
    )


OF_EVENT: Table = (metadata(field_errors.path_segment, namespaced=True),)
EVENT: Table = (
    given("", namespace_of_event),
    inside("", (
        needed("reportingComponent"),
        always("reportingComponent", field_errors.qualified_name),
        *(needed(name, at_most(128)) for name in ("reportingInstance", "action", "reason")),
        filled("message", at_most(1024)),
    ), when=lambda at: at["eventTime"]),
    always("metadata.namespace", field_errors.subdomain, path=lambda here: "namespace"),
)


def event(new: At, old: Manifest | None) -> Causes:
    """What is asked of any object's metadata: Events' own rules leave it out, and at creation it is not said beside them."""
    if old is not None or not any(check(EVENT, new)):
        yield from check(OF_EVENT, new)


SERVICE_ACCOUNT: Table = (metadata(field_errors.subdomain, namespaced=True),)
LEASE: Table = (
    metadata(field_errors.subdomain, namespaced=True),
    given("spec.leaseDurationSeconds", must(lambda value: value > 0, "must be greater than 0")),
    given("spec.leaseTransitions", not_negative),
)
