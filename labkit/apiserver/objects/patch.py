"""Patches: strategic merge, JSON merge (RFC 7386), JSON patch (RFC 6902).

Strategic merge follows apimachinery's pkg/util/strategicpatch: lists of objects are merged by the keys in `schema`, and the
directives $patch, $retainKeys, $deleteFromPrimitiveList/… and $setElementOrder/… are obeyed.
"""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

from labkit.apiserver import api_errors
from labkit.apiserver.api_resources import ApiResource
from labkit.apiserver.requests import bodies
from labkit.apiserver.storage.store import Object
from labkit.podspec import schema
from labkit.podspec.go_text import go_value
from labkit.podspec.schema import Field
from labkit.podspec.schema.decoding import Undecodable
from labkit.podspec.validation.field_errors import invalid

STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
JSON = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
KINDS = (JSON, MERGE, STRATEGIC, APPLY)

ABSENT = object()
MAX_OPERATIONS = 10_000
DELETE, ORDER, RETAIN, DIRECTIVE = "$deleteFromPrimitiveList/", "$setElementOrder/", "$retainKeys", "$patch"


def patched(resource: ApiResource, obj: Object, change: Any, kind: str) -> Object:
    """The object with a patch of media type `kind` carried out (on the object given). Raises ApiError: 400, 415, 422."""
    if kind == JSON:
        return _json_patched(resource, obj, change)
    if not isinstance(change, dict):
        raise api_errors.bad_request("error decoding patch: a merge patch must be a JSON object")
    if kind == MERGE:
        merged = merge(obj, change)
    elif kind == STRATEGIC:
        merged = _strategic(obj, change, Field("", "object", ref=schema.full_name(resource.kind)))
    else:
        raise api_errors.unsupported_media_type(kind, KINDS)
    if not isinstance(merged, dict):
        raise api_errors.bad_request("the patch leaves no object")
    return merged


def refusal(resource: ApiResource, refused: Undecodable, new: Object, change: Any, kind: str) -> api_errors.ApiError:
    """What the API says of a patch that leaves no object of the kind."""
    if kind == STRATEGIC:
        return api_errors.invalid("", "", [invalid("patch", go_value(change), refused.restored)])
    whole = {"kind": resource.kind, "apiVersion": resource.api_version, **new}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return api_errors.invalid("", "", [invalid("patch", text, refused.words)])


def merge(target: Any, change: Any) -> Any:
    """RFC 7386."""
    if not isinstance(change, dict):
        return change
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in change.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def _json_patched(resource: ApiResource, obj: Object, operations: Any) -> Object:
    if not isinstance(operations, list) or not all(isinstance(operation, dict) for operation in operations):
        raise api_errors.bad_request("error decoding patch: a JSON patch must be a list of operations")
    if len(operations) > MAX_OPERATIONS:
        message = f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}"
        raise api_errors.ApiError(413, "RequestEntityTooLarge", message, {})
    whole = {"kind": resource.kind, "apiVersion": resource.api_version, **obj}
    try:
        result = _carried_out(deepcopy(whole), operations)
    except _Failed as failed:
        raise api_errors.unprocessable(f"the server rejected our request due to an error in our request: {failed}") from failed
    except (TypeError, KeyError, ValueError, AttributeError, IndexError) as error:  # the package's answer to odd operations
        raise api_errors.bad_request(f"error decoding patch: {error!r}") from error
    if not isinstance(result, dict):
        raise api_errors.unprocessable("the patch leaves no object")
    return result


def _carried_out(value: Any, operations: list[Object]) -> Any:
    """The value after the operations, which may copy as many bytes as a body has: copies of copies grow as a power
    (evanphx/json-patch, AccumulatedCopySizeLimit)."""
    from jsonpatch import JsonPatch, JsonPatchException
    from jsonpointer import JsonPointer, JsonPointerException

    copied = 0
    for operation in operations:
        try:
            if operation.get("op") == "copy" and isinstance(operation.get("from"), str):
                copied += len(json.dumps(JsonPointer(operation["from"]).resolve(value)))
                if copied > bodies.MAX_BYTES:
                    words = f"the accumulated size increase of copy is {copied}, exceeding the limit {bodies.MAX_BYTES}"
                    raise api_errors.unprocessable(f"Unable to complete the copy, {words}")
            value = JsonPatch([operation]).apply(value, in_place=True)
        except (JsonPatchException, JsonPointerException) as error:
            raise _Failed(_why(operation, value) or str(error)) from error
    return value


class _Failed(Exception):
    """An operation of a JSON patch that does not apply; `str()` says why, as evanphx/json-patch does."""


