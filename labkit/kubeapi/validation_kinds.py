"""Every kind but Pods. Knowledge: pkg/apis/core/validation (validation.go, events.go) and pkg/apis/coordination/validation."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from labkit.podspec import schema
from labkit.podspec.quantity import canonical, exact
from labkit.podspec.validation import words
from labkit.podspec.validation.difference import difference
from labkit.podspec.validation.meta import finalizer_name, label_selector, metadata
from labkit.podspec.validation.resources import quantity
from labkit.podspec.validation.scheduling import node_selector, taints
from labkit.podspec.validation.volumes import source
from labkit.podspec.validation.words import (
    IMMUTABLE,
    Causes,
    duplicate,
    each,
    forbidden,
    invalid,
    required,
    too_long,
    unsupported,
)

Manifest = Mapping[str, Any]
LARGEST = 1024 * 1024
ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
RECLAIM_POLICIES = ("Delete", "Recycle", "Retain")
VOLUME_MODES = ("Block", "Filesystem")
NEEDED_KEYS = {  # of Secrets by type
    "kubernetes.io/dockercfg": (".dockercfg",), "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",), "kubernetes.io/tls": ("tls.crt", "tls.key"),
}  # fmt: skip
SET_IMMUTABLE = "field is immutable when `immutable` is set"
NOT_TYPES = (
    "accessModes", "capacity", "claimRef", "mountOptions", "nodeAffinity", "persistentVolumeReclaimPolicy", "storageClassName",
    "volumeAttributesClassName", "volumeMode",
)  # fmt: skip


def namespace(new: Manifest, old: Manifest | None) -> Causes:
    yield from metadata(new.get("metadata") or {}, words.label, namespaced=False)
    for finalizer in (new.get("spec") or {}).get("finalizers") or []:
        yield from each("spec.finalizers", finalizer, words.qualified_name(finalizer))
        yield from finalizer_name(finalizer, "spec.finalizers")
    phase, going = (new.get("status") or {}).get("phase"), (new.get("metadata") or {}).get("deletionTimestamp")
    if old is not None and phase and phase != ("Terminating" if going else "Active"):
        wanted, when = ("Terminating", "not empty") if going else ("Active", "empty")
        yield invalid("status.Phase", phase, f"may only be '{wanted}' if `deletionTimestamp` is {when}")


def node(new: Manifest, old: Manifest | None) -> Causes:
    spec, status = new.get("spec") or {}, new.get("status") or {}
    yield from metadata(new.get("metadata") or {}, words.subdomain, namespaced=False)
    yield from taints(spec.get("taints") or [], "metadata.taints")
    for field in ("capacity", "allocatable"):
        for name, amount in (status.get(field) or {}).items():
            yield from quantity(name, amount, f"status.{field}.{name}")
    for number, block in enumerate(spec.get("podCIDRs") or []):
        if not _network(block):
            yield invalid(f"spec.podCIDRs[{number}]", block, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")
    if old is None:
        return
    seen: list[Manifest] = []
    for number, address in enumerate(status.get("addresses") or []):
        if address in seen:
            yield duplicate(f"status.addresses[{number}]", dict(address))
        seen.append(address)
    before = old.get("spec") or {}
    if before.get("podCIDRs") and before["podCIDRs"] != (spec.get("podCIDRs") or []):
        yield forbidden("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid')
    if before.get("providerID") and before["providerID"] != spec.get("providerID"):
        yield forbidden("spec.providerID", 'node updates may not change providerID except from "" to valid')


def config_map(new: Manifest, old: Manifest | None) -> Causes:
    yield from _fixed(new, old, ("data", "binaryData"))
    yield from metadata(new.get("metadata") or {}, words.subdomain, namespaced=True)
    data, binary = new.get("data") or {}, new.get("binaryData") or {}
    for key in data:
        yield from each(f"data[{key}]", key, words.config_key(key))
        if key in binary:
            yield invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
    for key in binary:
        yield from each(f"binaryData[{key}]", key, words.config_key(key))
    texts = sum(len(value.encode(errors="surrogatepass")) for value in data.values())
    if texts + sum(len(_decoded(value)) for value in binary.values()) > LARGEST:
        yield too_long("", LARGEST)


def secret(new: Manifest, old: Manifest | None) -> Causes:
    if old is not None and (new.get("type") or "Opaque") != (old.get("type") or "Opaque"):
        yield invalid("type", new.get("type") or "", IMMUTABLE)
    yield from _fixed(new, old, ("data",))
    yield from metadata(new.get("metadata") or {}, words.subdomain, namespaced=True)
    data, kind = new.get("data") or {}, new.get("type") or ""
    for key in data:
        yield from each(f"data[{key}]", key, words.config_key(key))
    if sum(len(_decoded(value)) for value in data.values()) > LARGEST:
        yield too_long("data", LARGEST)
    if kind == "kubernetes.io/service-account-token":
        account = "kubernetes.io/service-account.name"
        if not ((new.get("metadata") or {}).get("annotations") or {}).get(account):
            yield required(f"metadata.annotations[{account}]")
    if kind == "kubernetes.io/basic-auth" and not {"username", "password"} & set(data):
        yield from (required(f"data[{key}]") for key in ("username", "password"))
    for key in NEEDED_KEYS.get(kind, ()):
        if key not in data or (kind == "kubernetes.io/ssh-auth" and not data[key]):
            yield required(f"data[{key}]")
        elif kind.startswith("kubernetes.io/dockerc"):
            yield from _docker_config(_decoded(data[key]), f"data[{key}]")


def persistent_volume(new: Manifest, old: Manifest | None) -> Causes:
    spec = new.get("spec") or {}
    yield from metadata(new.get("metadata") or {}, words.subdomain, namespaced=False)
    if not spec.get("accessModes"):
        yield required("spec.accessModes")
    yield from _access_modes(spec)
    capacity = spec.get("capacity") or {}
    if not capacity:
        yield required("spec.capacity")
    if set(capacity) != {"storage"}:
        yield unsupported("spec.capacity", capacity, ("storage",))
    for name, amount in capacity.items():
        yield from _positive(amount, f"spec.capacity[{name}]")
    yield from words.one_of("spec.persistentVolumeReclaimPolicy", spec.get("persistentVolumeReclaimPolicy"), RECLAIM_POLICIES)
    wanted = (spec.get("nodeAffinity") or {}).get("required")
    if spec.get("nodeAffinity") is not None and wanted is None:
        yield required("spec.nodeAffinity.required", "must specify required node constraints")
    if wanted is not None:
        yield from node_selector(wanted, "spec.nodeAffinity.required")
    yield from _volume_source(spec)
    yield from _class_and_mode(spec)
    if old is None:
        return
    before = old.get("spec") or {}
    kinds = _source_kinds()
    was, now = ({kind: value[kind] for kind in kinds if kind in value} for value in (before, spec))
    if was != now:
        said = f"spec.persistentvolumesource is immutable after creation\n{difference('core.PersistentVolumeSource', was, now)}"
        yield forbidden("spec.persistentvolumesource", said)
    if spec.get("volumeMode") != before.get("volumeMode"):
        yield invalid("volumeMode", spec.get("volumeMode"), IMMUTABLE)
    if before.get("nodeAffinity") and spec.get("nodeAffinity") != before["nodeAffinity"]:
        yield invalid("nodeAffinity", spec.get("nodeAffinity"), IMMUTABLE)


def claim(new: Manifest, old: Manifest | None) -> Causes:
    """A PersistentVolumeClaim. It stays as it is once made, but for its volume's name and, when bound, its size."""
    spec = new.get("spec") or {}
    yield from metadata(new.get("metadata") or {}, words.subdomain, namespaced=True)
    if not spec.get("accessModes"):
        yield required("spec.accessModes", "at least 1 access mode is required")
    yield from label_selector(spec.get("selector") or {}, "spec.selector")
    yield from _access_modes(spec)
    requests = (spec.get("resources") or {}).get("requests") or {}
    if "storage" not in requests:
        yield required("spec.resources[storage]")
    else:
        yield from _positive(requests["storage"], "spec.resources[storage]")
    yield from _class_and_mode(spec)
    if old is not None:
        yield from _claim_update(new, old)


