"""Whether an object may be stored: the rules of its kind, in Kubernetes' own words.

`decoding_error` and `unknown_fields` are about the object as it came, `validate` about the object with its defaults filled in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from labkit.apiserver.objects import validation_kinds as kinds
from labkit.podspec import schema
from labkit.podspec.schema.decoding import Undecodable, decoded, decoding_error, unknown_fields
from labkit.podspec.validation.field_errors import Cause, Causes
from labkit.podspec.validation.meta import metadata_update
from labkit.podspec.validation.pod import pod
from labkit.podspec.validation.rules import At, Table, check
from labkit.podspec.validation.update import ephemeral_update, pod_update

__all__ = ["Cause", "decoding_error", "unknown_fields", "validate"]


def unchanged(new: At, old: Mapping[str, Any] | None) -> Causes:
    """Nothing but the rows holds for a change."""
    return iter(())


RULES: dict[str, tuple[Table, Callable[[At, Mapping[str, Any] | None], Causes], bool]] = {
    "configmaps": (kinds.CONFIG_MAP, kinds.fixed, True),
    "events": (kinds.EVENT, kinds.event, True),
    "leases": (kinds.LEASE, unchanged, False),
    "namespaces": (kinds.NAMESPACE, kinds.namespace, False),
    "namespaces/finalize": (kinds.FINALIZED, unchanged, False),
    "nodes": (kinds.NODE, kinds.node, False),
    "persistentvolumeclaims": (kinds.CLAIM, kinds.claim, False),
    "persistentvolumes": (kinds.VOLUME, kinds.persistent_volume, False),
    "secrets": (kinds.SECRET, kinds.fixed, True),
    "serviceaccounts": (kinds.SERVICE_ACCOUNT, unchanged, False),
}
"""The rows of each kind, what of it may change, and whether that is said first. Pods have functions of their own."""


def validate(resource: str, new: dict[str, Any], old: dict[str, Any] | None, sub: str = "") -> list[Cause]:
    """Every rule that `new` breaks, in the order in which Kubernetes says them; empty if it may be stored.

    resource: its plural name; `old`: what it replaces as it is stored, None when it is created; `sub`: the path below it that it
    was sent to. Answers for any JSON, also for what `decoding_error` refuses: then that is the one cause.
    """
    try:
        new = decoded(resource, new)
    except Undecodable as refused:
        return [Cause("", "FieldValueInvalid", str(refused))]
    if sub == "ephemeralcontainers" and old is not None:
        return list(dict.fromkeys(ephemeral_update(new, old)))
    if resource == "pods":
        return list(dict.fromkeys(pod(new) if old is None else pod_update(new, old)))
    table, changes, changes_first = RULES.get(f"{resource}/{sub}", RULES[resource])
    here = At(new, kind=schema.KINDS[resource])
    rows, update = check(table, here), changes(here, old)
    before = metadata_update(new.get("metadata") or {}, old.get("metadata") or {}) if old is not None else ()
    return list(dict.fromkeys((*before, *update, *rows) if changes_first else (*before, *rows, *update)))
