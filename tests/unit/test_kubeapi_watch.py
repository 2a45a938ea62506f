"""Watches: what a client is told, in which order, and when it has to list anew."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labkit.apiserver.api_errors import ApiError
from labkit.apiserver.api_resources import BY_PLURAL
from labkit.apiserver.requests import paths
from labkit.apiserver.storage import listing, watch
from labkit.apiserver.storage.store import Store, StoredObject

CONFIG_MAPS = BY_PLURAL["configmaps"]


def put(store: Store, name: str, namespace: str = "default", **labels: str) -> int:
    return store.put("configmaps", {"metadata": {"name": name, "namespace": namespace, "labels": labels}}).rv


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "objects.sqlite")


def seen(store: Store, asked: dict[str, str], then: Callable[[], None], count: int, namespace: str = "") -> list[tuple[str, str]]:
    """Type and name of the first `count` events of a watch, `then` done once it has begun."""

    async def run() -> list[tuple[str, str]]:
        target = paths.Target(CONFIG_MAPS, namespace)
        request = listing.watch_request(store, target, {key: [value] for key, value in asked.items()})
        stream = watch.events(store, CONFIG_MAPS, request, watch.Encoder(CONFIG_MAPS))
        lines = await anext(stream)
        then()
        found: list[Any] = []
        while len(found) < count:
            lines += await anext(stream)
            found = [json.loads(line) for line in lines.splitlines()]
        await stream.aclose()
        assert not store.listeners["configmaps"]
        return [(event["type"], event["object"]["metadata"].get("name", "")) for event in found]

    return asyncio.run(asyncio.wait_for(run(), 60))


def test_without_a_version_what_there_is_comes_first(store: Store) -> None:
    put(store, "a")
    assert seen(store, {}, lambda: put(store, "b") and None, 2) == [("ADDED", "a"), ("ADDED", "b")]


def test_from_a_version_only_what_came_after(store: Store) -> None:
    rv = put(store, "a")
    put(store, "b")

    def then() -> None:
        put(store, "a", x="1")
        store.remove("configmaps", "default", "b")

    asked = {"resourceVersion": str(rv)}
    assert seen(store, asked, then, 3) == [("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")]


def test_selectors_turn_changes_into_coming_and_going(store: Store) -> None:
    put(store, "a", app="x")
    put(store, "b", app="y")

    def then() -> None:
        put(store, "b", app="x")
        put(store, "a", app="y")
        put(store, "a", app="z")
        put(store, "b", app="x", more="1")
        store.remove("configmaps", "default", "b")

    assert seen(store, {"labelSelector": "app=x"}, then, 5) == [
        ("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a"), ("MODIFIED", "b"), ("DELETED", "b"),
    ]


def test_other_namespaces_are_not_told(store: Store) -> None:
    def then() -> None:
        put(store, "a", "other")
        put(store, "b")

    assert seen(store, {}, then, 1, namespace="default") == [("ADDED", "b")]


def test_a_watch_list_marks_the_end_of_what_there_was(store: Store) -> None:
    put(store, "a")
    asked = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    assert seen(store, asked, lambda: put(store, "b") and None, 3) == [("ADDED", "a"), ("BOOKMARK", ""), ("ADDED", "b")]
    mark = json.loads(watch.bookmark(CONFIG_MAPS, store.rv, final=True))["object"]["metadata"]
    assert mark["annotations"] == {"k8s.io/initial-events-end": "true"} and mark["resourceVersion"] == str(store.rv)


def test_a_watch_ends_when_its_time_is_over_and_says_where_it_was(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BOOKMARK_EVERY_S", 0.01)

    def events(timeout_s: float) -> Any:
        request = watch.WatchRequest(bookmarks=True, timeout_s=timeout_s)
        return watch.events(store, CONFIG_MAPS, request, watch.Encoder(CONFIG_MAPS))

    async def run() -> bytes:
        async for _ in events(0.05):
            pass
        long = events(60)
        await anext(long)
        mark: bytes = await anext(long)
        await long.aclose()
        return mark

    assert asyncio.run(asyncio.wait_for(run(), 60)) == watch.bookmark(CONFIG_MAPS, store.rv)


def test_who_reads_too_slowly_is_cut_off(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "QUEUE_MAX", 3)

    async def run() -> int:
        stream = watch.events(store, CONFIG_MAPS, watch.WatchRequest(), watch.Encoder(CONFIG_MAPS))
        await anext(stream)
        for number in range(10):
            put(store, f"c{number}")
        return sum([lines.count(b"\n") async for lines in stream])

    assert asyncio.run(run()) <= 3
    assert not store.listeners["configmaps"]


def test_one_text_serves_all_watchers() -> None:
    rendered: list[StoredObject] = []

    def text(entry: StoredObject) -> bytes:
        rendered.append(entry)
        return entry.raw

    encoder, entry = watch.Encoder(CONFIG_MAPS, text), StoredObject(1, b"{}")
    assert encoder(entry) == encoder(entry) == b"{}" and rendered == [entry]
    assert (
        watch.Encoder(CONFIG_MAPS)(StoredObject(1, b'{"metadata":{}}')) == b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{}}'
    )


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"resourceVersion": "99"}, 504),
        ({"sendInitialEvents": "true"}, 422),
        ({"resourceVersionMatch": "NotOlderThan"}, 422),
        ({"labelSelector": "("}, 400),
        ({"timeoutSeconds": "soon"}, 400),
    ],
)
def test_watches_that_cannot_begin(store: Store, asked: dict[str, str], code: int) -> None:
    with pytest.raises(ApiError) as refused:
        listing.watch_request(store, paths.Target(CONFIG_MAPS), {key: [value] for key, value in asked.items()})
    assert refused.value.code == code
