"""Metadata: names, labels, annotations, owners, finalizers; what of them may change. Knowledge: apimachinery's api/validation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from labkit.podspec.validation import words
from labkit.podspec.validation.words import IMMUTABLE, Causes, each, forbidden, invalid, required, too_long

Names = Callable[[str], Iterator[str]]
LARGEST_ANNOTATIONS = 256 * 1024
STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")
FIXED = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def metadata(meta: Mapping[str, Any], names: Names, *, namespaced: bool) -> Causes:
    """An object's metadata at its creation. `names` tells what is wrong with a name of that kind."""
    if generated := meta.get("generateName"):
        yield from each("metadata.generateName", generated, names(re.sub(r"-$", "a", generated)))
    if not meta.get("name"):
        yield required("metadata.name", "name or generateName is required")
    else:
        yield from each("metadata.name", meta["name"], names(meta["name"]))
    namespace = meta.get("namespace") or ""
    if namespaced and not namespace:
        yield required("metadata.namespace")
    elif namespaced:
        yield from each("metadata.namespace", namespace, words.label(namespace))
    elif namespace:
        yield forbidden("metadata.namespace", "not allowed on this type")
    yield from words.not_negative("metadata.generation", meta.get("generation"))
    yield from labels(meta.get("labels") or {}, "metadata.labels")
    yield from annotation_names(meta.get("annotations") or {}, "metadata.annotations")
    yield from _owners(meta.get("ownerReferences") or [], "metadata.ownerReferences")
    for finalizer in meta.get("finalizers") or []:
        yield from each("metadata.finalizers", finalizer, words.qualified_name(finalizer))
    for number, finalizer in enumerate(meta.get("finalizers") or []):
        yield from finalizer_name(finalizer, f"metadata.finalizers[{number}]")


def metadata_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Causes:
    """What of metadata may not change. A field that the new metadata leaves out counts as unchanged."""
    for field in FIXED:
        if new.get(field) and new[field] != old.get(field):
            yield invalid(f"metadata.{field}", new[field], IMMUTABLE)
    added = set(new.get("finalizers") or []) - set(old.get("finalizers") or [])
    if old.get("deletionTimestamp") and added:
        found = ", ".join(words.shown(finalizer) for finalizer in sorted(added))
        said = f"no new finalizers can be added if the object is being deleted, found new finalizers []string{{{found}}}"
        yield forbidden("metadata.finalizers", said)


def labels(values: Mapping[str, str], path: str) -> Causes:
    for key, value in values.items():
        yield from each(path, key, words.qualified_name(key))
        yield from each(path, value, words.label_value(value))


def annotation_names(values: Mapping[str, str], path: str) -> Causes:
    for key in values:
        yield from each(path, key, words.qualified_name(key.lower()))
    if sum(len(part.encode(errors="surrogatepass")) for item in values.items() for part in item) > LARGEST_ANNOTATIONS:
        yield too_long(path, LARGEST_ANNOTATIONS)


def finalizer_name(finalizer: str, path: str) -> Causes:
    if "/" not in finalizer and finalizer not in STANDARD_FINALIZERS:
        yield invalid(path, finalizer, "name is neither a standard finalizer name nor is it fully qualified")


def label_selector(selector: Mapping[str, Any], path: str) -> Causes:
    yield from labels(selector.get("matchLabels") or {}, f"{path}.matchLabels")
    for number, requirement in enumerate(selector.get("matchExpressions") or []):
        at = f"{path}.matchExpressions[{number}]"
        operator, values = requirement.get("operator") or "", requirement.get("values") or []
        if operator in ("In", "NotIn") and not values:
            yield required(f"{at}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif operator in ("Exists", "DoesNotExist") and values:
            yield forbidden(f"{at}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
        elif operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            yield invalid(f"{at}.operator", operator, "not a valid selector operator")
        key = requirement.get("key") or ""
        yield from each(f"{at}.key", key, words.qualified_name(key))
        for index, value in enumerate(values):
            yield from each(f"{at}.values[{index}]", value or "", words.label_value(value or ""))


def _owners(owners: list[Mapping[str, Any]], path: str) -> Causes:
    controllers = []
    for owner in owners:
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                what = "version " if field == "apiVersion" else ""
                yield invalid(f"{path}.{field}", "", f"{what}must not be empty")
        if owner.get("controller"):
            controllers.append(str(owner.get("name")))
    if len(controllers) > 1:
        both = " and ".join(controllers[:2])
        said = f'Only one reference can have Controller set to true. Found "true" in references for {both}'
        yield invalid(path, [dict(owner) for owner in owners], said)
