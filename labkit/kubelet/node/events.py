"""Events about Pods and nodes, written to the API by a thread of their own, so that a slow API delays nothing.

Repeated events are counted, similar ones combined, floods cut off. Knowledge: client-go's tools/record/events_cache.go.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.kubelet.api import ApiClient, ApiClientError
from labkit.kubelet.go_format import rfc3339

log = logging.getLogger("kubelet")

SIMILAR_MOST, SIMILAR_SECONDS = 10, 600.0
BURST, REFILL_SECONDS = 25, 300.0
REMEMBERED = 4096
WAITING_MOST = 2000
COMBINED = "(combined from similar events): "


@dataclass(frozen=True)
class ObjectEvent:
    """What happened to an object. `object` is the event's involvedObject."""

    object: Mapping[str, str]
    type: str
    reason: str
    message: str
    time: float


@dataclass(frozen=True)
class Write:
    """What is to be written to the API: a new Event (`name` is ""), or one more of the Event `name`."""

    event: ObjectEvent
    message: str
    count: int
    first: float
    key: tuple[str, ...]
    name: str = ""


@dataclass
class SeenEvent:
    name: str = ""
    count: int = 0
    first: float = 0.0


@dataclass
class Similar:
    messages: set[str] = field(default_factory=set)
    last: float = 0.0


class Correlator:
    """Decides what becomes of an event: written anew, counted on an earlier one, combined with similar ones, or dropped.

    Pure: knows no API and takes its time from the events.
    """

    def __init__(self) -> None:
        self.seen: OrderedDict[tuple[str, ...], SeenEvent] = OrderedDict()
        self.similar: OrderedDict[tuple[str, ...], Similar] = OrderedDict()
        self.buckets: OrderedDict[tuple[str, ...], tuple[float, float]] = OrderedDict()

    def correlate(self, event: ObjectEvent) -> Write | None:
        """What to write, or None for one event too many."""
        about = tuple(event.object.get(key, "") for key in ("kind", "namespace", "name", "uid", "apiVersion", "fieldPath"))
        group = (*about, event.type, event.reason)
        message, key = self._combine(event, group)
        seen = remember(self.seen, key, SeenEvent)
        if not self._allowed((*about[:5], event.reason), event.time):
            return None
        seen.count += 1
        seen.first = seen.first or event.time
        return Write(event, message, seen.count, seen.first, key, seen.name)

    def written(self, write: Write, name: str) -> None:
        """The API holds this event under `name` now; "" where it holds it no more."""
        seen = remember(self.seen, write.key, SeenEvent)
        seen.name = name
        if not name:
            seen.count, seen.first = 1, write.event.time

    def _combine(self, event: ObjectEvent, group: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        similar = remember(self.similar, group, Similar)
        if event.time - similar.last > SIMILAR_SECONDS:
            similar.messages.clear()
        similar.last = event.time
        similar.messages.add(event.message)
        if len(similar.messages) <= SIMILAR_MOST:
            return event.message, (*group, event.message)
        similar.messages.pop()
        return COMBINED + event.message, group

    def _allowed(self, key: tuple[str, ...], now: float) -> bool:
        """A bucket of 25 for each object and reason, filled up again by one in five minutes."""
        tokens, last = remember(self.buckets, key, lambda: (float(BURST), now))
        tokens = min(tokens + (now - last) / REFILL_SECONDS, BURST)
        self.buckets[key] = (tokens - 1 if tokens >= 1 else tokens, now)
        return tokens >= 1


class EventRecorder:
    """Takes events from any thread and writes them one after the other. `component` and `host` say from where."""

    def __init__(self, api: ApiClient, component: str, host: str) -> None:
        self.api, self.component, self.host = api, component, host
        self._correlator = Correlator()
        self._queue: queue.Queue[ObjectEvent] = queue.Queue(WAITING_MOST)
        threading.Thread(target=self._run, name="events", daemon=True).start()

    def pod_event(self, pod: Mapping[str, Any], type: str, reason: str, message: str, field_path: str = "") -> None:
        """An event about a Pod; `field_path` names its container, e.g. "spec.containers{app}"."""
        metadata = pod["metadata"]
        self.event(
            {
                "kind": "Pod",
                "apiVersion": "v1",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
                **({"resourceVersion": metadata["resourceVersion"]} if "resourceVersion" in metadata else {}),
                **({"fieldPath": field_path} if field_path else {}),
            },
            type,
            reason,
            message,
        )

    def event(self, object: Mapping[str, str], type: str, reason: str, message: str) -> None:
        """An event about any object, given as involvedObject. Never blocks: when too many wait, it is only logged."""
        log.info("event %s %s/%s: %s", reason, object.get("namespace", ""), object.get("name", ""), message)
        try:
            self._queue.put_nowait(ObjectEvent(object, type, reason, message[:1024], time.time()))
        except queue.Full:
            log.warning("too many events wait for the API: the last one is dropped")

    def flush(self, timeout_s: float) -> None:
        """Wait, seconds at most, until every event was written."""
        end = time.monotonic() + timeout_s
        while self._queue.unfinished_tasks and time.monotonic() < end:
            time.sleep(0.02)

    def _run(self) -> None:
        while True:
            event = self._queue.get()
            try:
                write = self._correlator.correlate(event)
                while write is not None and not self._write(write):
                    time.sleep(1.0)
            except Exception:
                log.exception("an event could not be written")
            finally:
                self._queue.task_done()

    def _write(self, write: Write) -> bool:
        """True when the API has taken or refused it; False when it could not be reached."""
        namespace = write.event.object.get("namespace") or "default"
        path = f"/api/v1/namespaces/{namespace}/events"
        try:
            if write.name:
                try:
                    count = {"count": write.count, "lastTimestamp": rfc3339(write.event.time), "message": write.message}
                    self.api.patch(f"{path}/{write.name}", count)
                    return True
                except ApiClientError as error:
                    if error.code != 404:
                        raise
                    self._correlator.written(write, "")
                    write = Write(write.event, write.message, 1, write.event.time, write.key)
            name = f"{write.event.object['name']}.{time.time_ns():x}"
            self.api.post(path, self._body(write, name, namespace))
            self._correlator.written(write, name)
        except ApiClientError as error:
            if not error.code:
                return False
            log.warning("the API refused an event: %s", error)
        return True

    def _body(self, write: Write, name: str, namespace: str) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": dict(write.event.object),
            "reason": write.event.reason,
            "message": write.message,
            "source": {"component": self.component, "host": self.host},
            "firstTimestamp": rfc3339(write.first),
            "lastTimestamp": rfc3339(write.event.time),
            "count": write.count,
            "type": write.event.type,
            "reportingComponent": self.component,
            "reportingInstance": self.host,
        }


def remember(memory: OrderedDict[Any, Any], key: Any, make: Callable[[], Any]) -> Any:
    """The value of `key`, made where it is new; the oldest of too many are forgotten."""
    if key not in memory:
        memory[key] = make()
    memory.move_to_end(key)
    while len(memory) > REMEMBERED:
        memory.popitem(last=False)
    return memory[key]
