"""Metadata: names, labels, annotations, owners, finalizers; what of them may change. Knowledge: apimachinery's api/validation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from labkit.podspec.validation import field_errors
from labkit.podspec.validation.checks import must, never
from labkit.podspec.validation.field_errors import IMMUTABLE, NOT_NEGATIVE, Causes, each, forbidden, invalid, required, too_long
from labkit.podspec.validation.rules import At, Check, Rule, Table, always, every, filled, given, inside, needed

LARGEST_ANNOTATIONS = 256 * 1024
STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")
FIXED = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
not_negative = must(lambda value: value >= 0, NOT_NEGATIVE)


def metadata(names: Check, *, namespaced: bool) -> Rule:
    """An object's metadata at its creation. `names` finds what is wrong with a name of that kind."""
    namespace = needed("namespace", field_errors.label) if namespaced else filled("namespace", never("not allowed on this type"))
    return inside("metadata", (
        filled("generateName", lambda value, here: names(re.sub(r"-$", "a", value), here)),
        needed("name", names, detail="name or generateName is required"),
        namespace,
        filled("generation", not_negative),
        filled("labels", labels),
        filled("annotations", annotation_keys),
        filled("ownerReferences", _owners),
        every("finalizers", field_errors.qualified_name, path=lambda here: f"{here.holder.path}.finalizers"),
        every("finalizers", finalizer_name),
    ), absent={})


def metadata_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Causes:
    """What of metadata may not change. A field that the new metadata leaves out counts as unchanged."""
    for field in FIXED:
        if new.get(field) and new[field] != old.get(field):
            yield invalid(f"metadata.{field}", new[field], IMMUTABLE)
    added = set(new.get("finalizers") or []) - set(old.get("finalizers") or [])
    if old.get("deletionTimestamp") and added:
        found = ", ".join(field_errors.shown(finalizer) for finalizer in sorted(added))
        detail = f"no new finalizers can be added if the object is being deleted, found new finalizers []string{{{found}}}"
        yield forbidden("metadata.finalizers", detail)


def labels(values: Mapping[str, str], here: At) -> Causes:
    for key, value in values.items():
        yield from each(here.path, key, field_errors.qualified_name(key))
        yield from each(here.path, value, field_errors.label_value(value))


def annotation_keys(values: Mapping[str, str], here: At) -> Causes:
    for key in values:
        yield from each(here.path, key, field_errors.qualified_name(key.lower()))
    if sum(len(part.encode(errors="surrogatepass")) for item in values.items() for part in item) > LARGEST_ANNOTATIONS:
        yield too_long(here.path, LARGEST_ANNOTATIONS)


def finalizer_name(finalizer: str, here: At) -> Iterator[str]:
    if "/" not in finalizer and finalizer not in STANDARD_FINALIZERS:
        yield "name is neither a standard finalizer name nor is it fully qualified"


def _owners(owners: list[Mapping[str, Any]], here: At) -> Causes:
    for owner in owners:
        if (owner.get("apiVersion"), owner.get("kind")) == ("v1", "Event"):
            yield invalid(here.path, dict(owner), "/v1, Kind=Event is disallowed from being an owner")
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                yield invalid(f"{here.path}.{field}", "", f"{'version ' if field == 'apiVersion' else ''}must not be empty")
    controllers = [str(owner.get("name")) for owner in owners if owner.get("controller")]
    if len(controllers) > 1:
        detail = 'Only one reference can have Controller set to true. Found "true" in references for '
        yield invalid(here.path, [dict(owner) for owner in owners], detail + " and ".join(controllers[:2]))


def operator(requirement: Mapping[str, Any], here: At, numeric: tuple[str, ...] = ()) -> Causes:
    """A requirement's operator, and as many values as it needs."""
    found, values = requirement.get("operator") or "", requirement.get("values") or []
    if found in ("In", "NotIn") and not values:
        yield required(f"{here.path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    elif found in ("Exists", "DoesNotExist") and values:
        yield forbidden(f"{here.path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
    elif found in numeric and len(values) != 1:
        yield required(f"{here.path}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")
    elif found not in (*OPERATORS, *numeric):
        yield invalid(f"{here.path}.operator", found, "not a valid selector operator")


SELECTOR: Table = (
    filled("matchLabels", labels),
    inside(
        "matchExpressions",
        (given("", operator), always("key", field_errors.qualified_name), every("values", field_errors.label_value)),
    ),
)
