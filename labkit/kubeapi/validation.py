"""Whether an object may be stored: the rules of its kind, in Kubernetes' own words.

`decoding_error` and `unknown_fields` are about the object as it came, `validate` about the object with its defaults filled in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from labkit.kubeapi import validation_kinds as kinds
from labkit.podspec.schema.decoding import Undecodable, decoded, decoding_error, unknown_fields
from labkit.podspec.validation.meta import metadata_update
from labkit.podspec.validation.pod import pod, pod_update
from labkit.podspec.validation.words import Cause, Causes

__all__ = ["Cause", "decoding_error", "unknown_fields", "validate"]

RULES: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any] | None], Causes]] = {
    "configmaps": kinds.config_map,
    "events": kinds.event,
    "leases": kinds.lease,
    "namespaces": kinds.namespace,
    "nodes": kinds.node,
    "persistentvolumeclaims": kinds.claim,
    "persistentvolumes": kinds.persistent_volume,
    "pods": lambda new, old: pod(new) if old is None else pod_update(new, old),
    "secrets": kinds.secret,
    "serviceaccounts": kinds.service_account,
}


def validate(resource: str, new: dict[str, Any], old: dict[str, Any] | None) -> list[Cause]:
    """Every rule that `new` breaks, in the order in which Kubernetes says them; empty if it may be stored.

    resource: its plural name; `old`: what it replaces as it is stored, None when it is created. Answers for any JSON, also for
    what `decoding_error` refuses: then that is the one cause.
    """
    try:
        new = decoded(resource, new)
    except Undecodable as refused:
        return [Cause("", "FieldValueInvalid", str(refused))]
    causes = list(RULES[resource](new, old))
    if old is not None and resource != "pods":
        causes[:0] = metadata_update(new.get("metadata") or {}, old.get("metadata") or {})
    return list(dict.fromkeys(causes))
