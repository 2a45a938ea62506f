"""Objects that last, their versions, and the news of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from labkit.apiserver.api_errors import ApiError
from labkit.apiserver.storage.store import HISTORY, Store, WatchEvent


def config_map(name: str, **data: str) -> dict[str, object]:
    return {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name, "namespace": "default"}, "data": data}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "objects.sqlite")


def test_each_write_has_a_higher_version_and_a_restart_goes_on_from_it(store: Store, tmp_path: Path) -> None:
    first = store.put("configmaps", config_map("a")).rv
    second = store.put("configmaps", config_map("a", x="1")).rv
    gone = store.remove("configmaps", "default", "a").rv
    assert first < second < gone
    store.close()
    again = Store(tmp_path / "objects.sqlite")
    assert again.rv == gone
    assert again.get("configmaps", "default", "a") is None
    assert again.put("configmaps", config_map("b")).rv == gone + 1


def test_text_in_lists_has_neither_kind_nor_api_version(store: Store) -> None:
    entry = store.put("configmaps", config_map("a", x="é"))
    assert entry.raw.startswith(b'{"metadata":') and b"ConfigMap" not in entry.raw
    assert entry.obj["data"] == {"x": "é"}


def test_lists_are_in_order(store: Store) -> None:
    for name in ("c", "a", "b"):
        store.put("configmaps", config_map(name))
    store.put("configmaps", {"metadata": {"name": "a", "namespace": "other"}})
    assert [key[1] for key, _ in store.list("configmaps", "default")] == ["a", "b", "c"]


def test_listeners_hear_what_was_and_what_is(store: Store) -> None:
    heard: list[WatchEvent] = []
    end = store.subscribe("configmaps", heard.append)
    store.put("configmaps", config_map("a"))
    store.put("configmaps", config_map("a", x="1"))
    store.remove("configmaps", "default", "a")
    end()
    store.put("configmaps", config_map("b"))
    assert [change.type for change in heard] == ["ADDED", "MODIFIED", "DELETED"]
    assert heard[1].before is not None and "data" in heard[1].entry.obj
    assert heard[2].entry.obj["metadata"]["resourceVersion"] == str(heard[2].entry.rv)


def test_changes_since_a_version(store: Store) -> None:
    first = store.put("configmaps", config_map("a")).rv
    store.put("configmaps", config_map("b"))
    store.put("secrets", config_map("s"))
    assert [change.key[1] for change in store.since("configmaps", first)] == ["b"]
    with pytest.raises(ApiError, match="Too large resource version: 99, current: 4") as future:
        store.since("configmaps", 99)
    assert future.value.code == 504


def test_a_forgotten_version_is_expired(store: Store, tmp_path: Path) -> None:
    first = store.put("configmaps", config_map("a")).rv
    for _ in range(HISTORY):
        store.put("configmaps", config_map("b"))
    assert len(store.since("configmaps", first)) == HISTORY
    store.put("configmaps", config_map("b"))
    with pytest.raises(ApiError, match="too old resource version: 2") as old:
        store.since("configmaps", first)
    assert (old.value.code, old.value.reason) == (410, "Expired")
    store.close()
    with pytest.raises(ApiError, match="too old"):
        Store(tmp_path / "objects.sqlite").since("configmaps", first)


def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    program = f"""
import os, signal
from labkit.apiserver.storage.store import Store
store = Store({str(tmp_path / "objects.sqlite")!r})
for number in range(200):
    store.put("configmaps", {{"metadata": {{"name": f"c{{number}}", "namespace": "default"}}}})
print(store.rv, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    store = Store(tmp_path / "objects.sqlite")
    assert (len(store.list("configmaps")), store.rv) == (200, int(done.stdout))


def test_a_database_that_cannot_be_written_is_said_and_changes_nothing(store: Store) -> None:
    store.put("configmaps", config_map("a"))
    store.db.execute("PRAGMA max_page_count=1")
    heard: list[WatchEvent] = []
    store.subscribe("configmaps", heard.append)
    with pytest.raises(ApiError, match="cannot be written") as full:
        store.put("configmaps", config_map("b", x="x" * 1_000_000))
    assert full.value.code == 503
    assert store.get("configmaps", "default", "b") is None and not heard
    store.db.execute("PRAGMA max_page_count=100000")
    store.put("configmaps", config_map("b"))
    assert [change.type for change in heard] == ["ADDED"]