def event(new: Manifest, old: Manifest | None) -> Causes:
    meta, about = new.get("metadata") or {}, (new.get("involvedObject") or {}).get("namespace") or ""
    own = meta.get("namespace") or ""
    yield from each("metadata.name", meta.get("name") or "", words.path_segment(meta.get("name") or ""))
    if not meta.get("name"):
        yield required("metadata.name", "name or generateName is required")
    modern = bool(new.get("eventTime"))
    clusters = ("", "default", "kube-system") if modern else ("", "default")
    if (not about and own not in clusters) or (about and not modern and about != own):
        yield invalid("involvedObject.namespace", about, "does not match event.namespace")
    if modern:
        reporter = new.get("reportingComponent") or ""
        if not reporter:
            yield required("reportingComponent")
        yield from each("reportingComponent", reporter, words.qualified_name(reporter))
        for field, most in (("reportingInstance", 128), ("action", 128), ("reason", 128), ("message", 1024)):
            if field != "message" and not new.get(field):
                yield required(field)
            if len((new.get(field) or "").encode(errors="surrogatepass")) > most:
                yield invalid(field, "", f"can have at most {most} characters")
    yield from each("namespace", own, words.subdomain(own))


def service_account(new: Manifest, old: Manifest | None) -> Causes:
    yield from metadata(new.get("metadata") or {}, words.subdomain, namespaced=True)


