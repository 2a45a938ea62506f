"""Events that the control plane writes: the scheduler's, the claim binder's, the node controller's.

Two shapes are in use in Kubernetes: kube-scheduler writes those of events.k8s.io (eventTime, reportingComponent, series), the
controllers the older ones (source, count, first and last timestamp).
"""

from __future__ import annotations

import datetime
import time
import uuid
from collections.abc import Mapping
from typing import Any

from labkit.apiserver.objects.strategy import timestamp
from labkit.apiserver.storage.store import Store

Manifest = Mapping[str, Any]
KEEP_NAMES = 1000
"""Names of events remembered for counting; older ones start anew."""


class StoreEventRecorder:
    """Writes events about objects into the store; one that is repeated is counted, not written twice."""

    def __init__(self, store: Store, component: str) -> None:
        self.store, self.component = store, component
        self.names: dict[tuple[str, str, str], str] = {}

    def event(self, about: Manifest, kind: str, type_: str, reason: str, message: str, action: str = "") -> None:
        """`about` is the object of kind `kind` (what has no namespace has its events in `default`); `action` makes it an event of
        the newer shape."""
        meta = about["metadata"]
        namespace, key = meta.get("namespace") or "default", (meta.get("uid", ""), reason, message)
        known = self.store.get("events", namespace, self.names.get(key, ""))
        if known:
            self.store.put("events", counted(known.obj))
            return
        name = f"{meta['name']}.{time.time_ns():x}"
        if len(self.names) >= KEEP_NAMES:
            self.names.pop(next(iter(self.names)))
        self.names[key] = name
        api_version = about.get("apiVersion", "v1")
        involved = {"kind": kind, "namespace": meta.get("namespace"), "name": meta["name"], "uid": meta.get("uid")}
        involved |= {"apiVersion": api_version, "resourceVersion": meta.get("resourceVersion")}
        self.store.put("events", {
            "metadata": {"name": name, "namespace": namespace, "uid": str(uuid.uuid4()), "creationTimestamp": timestamp()},
            "involvedObject": {k: v for k, v in involved.items() if v},
            "reason": reason, "message": message, "type": type_, **self.times(action),
        })

    def times(self, action: str) -> dict[str, Any]:
        if action:
            return {"action": action, "eventTime": micros(), "firstTimestamp": None, "lastTimestamp": None, "source": {},
                    "reportingComponent": self.component, "reportingInstance": f"{self.component}-labkit"}
        now = timestamp()
        source = {"source": {"component": self.component}, "reportingComponent": self.component, "reportingInstance": ""}
        return {"count": 1, "eventTime": None, "firstTimestamp": now, "lastTimestamp": now, **source}


def counted(event: Manifest) -> dict[str, Any]:
    """The same event once more."""
    again = {**event, "metadata": dict(event["metadata"])}
    if event.get("eventTime"):
        series = event.get("series") or {"count": 1}
        return again | {"series": {"count": series["count"] + 1, "lastObservedTime": micros()}}
    return again | {"count": event.get("count", 1) + 1, "lastTimestamp": timestamp()}


def micros() -> str:
    """Now, as metav1.MicroTime is written."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def with_condition(obj: Manifest, kind: str, state: str, reason: str = "", message: str = "", **more: Any) -> dict[str, Any]:
    """A copy of an object whose status has this condition; its lastTransitionTime stays while its status does."""
    status = dict(obj.get("status") or {})
    conditions = list(status.get("conditions") or [])
    old = next((c for c in conditions if c.get("type") == kind), None)
    new = {"type": kind, "status": state, **more, "reason": reason, "message": message}
    since = old.get("lastTransitionTime") if old and old.get("status") == state else None
    new["lastTransitionTime"] = since or timestamp()
    new = {k: v for k, v in new.items() if v != ""}
    status["conditions"] = [new if c is old else c for c in conditions] if old else [*conditions, new]
    return {**obj, "metadata": dict(obj["metadata"]), "status": status}