def _why(operation: Object, value: Any) -> str:
    """The words for an operation that failed on this value."""
    op, path = operation.get("op"), operation.get("path")
    if op not in ("add", "remove", "replace", "move", "copy", "test"):
        return f"Unexpected kind: {op}"
    if not isinstance(path, str):
        return f"{op} operation failed to decode path: missing value"
    if op in ("move", "copy") and not _leads(operation.get("from"), value):
        return f"{op} operation does not apply: doc is missing from path: {operation.get('from')}: missing value"
    if op == "test":
        return f"testing value {path} failed: test failed"
    parent, _, key = path.rpartition("/")
    there = _at(parent, value)
    if not isinstance(there, dict | list):
        quoted = path if op == "replace" else f'"{path}"'
        return f"{op} operation does not apply: doc is missing path: {quoted}: missing value"
    if op == "replace":
        return f"replace operation does not apply: doc is missing key: {path}: missing value"
    if isinstance(there, list):
        return f"error in {op} for path: '{path}': Unable to access invalid index: {key}: invalid index referenced"
    return f"error in {op} for path: '{path}': Unable to remove nonexistent key: {key}: missing value" if op == "remove" else ""


def _leads(path: Any, value: Any) -> bool:
    return isinstance(path, str) and _at(path, value) is not ABSENT


def _at(path: str, value: Any) -> Any:
    """What a pointer (RFC 6901) leads to, else ABSENT."""
    for step in path.split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return ABSENT
    return value


def _strategic(target: Any, change: Object, place: Field | None) -> Any:
    """Merge an object; `place` says what it is, None where the schema knows nothing."""
    change = dict(change)
    directive = change.pop(DIRECTIVE, None)
    if directive == "replace":
        return _clean(change)
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise api_errors.bad_request(f"Unknown patch type: {directive}")
    merged = dict(target) if isinstance(target, dict) else {}
    if (keep := change.pop(RETAIN, None)) is not None:
        if not isinstance(keep, list):
            raise api_errors.bad_request("$retainKeys must be a list")
        kept = set(map(_word, keep))
        merged = {key: value for key, value in merged.items() if _word(key) in kept}
    orders = {key.removeprefix(ORDER): change.pop(key) for key in list(change) if key.startswith(ORDER)}
    removals = {key.removeprefix(DELETE): change.pop(key) for key in list(change) if key.startswith(DELETE)}
    for key, gone in removals.items():
        if not isinstance(gone, list):
            raise api_errors.bad_request(f"{DELETE}{key} must be a list")
        if isinstance(merged.get(key), list):
            words = set(map(_word, gone))
            merged[key] = [value for value in merged[key] if _word(value) not in words]
    for key, value in change.items():
        below = _below(place, key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = _strategic(merged.get(key), value, below)
        elif isinstance(value, list) and below and "merge" in below.strategy:
            merged[key] = _merged_list(merged.get(key), value, below)
        else:
            merged[key] = _clean(value)
    for key, order in orders.items():
        if isinstance(merged.get(key), list) and isinstance(order, list):
            below = _below(place, key)
            merged[key] = ordered(merged[key], order, below.merge_key if below else "")
    return merged


def _below(place: Field | None, key: str) -> Field | None:
    if place is None:
        return None
    return schema.field(place.ref, key) if place.type == "object" else place.items if place.type == "map" else None


def _merged_list(target: Any, change: list[Any], place: Field) -> list[Any]:
    there = list(target) if isinstance(target, list) else []
    key = place.merge_key
    if not key:
        words = set(map(_word, there))
        return there + [value for value in change if _word(value) not in words]
    if any(isinstance(item, dict) and item.get(DIRECTIVE) == "replace" for item in change):
        return [_clean(item) for item in change if not (isinstance(item, dict) and DIRECTIVE in item)]
    places: dict[str, list[int]] = {}
    for number, other in enumerate(there):
        if isinstance(other, dict):
            places.setdefault(_word(other.get(key)), []).append(number)
    gone: set[int] = set()
    for item in change:
        if not isinstance(item, dict) or key not in item:
            raise api_errors.bad_request(f"map: {item!r} does not contain declared merge key: {key}"[:500])
        word = _word(item[key])
        if item.get(DIRECTIVE) == "delete":
            gone.update(places.pop(word, ()))
        elif same := places.get(word):
            there[same[0]] = _strategic(there[same[0]], item, place.items)
        else:
            places[word] = [len(there)]
            there.append(_strategic({}, item, place.items))
    return [other for number, other in enumerate(there) if number not in gone]


def ordered(there: list[Any], order: list[Any], key: str = "") -> list[Any]:
    """Items named in `order` in that order; each other one keeps to the item that it stood behind."""

    def name(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    wanted: dict[str, int] = {}
    for number, item in enumerate(order):
        wanted.setdefault(_word(name(item)), number)
    ranks: list[tuple[int, int]] = []
    last = -1
    for position, item in enumerate(there):
        rank = wanted.get(_word(name(item)))
        if rank is not None:
            last = rank
            ranks.append((last, -1))
        else:
            ranks.append((last, position))
    return [there[i] for i in sorted(range(len(there)), key=ranks.__getitem__)]


def _word(value: Any) -> str:
    """What equal values have in common, to look them up by: a search for each item of one list in another takes too long."""
    return json.dumps(value, sort_keys=True)


def _clean(value: Any) -> Any:
    """The value without directives and without nulls, as a new object takes it."""
    if isinstance(value, dict):
        directives = (DIRECTIVE, RETAIN, DELETE, ORDER)
        return {k: _clean(v) for k, v in value.items() if v is not None and not k.startswith(directives)}
    return [_clean(item) for item in value] if isinstance(value, list) else value
