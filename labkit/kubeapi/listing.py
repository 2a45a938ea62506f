"""Lists: selection, pages, resource versions; and what a watch's query asks for.

Knowledge: apimachinery's metav1.ListOptions and its validation, apiserver's pkg/storage.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from labkit.kubeapi import paths, selectors, status, watch
from labkit.kubeapi.paths import Query, Target, flag, number, one
from labkit.kubeapi.registry import Resource
from labkit.kubeapi.store import Entry, Object, Store

Found = list[tuple[tuple[str, str], Entry]]
NEEDS_VERSION = "resourceVersionMatch is forbidden unless resourceVersion is provided"
NEVER_OLDEST = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
NOT_IN_LISTS = "sendInitialEvents is forbidden for list"
NEEDS_NOT_OLDER = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
NOT_IN_WATCHES = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"


@dataclass(frozen=True)
class Listed:
    """A list's own metadata and what it holds."""

    meta: dict[str, Any]
    entries: list[Entry]


def listed(store: Store, target: Target, query: Query) -> Listed:
    """What a GET of a collection answers. Raises ApiError (400, 410, 422, 504)."""
    limit, token = number(query, "limit") or 0, one(query, "continue")
    rv, after = store.rv, None
    if flag(query, "sendInitialEvents"):
        raise _forbidden("sendInitialEvents", NOT_IN_LISTS)
    if token:
        if paths.version(query):
            raise status.bad_request("specifying resource version is not allowed when using continue")
        rv, after = paths.read_token(token)
        if rv > store.rv:
            raise status.bad_request("continue key is not valid: it is of another API")
    else:
        check_version(store, query)
    found = selected(store, target, query, after)
    meta: dict[str, Any] = {"resourceVersion": str(rv)}
    if 0 < limit < len(found):
        meta["continue"] = paths.put_token(rv, found[limit - 1][0])
        if not one(query, "labelSelector") and not one(query, "fieldSelector"):
            meta["remainingItemCount"] = len(found) - limit
        found = found[:limit]
    return Listed(meta, [entry for _, entry in found])


def selected(store: Store, target: Target, query: Query, after: tuple[str, str] | None = None) -> Found:
    """The objects that namespace and selectors leave. Raises ApiError (400)."""
    matches = selectors.matcher(target.resource, one(query, "labelSelector"), one(query, "fieldSelector"))
    found = store.list(target.resource.plural, target.namespace, after)
    return found if matches is None else [pair for pair in found if matches(pair[1].obj)]


def check_version(store: Store, query: Query) -> None:
    """Whether the version asked for can be shown: all that there is, is the newest. Raises ApiError (400, 410, 422, 504)."""
    rv, match = paths.version(query), one(query, "resourceVersionMatch")
    if match not in ("", "Exact", "NotOlderThan"):
        words = f'resourceVersionMatch: Unsupported value: "{match}": supported values: "Exact", "NotOlderThan"'
        raise status.unprocessable(words)
    if match and rv is None:
        raise _forbidden("resourceVersionMatch", NEEDS_VERSION)
    if match == "Exact" and rv == 0:
        raise _forbidden("resourceVersionMatch", NEVER_OLDEST)
    if rv is not None and rv > store.rv:
        raise status.from_the_future(rv, store.rv)
    if match == "Exact" and rv != store.rv:
        raise status.expired(f"The resourceVersion for the provided list is too old: {rv} (the newest is {store.rv})")


def watch_request(store: Store, target: Target, query: Query) -> watch.Request:
    """What a watch's query asks for. Raises ApiError (400, 422, 504)."""
    matches = selectors.matcher(target.resource, one(query, "labelSelector"), one(query, "fieldSelector"))
    rv, marked, match = paths.version(query), flag(query, "sendInitialEvents"), one(query, "resourceVersionMatch")
    if "sendInitialEvents" in query and match != "NotOlderThan":
        raise _forbidden("resourceVersionMatch", NEEDS_NOT_OLDER)
    if match and "sendInitialEvents" not in query:
        raise _forbidden("resourceVersionMatch", NOT_IN_WATCHES)
    if rv and rv > store.rv:
        raise status.from_the_future(rv, store.rv)
    seconds = number(query, "timeoutSeconds")
    bookmarks = flag(query, "allowWatchBookmarks")
    initial = marked or (not rv and "sendInitialEvents" not in query)
    return watch.Request(
        namespace=target.namespace, matches=matches, since=None if initial or not rv else rv, initial=initial,
        marked=marked and bookmarks, bookmarks=bookmarks, timeout_s=float(seconds) if seconds else None,
    )  # fmt: skip


def as_list(resource: Resource, meta: dict[str, Any] | int, entries: list[Entry]) -> bytes:
    """A list as JSON, made of texts that are ready."""
    meta = {"resourceVersion": str(meta)} if isinstance(meta, int) else meta
    head = f'{{"kind":"{resource.kind}List","apiVersion":"{resource.api_version}","metadata":{json.dumps(meta)},"items":['
    return head.encode() + b",".join([entry.raw for entry in entries]) + b"]}"


def partial(obj: Object) -> Object:
    """An object's metadata alone."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def _forbidden(parameter: str, why: str) -> status.ApiError:
    return status.unprocessable(f'ListOptions.meta.k8s.io "" is invalid: {parameter}: Forbidden: {why}')
