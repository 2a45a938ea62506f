"""A Pod manifest on its way into the house: read from a dict or a V1Pod, checked, and completed as the API server would.

The types are those of the served schema, the rules `validation`'s, the defaults `defaults`': the same that an object of the API
goes through. Here all problems are collected at once, and no field is dropped silently.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from labkit.podspec import schema
from labkit.podspec.container_kinds import container_names, containers
from labkit.podspec.defaults import fill_pod, generated
from labkit.podspec.schema import Field
from labkit.podspec.schema.decoding import Undecodable, decoded, read_value
from labkit.podspec.validation.field_errors import shown
from labkit.podspec.validation.pod import metadata_and_spec
from labkit.util.showable import ReadableError

STATIC_UIDS = uuid.UUID("6b1f3c52-6f5e-5d55-9d0c-6c61626b6974")
UID = r"[0-9A-Za-z]([-.0-9A-Za-z]{0,126}[0-9A-Za-z])?"
LONGEST_NUMBER = 1000
"""Bits of an integer: far above what any field holds, and below what Python refuses to write in digits."""
TYPES = {"string": "a string", "integer": "an integer", "boolean": "true or false", "int-or-string": "an integer or a string"}
NO_USER_NAMESPACE = "spec.hostUsers: Forbidden: a user namespace needs id ranges, which only a kubelet hands out"


class ManifestError(ReadableError, ValueError):
    """A Pod manifest that cannot be run. `problems` has a line for each thing wrong; `str()` has all of them."""

    shows_class = True

    def __init__(self, problems: list[str], name: str = "") -> None:
        self.problems = tuple(problems)
        self.name = name
        super().__init__(self.problems, name)

    def __str__(self) -> str:
        whole = f'The Pod "{self.name}" is invalid' if self.name else "The Pod is invalid"
        what = f"{whole}: {self.problems[0]}." if len(self.problems) == 1 else "\n* ".join([f"{whole}:", *self.problems])
        return f"{what}\nCorrect the manifest; `kubectl explain pod.spec` describes each field."


class DefaultedPod(dict[str, Any]):
    """A Pod that has been checked and has its defaults. Code that gets one need not check it again, and does not change it.

    Made by `defaulted`, or of an object that the API stored. Learners get a plain dict, which they may change: it is checked when
    it comes back.
    """


def with_defaults(pod: Any, *, node_name: str = "") -> dict[str, Any]:
    """A copy of a Pod manifest as the API server would store it: checked, defaults filled in, with a uid.

    pod: dict, or kubernetes.client.V1Pod. A uid that is there is kept; else each call makes a new random one, so call it
    once for a Pod and give its result to everything else. node_name: for a Pod that names no node. Raises ManifestError.
    """
    return dict(defaulted(pod, uid=str(uuid.uuid4()), node_name=node_name))


def defaulted(pod: Any, *, uid: str = "", node_name: str = "") -> DefaultedPod:
    """A Pod checked and completed; one that is already comes back as it is.

    uid: for a Pod that has none. Without it the uid is made of namespace and name, the same each time, so that two messages built
    from one manifest agree (the kubelet does so for static Pods, by a hash of the manifest). Raises ManifestError.
    """
    if isinstance(pod, DefaultedPod):
        return pod
    try:
        plain = _plain_manifest(pod)
    except RecursionError:
        raise ManifestError(["its mappings and lists are nested too deeply, or hold themselves"]) from None
    status = plain.pop("status", None) or {}
    name = plain["metadata"].get("name") if isinstance(plain.get("metadata"), dict) else ""
    name = name if isinstance(name, str) else ""
    problems = list(_identity_problems(plain)) or list(type_problems(plain, Field("", "object", ref=schema.full_name("Pod")), ""))
    if not problems:
        problems = list(_complete(plain, uid, node_name))
    if problems:
        raise ManifestError(problems, name)
    return DefaultedPod({**plain, **({"status": status} if status else {})})


def find_container(pod: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The container, init container or ephemeral container of that name. Raises ManifestError if there is none."""
    for container in containers(pod["spec"]):
        if container["name"] == name:
            return container
    has, of = ", ".join(container_names(pod)), pod["metadata"]["name"]
    raise ManifestError([f"container {name} is not valid for pod {of}: its containers are {has}"], of)


def own_claim_name(pod: Mapping[str, Any], volume: Mapping[str, Any]) -> str:
    """The claim that is made for an ephemeral volume of a Pod (component-helpers' storage/ephemeral)."""
    return f"{pod['metadata']['name']}-{volume['name']}"


