"""Objects kept in SQLite, read from memory, and the news of their changes.

Nothing that was acknowledged is lost when this process is killed: a commit has reached the kernel's page cache through the
write-ahead log before `put` or `remove` returns, and only the machine's own crash could lose that (which is why
synchronous=NORMAL is enough: SQLite, "Write-Ahead Logging", section 9). A transaction takes some tens of microseconds, so
it runs in the event loop, and a change is told to watchers only once it is safe.
"""

from __future__ import annotations

import bisect
import json
import sqlite3
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.apiserver import api_errors

Object = dict[str, Any]
Key = tuple[str, str]

HISTORY = 2000
"""Changes remembered for each resource; a watch from before them has to list anew."""


class StoredObject:
    """One version of an object: as JSON without kind and apiVersion (as lists hold it), and as the object itself."""

    __slots__ = ("_obj", "raw", "rv")

    def __init__(self, rv: int, raw: bytes, obj: Object | None = None) -> None:
        self.rv, self.raw, self._obj = rv, raw, obj

    @property
    def obj(self) -> Object:
        """The object without kind and apiVersion. Shared: never change it."""
        if self._obj is None:
            self._obj = json.loads(self.raw)
        return self._obj

    def forget(self) -> None:
        """Keep the text alone: an old version is seldom looked at again."""
        self._obj = None


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """What happened to an object: ADDED, MODIFIED or DELETED, what it is now (or was last), and what it was before."""

    type: str
    resource: str
    key: tuple[str, str]
    entry: StoredObject
    before: StoredObject | None


class Store:
    """Every object of every resource, by namespace ("" for those without) and name."""

    def __init__(self, path: Path | str) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=NORMAL")
        self.db.execute(
            "CREATE TABLE IF NOT EXISTS objects (resource TEXT, namespace TEXT, name TEXT, rv INTEGER, body BLOB,"
            " PRIMARY KEY (resource, namespace, name))"
        )
        self.db.execute("CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY CHECK (id = 1), rv INTEGER)")
        self.objects: dict[str, dict[tuple[str, str], StoredObject]] = {}
        for resource, namespace, name, rv, body in self.db.execute("SELECT * FROM objects"):
            self.objects.setdefault(resource, {})[namespace, name] = StoredObject(rv, body)
        every = "SELECT rv FROM objects UNION ALL SELECT rv FROM counter"
        self.rv: int = self.db.execute(f"SELECT coalesce(max(rv), 1) FROM ({every})").fetchone()[0]
        self.keys = {resource: sorted(entries) for resource, entries in self.objects.items()}
        self.history: dict[str, deque[WatchEvent]] = {}
        self.forgotten: dict[str, int] = {}
        self.first = self.rv
        self.snapshots: OrderedDict[tuple[str, str, int], tuple[float, list[tuple[Key, StoredObject]]]] = OrderedDict()
        """What `listing.Pages` remembers: by resource, namespace and resourceVersion, when, and the objects."""
        self.listeners: dict[str, list[Callable[[WatchEvent], None]]] = {}

    def close(self) -> None:
        self.db.close()

    def get(self, resource: str, namespace: str, name: str) -> StoredObject | None:
        return self.objects.get(resource, {}).get((namespace, name))

    def list(self, resource: str, namespace: str = "") -> list[tuple[Key, StoredObject]]:
        """Keys and entries in order, of one namespace or ("") of all."""
        entries, keys = self.objects.get(resource, {}), self.keys.get(resource, [])
        start = bisect.bisect_left(keys, (namespace, "")) if namespace else 0
        found = []
        for key in keys[start:]:
            if namespace and key[0] != namespace:
                break
            found.append((key, entries[key]))
        return found

    def put(self, resource: str, obj: Object) -> StoredObject:
        """Keep a new object or a new version; sets its resourceVersion. The object belongs to the store from now on.

        Raises ApiError (503) when it cannot be kept.
        """
        meta = obj["metadata"]
        key = (meta.get("namespace") or "", meta["name"])
        rv = self.rv + 1
        meta["resourceVersion"] = str(rv)
        obj.pop("apiVersion", None)
        obj.pop("kind", None)
        entry = StoredObject(rv, encode(obj), obj)
        self._commit(("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", (resource, *key, rv, entry.raw)))
        before = self.objects.setdefault(resource, {}).get(key)
        self.objects[resource][key] = entry
        if before is None:
            bisect.insort(self.keys.setdefault(resource, []), key)
        self._tell(WatchEvent("MODIFIED" if before else "ADDED", resource, key, entry, before))
        return entry

    def remove(self, resource: str, namespace: str, name: str) -> StoredObject:
        """Take an object away; the answer is its last version, under the resourceVersion of its removal."""
        key = (namespace, name)
        before = self.objects[resource][key]
        rv = self.rv + 1
        obj = {**before.obj, "metadata": {**before.obj["metadata"], "resourceVersion": str(rv)}}
        entry = StoredObject(rv, encode(obj), obj)
        self._commit(
            ("DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?", (resource, *key)),
            ("INSERT OR REPLACE INTO counter VALUES (1, ?)", (rv,)),
        )
        del self.objects[resource][key]
        keys = self.keys[resource]
        del keys[bisect.bisect_left(keys, key)]
        self._tell(WatchEvent("DELETED", resource, key, entry, before))
        return entry

    def subscribe(self, resource: str, listener: Callable[[WatchEvent], None]) -> Callable[[], None]:
        """Call `listener` with each change from now on, in order, at once; the answer ends that. It must not raise."""
        listeners = self.listeners.setdefault(resource, [])
        listeners.append(listener)
        return lambda: listeners.remove(listener) if listener in listeners else None

    def since(self, resource: str, rv: int) -> tuple[WatchEvent, ...]:
        """The changes after `rv`. Raises ApiError: 410 when some of them are forgotten, 504 when it has not come yet."""
        if rv > self.rv:
            raise api_errors.from_the_future(rv, self.rv)
        oldest = self.forgotten.get(resource, self.first)
        if rv < oldest:
            raise api_errors.too_old(rv, oldest)
        return tuple(change for change in self.history.get(resource, ()) if change.entry.rv > rv)

    def _commit(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        try:
            self.db.execute("BEGIN IMMEDIATE")
            for statement, values in statements:
                self.db.execute(statement, values)
            self.db.execute("COMMIT")
        except sqlite3.Error as error:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise api_errors.unavailable(f"The API's database cannot be written ({error}). Free space on its disk.") from error
        self.rv += 1

    def _tell(self, change: WatchEvent) -> None:
        history = self.history.setdefault(change.resource, deque())
        if len(history) == HISTORY:
            self.forgotten[change.resource] = history.popleft().entry.rv
        history.append(change)
        for listener in tuple(self.listeners.get(change.resource, ())):
            listener(change)
        if change.before:
            change.before.forget()
        if change.type == "DELETED":
            change.entry.forget()


def encode(obj: Object) -> bytes:
    """JSON as short as it gets."""
    return json.dumps(obj, separators=(",", ":"), ensure_ascii=False).encode()
