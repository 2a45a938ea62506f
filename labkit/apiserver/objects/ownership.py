"""Sets of fields: which fields an object has, in which two objects differ, and how managedFields writes such a set down.

A path is a tuple of steps as FieldsV1 spells them: "f:spec", 'k:{"name":"app"}' (an item by its keys), 'v:"x"' (a value in a
set). Knowledge: sigs.k8s.io/structured-merge-diff (fieldpath, typed).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from labkit.podspec import schema
from labkit.podspec.schema import Field

Path = tuple[str, ...]
Fields = set[Path]

UNOWNED = {"name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "managedFields", "resourceVersion"}
"""Metadata that nobody manages."""


def root(kind: str) -> Field:
    """The place where an object of that kind starts."""
    return Field("", "object", ref=schema.full_name(kind))


def bare(obj: dict[str, Any], without: Iterable[str] = ()) -> dict[str, Any]:
    """The part of an object that can be managed."""
    meta = {key: value for key, value in (obj.get("metadata") or {}).items() if key not in UNOWNED}
    left_out = {"apiVersion", "kind", "metadata", *without}
    return {key: value for key, value in obj.items() if key not in left_out} | {"metadata": meta}


def owned(value: Any, place: Field | None, path: Path = ()) -> Fields:
    """The fields that a configuration sets: its leaves, and each item of a keyed list."""
    found: Fields = set()
    steps = children(value, place)
    if steps is None or not steps:
        return {path} if path else found
    for step, child, below in steps:
        found |= owned(child, below, (*path, step))
        if step[0] != "f":
            found.add((*path, step))
    return found


def duplicates(value: Any, place: Field | None, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """The path of each list that has an item twice, and that item's step."""
    seen: set[str] = set()
    for step, child, below in children(value, place) or ():
        if step in seen:
            yield path, step
        seen.add(step)
        yield from duplicates(child, below, (*path, step))


def difference(old: Any, new: Any, place: Field | None, path: Path = ()) -> tuple[Fields, Fields]:
    """Fields that are new or have another value in `new`, and fields that are gone."""
    changed: Fields = set()
    removed: Fields = set()
    if old == new:
        return changed, removed
    before, after = children(old, place), children(new, place)
    if before is None or after is None:
        return {path}, removed
    there = {step: child for step, child, _ in before}
    for step, child, below in after:
        if step not in there:
            changed |= _whole(child, below, (*path, step))
        else:
            deeper = difference(there.pop(step), child, below, (*path, step))
            changed |= deeper[0]
            removed |= deeper[1]
    for step, child, below in before:
        if step in there:
            removed |= _whole(child, below, (*path, step))
    return changed, removed


def children(value: Any, place: Field | None) -> list[tuple[str, Any, Field | None]] | None:
    """The steps below a value with what they lead to; None for a leaf, or what is taken whole."""
    if place is None or place.atomic:
        return None
    if place.type == "object" and isinstance(value, dict):
        return [(f"f:{key}", child, schema.field(place.ref, key)) for key, child in value.items() if child is not None]
    if place.type == "map" and isinstance(value, dict):
        return [(f"f:{key}", child, place.items) for key, child in value.items()]
    if place.type == "array" and isinstance(value, list):
        if place.list_type == "map" and all(isinstance(item, dict) for item in value):
            return [(item_step(item, place), item, place.items) for item in value]
        if place.list_type == "set":
            return [(f"v:{_compact(item)}", item, place.items) for item in value]
    return None


def item_step(item: dict[str, Any], place: Field) -> str:
    """The step to an item of a keyed list; a key that it leaves out has its default."""
    keys = {key: item[key] if key in item else _default(place, key) for key in place.map_keys}
    return f"k:{_compact({key: value for key, value in keys.items() if value is not None})}"


def written(fields: Fields) -> dict[str, Any]:
    """A set as FieldsV1."""
    top: dict[str, Any] = {}
    for path in sorted(fields):
        node = top
        for step in path:
            node = node.setdefault(step, {})
        node["."] = {}
    return {step: _leaves(node) for step, node in top.items()}


def read(fields: Any, path: Path = ()) -> Fields:
    """FieldsV1 as a set; whatever is not in its form is left out."""
    found: Fields = set()
    for step, below in fields.items() if isinstance(fields, dict) else ():
        if step == ".":
            found.add(path)
        elif step[:2] in ("f:", "k:", "v:", "i:"):
            deeper = (*path, step)
            if below:
                found |= read(below, deeper)
            else:
                found.add(deeper)
    return found


def spelled(path: Path) -> str:
    """A path as messages show it: .spec.containers[name="app"].image"""
    return "".join(_spelled_step(step) for step in path)


def _spelled_step(step: str) -> str:
    if step.startswith("k:"):
        try:
            keys = json.loads(step[2:])
        except ValueError:
            keys = None
        if isinstance(keys, dict):
            return f"[{','.join(f'{key}={_compact(value)}' for key, value in keys.items())}]"
    return f".{step[2:]}" if step.startswith("f:") else f"[={step[2:]}]" if step.startswith("v:") else f"[{step[2:]}]"


def _whole(value: Any, place: Field | None, path: Path) -> Fields:
    """A value and everything below it."""
    return {path}.union(*(_whole(child, below, (*path, step)) for step, child, below in children(value, place) or ()))


def _leaves(node: dict[str, Any]) -> dict[str, Any]:
    if set(node) == {"."}:
        return {}
    return {step: {} if step == "." else _leaves(below) for step, below in node.items()}


def _default(place: Field, key: str) -> Any:
    if key == "protocol":
        return "TCP"
    known = schema.field(place.items.ref, key) if place.items and place.items.type == "object" else None
    return known.default if known else None


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def prefixes(fields: Fields) -> Iterator[Path]:
    """Every path that leads to one of the fields, the fields themselves too."""
    for path in fields:
        for length in range(1, len(path) + 1):
            yield path[:length]


def unchanged(new: dict[str, Any], old: dict[str, Any]) -> bool:
    """Whether nothing was changed, the times in managedFields aside."""

    def without_times(obj: dict[str, Any]) -> dict[str, Any]:
        meta = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
        owners = [{**owner, "time": ""} for owner in obj["metadata"].get("managedFields") or []]
        return {**{k: v for k, v in obj.items() if k not in ("kind", "apiVersion")}, "metadata": meta, "owners": owners}

    return without_times(new) == without_times(old)