def volume_kind(volume: Mapping[str, Any]) -> str:
    """The type of a volume, such as "configMap": the field besides its name."""
    return next((key for key in volume if key != "name"), "emptyDir")


def type_problems(value: Any, field: Field, path: str) -> Iterator[str]:
    """A sentence for each value that has not its field's type, and for each field that the API does not have. null is absent."""
    if value is None:
        return
    if field.type in ("object", "map"):
        if not isinstance(value, dict):
            yield f"{path or 'manifest'}: Invalid value: {_shown(value)}: must be a mapping of fields"
            return
        fields = schema.fields(field.ref) if field.type == "object" else {}
        for key, item in value.items():
            at = f"{path}[{key}]" if field.type == "map" else f"{path}.{key}" if path else str(key)
            inner = field.items if field.type == "map" else fields.get(key)
            if not isinstance(key, str):
                yield f"{path or 'manifest'}: Invalid value: {_shown(key)}: keys must be strings"
            elif inner is None:
                yield f'unknown field "{at}"'
            else:
                yield from type_problems(item, inner, at)
    elif field.type == "array" and field.items:
        if not isinstance(value, list):
            of = {"string": " of strings", "integer": " of integers"}.get(field.items.type, "")
            yield f"{path}: Invalid value: {_shown(value)}: must be a list{of}"
            return
        for number, item in enumerate(value):
            yield from type_problems(item, field.items, f"{path}[{number}]")
    else:
        try:
            read_value(value, field)
        except Undecodable as refused:
            message = str(refused) if field.type == "quantity" else f"must be {TYPES.get(field.type, f'a {field.type}')}"
            yield f"{path}: Invalid value: {_shown(value)}: {message}"


def _complete(plain: dict[str, Any], uid: str, node_name: str) -> Iterator[str]:
    """Complete a manifest of the right types in place. Yields what is wrong with it."""
    decoded("pods", plain, in_place=True)
    metadata, spec = plain.setdefault("metadata", {}), plain.setdefault("spec", {})
    if metadata.get("generateName") and not metadata.get("name"):
        metadata["name"] = generated(metadata["generateName"])
    metadata["namespace"] = metadata.get("namespace") or "default"
    metadata["uid"] = metadata.get("uid") or uid
    plain.setdefault("apiVersion", "v1")
    plain.setdefault("kind", "Pod")
    fill_pod(plain)
    if node_name:
        spec["nodeName"] = spec.get("nodeName") or node_name
    spec["serviceAccountName"] = spec.get("serviceAccountName") or "default"  # ServiceAccount admission
    spec.pop("serviceAccount", None)  # its old name
    if metadata["uid"] and not re.fullmatch(UID, metadata["uid"]):
        yield f"metadata.uid: Invalid value: {shown(metadata['uid'])}: it is part of paths: letters, digits, '-' and '.' only"
    if spec.get("hostUsers") is False:
        yield NO_USER_NAMESPACE
    causes = dict.fromkeys(f"{cause.field}: {cause.message}" for cause in metadata_and_spec(plain))
    yield from causes
    if not causes:
        metadata["uid"] = metadata["uid"] or str(uuid.uuid5(STATIC_UIDS, f"{metadata['namespace']}/{metadata['name']}"))


def _identity_problems(plain: Mapping[str, Any]) -> Iterator[str]:
    """Whether it is a Pod at all: what else is wrong with another kind of object does not matter."""
    for field, wanted in (("kind", "Pod"), ("apiVersion", "v1")):
        if plain.get(field) not in (None, wanted):
            yield f'{field}: Invalid value: {_shown(plain[field])}: must be "{wanted}"'
            return


def _plain_manifest(pod: Any) -> dict[str, Any]:
    """A copy of the manifest as dicts and lists with the API's own (camelCase) keys, not yet checked."""
    if isinstance(pod, Mapping):
        return {key: _plain(value) for key, value in pod.items()}
    if hasattr(pod, "openapi_types"):
        from kubernetes.client import ApiClient

        return dict(ApiClient().sanitize_for_serialization(pod))
    advice = ": read YAML with yaml.safe_load first" if isinstance(pod, (str, bytes)) else ""
    raise ManifestError([f"a Pod manifest is a dict or a V1Pod, not a {type(pod).__name__}{advice}"])


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()  # yaml.safe_load makes one of a timestamp
    if isinstance(value, int) and value.bit_length() > LONGEST_NUMBER:
        raise ManifestError(["a manifest holds no number of hundreds of digits"])
    return value


def _shown(value: Any) -> str:
    """A value in a message; a mapping as Python writes it, quoted."""
    return f'"{value}"' if isinstance(value, dict) else shown(value)
