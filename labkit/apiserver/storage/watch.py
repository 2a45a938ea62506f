"""Watches: one stream of changes for each client, and each change put into text once for all of them.

Knowledge: apiserver's pkg/storage/cacher and pkg/endpoints/handlers/watch.go; watch lists with their initial events are KEP-3157.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

from labkit.apiserver import api_errors
from labkit.apiserver.api_resources import ApiResource
from labkit.apiserver.storage.store import Object, Store, StoredObject, WatchEvent

BOOKMARK_EVERY_S = 60.0
DEFAULT_TIMEOUT_S = (1800.0, 3600.0)
QUEUE_MAX = 10_000
"""Events that a client may be behind; one that reads slower is cut off and has to list anew."""

CROWD, PAUSE_S = 8, 0.0002
"""With more listeners than that, each one rests so long for every one of them: what happens meanwhile goes out together."""

Render = Callable[[StoredObject], bytes]
Matches = Callable[[Object], bool] | None


@dataclass(frozen=True)
class WatchRequest:
    """What a client wants to see. `initial` sends what there is first; `marked` ends that with a bookmark (watch list)."""

    namespace: str = ""
    matches: Matches = None
    since: int | None = None
    initial: bool = True
    marked: bool = False
    bookmarks: bool = False
    timeout_s: float | None = None


class Encoder:
    """Puts an object into text, and remembers the last one while it goes to many watchers. `text` is None for plain objects."""

    def __init__(self, resource: ApiResource, text: Render | None = None) -> None:
        self.text = text
        self.head = type_meta(resource)
        self.last: tuple[StoredObject | None, bytes] = (None, b"")

    def __call__(self, entry: StoredObject) -> bytes:
        if self.last[0] is not entry:
            self.last = (entry, self.text(entry) if self.text else self.head + entry.raw[1:])
        return self.last[1]


async def events(store: Store, resource: ApiResource, request: WatchRequest, render: Render) -> AsyncGenerator[bytes, None]:
    """Lines for the client, several at a time when several are due, until the watch's time is over.

    Raises ApiError before the first line when the watch cannot begin (410 too old, 504 from the future).
    """
    queue: list[bytes] = []
    woken = asyncio.Event()
    overrun = False

    def hear(change: WatchEvent) -> None:
        nonlocal overrun
        seen = _as_seen(change, request)
        if seen:
            overrun = overrun or len(queue) >= QUEUE_MAX
            if not overrun:
                queue.append(frame(seen, render(change.entry)))
            woken.set()

    missed = () if request.since is None else store.since(resource.plural, request.since)
    unsubscribe = store.subscribe(resource.plural, hear)
    try:
        if request.initial:
            there = store.list(resource.plural, request.namespace)
            queue += [frame("ADDED", render(e)) for _, e in there if request.matches is None or request.matches(e.obj)]
        if request.marked:
            queue.append(bookmark(resource, store.rv, final=True))
        queue += [frame(seen, render(change.entry)) for change in missed if (seen := _as_seen(change, request))]
        loop = asyncio.get_running_loop()
        ends = loop.time() + (request.timeout_s if request.timeout_s is not None else random.uniform(*DEFAULT_TIMEOUT_S))
        yield b""
        while not overrun:
            if queue:
                lines = b"".join(queue)
                queue.clear()
                yield lines
                if len(listeners := store.listeners[resource.plural]) > CROWD:
                    await asyncio.sleep(len(listeners) * PAUSE_S)
                continue
            woken.clear()
            due = min(ends, loop.time() + BOOKMARK_EVERY_S)
            alarm = loop.call_at(due, woken.set)
            await woken.wait()
            alarm.cancel()
            if loop.time() >= ends:
                break
            if request.bookmarks and not queue and loop.time() >= due:
                yield bookmark(resource, store.rv)
    finally:
        unsubscribe()


def frame(kind: str, obj: bytes) -> bytes:
    return b'{"type":"' + kind.encode() + b'","object":' + obj + b"}\n"


def failure(error: api_errors.ApiError) -> bytes:
    """An error that ends a stream."""
    return frame("ERROR", json.dumps(error.body()).encode())


def bookmark(resource: ApiResource, rv: int, final: bool = False) -> bytes:
    meta: dict[str, Any] = {"resourceVersion": str(rv), "creationTimestamp": None}
    if final:
        meta["annotations"] = {"k8s.io/initial-events-end": "true"}
    obj = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": meta}
    return frame("BOOKMARK", json.dumps(obj).encode())


def type_meta(resource: ApiResource) -> bytes:
    """What goes before an object's other fields."""
    return f'{{"kind":"{resource.kind}","apiVersion":"{resource.api_version}",'.encode()


def _as_seen(change: WatchEvent, request: WatchRequest) -> str:
    """The change's type for this watcher: an object that begins to match is ADDED, one that ceases to is DELETED."""
    if request.namespace and change.key[0] != request.namespace:
        return ""
    if request.matches is None:
        return change.type
    before = change.before is not None and request.matches(change.before.obj)
    after = change.type != "DELETED" and request.matches(change.entry.obj)
    if after:
        return "MODIFIED" if before else "ADDED"
    return "DELETED" if before else ""
