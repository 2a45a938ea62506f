"""Lists: selection, pages, resource versions; and what a watch's query asks for.

Knowledge: apimachinery's metav1.ListOptions and its validation, apiserver's pkg/storage.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from labkit.apiserver import api_errors
from labkit.apiserver.api_resources import ApiResource
from labkit.apiserver.requests import paths, selectors
from labkit.apiserver.requests.paths import Form, Query, Target, flag, number, one
from labkit.apiserver.storage import watch
from labkit.apiserver.storage.store import Object, Store, StoredObject

Found = list[tuple[tuple[str, str], StoredObject]]
NEEDS_VERSION = "resourceVersionMatch is forbidden unless resourceVersion is provided"
NEVER_OLDEST = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
NOT_IN_LISTS = "sendInitialEvents is forbidden for list"
NEEDS_NOT_OLDER = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without the "
    "continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with "
    "the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the "
    "first chunk was returned and now may show up in the list."
)
SNAPSHOTS, SNAPSHOT_S = 32, 300.0
"""Lists in pages that are remembered, and for how long."""

NOT_IN_WATCHES = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"


@dataclass(frozen=True)
class Listed:
    """A list's own metadata and what it holds."""

    meta: dict[str, Any]
    entries: list[StoredObject]


def listed(store: Store, target: Target, query: Query) -> Listed:
    """What a GET of a collection answers. Raises ApiError (400, 410, 422, 504)."""
    limit, token = number(query, "limit") or 0, one(query, "continue")
    rv, after, pages = store.rv, None, Pages(store, target)
    if flag(query, "sendInitialEvents"):
        raise _forbidden("sendInitialEvents", NOT_IN_LISTS)
    if token:
        if paths.version(query):
            raise api_errors.bad_request("specifying resource version is not allowed when using continue")
        rv, after = paths.read_token(token)
        if rv > store.rv:
            raise api_errors.bad_request("continue key is not valid: it is of another API")
        rv = store.rv if rv == paths.LATEST else rv
    else:
        check_version(store, query)
    everything = pages.at(rv, after)
    found = matching(target, query, [pair for pair in everything if after is None or pair[0] > after])
    meta: dict[str, Any] = {"resourceVersion": str(rv)}
    if 0 < limit < len(found):
        meta["continue"] = paths.put_token(rv, found[limit - 1][0])
        pages.keep(rv, everything)
        if not one(query, "labelSelector") and not one(query, "fieldSelector"):
            meta["remainingItemCount"] = len(found) - limit
        found = found[:limit]
    return Listed(meta, [entry for _, entry in found])


def selected(store: Store, target: Target, query: Query) -> Found:
    """The objects that namespace and selectors leave. Raises ApiError (400)."""
    return matching(target, query, store.list(target.resource.plural, target.namespace))


def matching(target: Target, query: Query, found: Found) -> Found:
    """Those of the objects that the selectors leave. Raises ApiError (400)."""
    matches = selectors.matcher(target.resource, one(query, "labelSelector"), one(query, "fieldSelector"))
    return found if matches is None else [pair for pair in found if matches(pair[1].obj)]


@dataclass(frozen=True)
class Pages:
    """What a list in pages showed on its first page, so that the later ones are of the same moment."""

    store: Store
    target: Target

    def keep(self, rv: int, found: Found) -> None:
        snapshots = self.store.snapshots
        snapshots[self._key(rv)] = (time.monotonic(), found)
        while len(snapshots) > SNAPSHOTS or time.monotonic() - next(iter(snapshots.values()))[0] > SNAPSHOT_S:
            snapshots.popitem(last=False)

    def at(self, rv: int, after: tuple[str, str] | None) -> Found:
        """Every object of the target as it was at `rv`. Raises ApiError (410) when that is no longer known."""
        if (kept := self.store.snapshots.get(self._key(rv))) is not None:
            return kept[1]
        if rv != self.store.rv and after is not None:
            raise api_errors.expired(TOO_OLD, {"continue": paths.put_token(paths.LATEST, after)})
        return self.store.list(self.target.resource.plural, self.target.namespace)

    def _key(self, rv: int) -> tuple[str, str, int]:
        return (self.target.resource.plural, self.target.namespace, rv)


def check_version(store: Store, query: Query) -> None:
    """Whether the version asked for can be shown: all that there is, is the newest. Raises ApiError (400, 410, 422, 504)."""
    rv, match = paths.version(query), one(query, "resourceVersionMatch")
    if match not in ("", "Exact", "NotOlderThan"):
        words = f'resourceVersionMatch: Unsupported value: "{match}": supported values: "Exact", "NotOlderThan"'
        raise api_errors.unprocessable(words)
    if match and rv is None:
        raise _forbidden("resourceVersionMatch", NEEDS_VERSION)
    if match == "Exact" and rv == 0:
        raise _forbidden("resourceVersionMatch", NEVER_OLDEST)
    if rv is not None and rv > store.rv:
        raise api_errors.from_the_future(rv, store.rv)
    if match == "Exact" and rv != store.rv:
        raise api_errors.expired(f"The resourceVersion for the provided list is too old: {rv} (the newest is {store.rv})")


def watch_request(store: Store, target: Target, query: Query) -> watch.WatchRequest:
    """What a watch's query asks for. Raises ApiError (400, 422, 504)."""
    matches = selectors.matcher(target.resource, one(query, "labelSelector"), one(query, "fieldSelector"))
    rv, marked, match = paths.version(query), flag(query, "sendInitialEvents"), one(query, "resourceVersionMatch")
    if "sendInitialEvents" in query and match != "NotOlderThan":
        raise _forbidden("resourceVersionMatch", NEEDS_NOT_OLDER)
    if match and "sendInitialEvents" not in query:
        raise _forbidden("resourceVersionMatch", NOT_IN_WATCHES)
    if rv and rv > store.rv:
        raise api_errors.from_the_future(rv, store.rv)
    seconds = number(query, "timeoutSeconds")
    bookmarks = flag(query, "allowWatchBookmarks")
    initial = marked or (not rv and "sendInitialEvents" not in query)
    return watch.WatchRequest(
        namespace=target.namespace, matches=matches, since=None if initial or not rv else rv, initial=initial,
        marked=marked and bookmarks, bookmarks=bookmarks, timeout_s=float(seconds) if seconds else None,
    )


def as_list(resource: ApiResource, meta: dict[str, Any] | int, entries: list[StoredObject]) -> bytes:
    """A list as JSON, made of texts that are ready."""
    meta = {"resourceVersion": str(meta)} if isinstance(meta, int) else meta
    head = f'{{"kind":"{resource.kind}List","apiVersion":"{resource.api_version}","metadata":{json.dumps(meta)},"items":['
    return head.encode() + b",".join([entry.raw for entry in entries]) + b"]}"


def partial(obj: Object, form: Form) -> Object:
    """An object's metadata alone."""
    return {"kind": "PartialObjectMetadata", "apiVersion": form.api_version, "metadata": obj["metadata"]}


def _forbidden(parameter: str, why: str) -> api_errors.ApiError:
    return api_errors.unprocessable(f'ListOptions.meta.k8s.io "" is invalid: {parameter}: Forbidden: {why}')