def lease(new: Manifest, old: Manifest | None) -> Causes:
    yield from metadata(new.get("metadata") or {}, words.subdomain, namespaced=True)
    spec = new.get("spec") or {}
    if spec.get("leaseDurationSeconds") is not None and spec["leaseDurationSeconds"] <= 0:
        yield invalid("spec.leaseDurationSeconds", spec["leaseDurationSeconds"], "must be greater than 0")
    if spec.get("leaseTransitions") is not None and spec["leaseTransitions"] < 0:
        yield invalid("spec.leaseTransitions", spec["leaseTransitions"], words.NOT_NEGATIVE)
    if spec.get("holderIdentity") == "":
        yield invalid("spec.holderIdentity", "", "must not be empty")


def _network(block: str) -> bool:
    address, slash, length = block.partition("/")
    widest = 128 if ":" in address else 32
    return bool(slash) and not any(words.address(address)) and length.isascii() and length.isdigit() and int(length[:4]) <= widest


def _fixed(new: Manifest, old: Manifest | None, fields: tuple[str, ...]) -> Causes:
    """ConfigMaps and Secrets that were made immutable stay so."""
    if old is None or not old.get("immutable"):
        return
    if not new.get("immutable"):
        yield forbidden("immutable", SET_IMMUTABLE)
    yield from (forbidden(field, SET_IMMUTABLE) for field in fields if (new.get(field) or {}) != (old.get(field) or {}))


def _decoded(value: str) -> bytes:
    return base64.b64decode(value)


def _docker_config(content: bytes, path: str) -> Causes:
    try:
        read = json.loads(content)
    except (ValueError, RecursionError):
        said = "unexpected end of JSON input" if not content.strip() else "invalid character in the JSON"
        yield invalid(path, "<secret contents redacted>", said)
        return
    if not isinstance(read, dict):
        said = "json: cannot unmarshal value into Go value of type map[string]interface {}"
        yield invalid(path, "<secret contents redacted>", said)


def _access_modes(spec: Manifest) -> Causes:
    modes = spec.get("accessModes") or []
    yield from (unsupported("spec.accessModes", mode, ACCESS_MODES) for mode in modes if mode not in ACCESS_MODES)
    if "ReadWriteOncePod" in modes and {*modes} & {*ACCESS_MODES} != {"ReadWriteOncePod"}:
        yield forbidden("spec.accessModes", "may not use ReadWriteOncePod with other access modes")


def _positive(amount: Any, path: str) -> Causes:
    if exact(amount) <= 0:
        yield invalid(path, canonical(str(amount)), "must be greater than zero")


def _source_kinds() -> list[str]:
    return [kind for kind in schema.fields("PersistentVolumeSpec") if kind not in NOT_TYPES]


def _volume_source(spec: Manifest) -> Causes:
    kinds = [kind for kind in _source_kinds() if spec.get(kind) is not None]
    if not kinds:
        yield required("spec", "must specify a volume type")
        return
    yield from source(kinds[0], spec[kinds[0]], f"spec.{kinds[0]}")
    yield from (forbidden(f"spec.{kind}", "may not specify more than 1 volume type") for kind in kinds[1:])
    if "local" in kinds and not (spec.get("nodeAffinity") or {}).get("required"):
        yield required("spec.nodeAffinity", "Local volume requires node affinity")
    root = ((spec.get("hostPath") or {}).get("path") or "x").strip("/.") == ""
    if "hostPath" in kinds and root and spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        yield forbidden("spec.persistentVolumeReclaimPolicy", "may not be 'recycle' for a hostPath mount of '/'")


def _class_and_mode(spec: Manifest) -> Causes:
    if name := spec.get("storageClassName"):
        yield from each("spec.storageClassName", name, words.subdomain(name))
    if spec.get("volumeMode") is not None and spec["volumeMode"] not in VOLUME_MODES:
        yield unsupported("spec.volumeMode", spec["volumeMode"], VOLUME_MODES)


def _claim_update(new: Manifest, old: Manifest) -> Causes:
    spec, before = dict(new.get("spec") or {}), dict(old.get("spec") or {})
    if not before.get("volumeName") and spec.get("volumeName"):
        before["volumeName"] = spec["volumeName"]
    if before.get("storageClassName") is None and spec.get("storageClassName") is not None:
        before["storageClassName"] = spec["storageClassName"]
    size, was = (((value.get("resources") or {}).get("requests") or {}).get("storage") for value in (spec, before))
    mode = (spec.get("volumeMode"), before.get("volumeMode"))
    if (new.get("status") or {}).get("phase") == "Bound":
        for value in (spec, before):
            value["resources"] = {"requests": {**((value.get("resources") or {}).get("requests") or {}), "storage": ""}}
    if spec != before:
        said = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        yield forbidden("spec", f"{said}\n{difference('core.PersistentVolumeClaimSpec', before, spec)}")
    if size and was and exact(size) < exact(was):
        has = ((old.get("status") or {}).get("capacity") or {}).get("storage") or "0"
        if exact(size) <= exact(has):
            yield forbidden("spec.resources.requests.storage", "field can not be less than status.capacity")
    if mode[0] != mode[1]:
        yield invalid("volumeMode", mode[0], IMMUTABLE)
