"""Namespaces are emptied and get their service account; events are forgotten."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from labkit.apiserver import registry
from labkit.apiserver.controllers.controller import Controller
from labkit.apiserver.storage.store import Change

EVENTS_LIVE = timedelta(hours=1)
"""kube-apiserver's --event-ttl."""
EXPIRE_EVERY_S = 60.0


class NamespaceController(Controller):
    """Every namespace gets its service account; one that is being deleted is emptied, then removed."""

    resources = tuple(resource.plural for resource in registry.RESOURCES)

    def matters(self, change: Change) -> bool:
        return change.type == "DELETED" or change.resource == "namespaces"

    def reconcile(self, now: float) -> float:
        self.api.finish_namespaces()
        for _, entry in self.store.list("namespaces"):
            self.api.make_account(entry.obj)
        return math.inf


class EventExpiry(Controller):
    """Events are forgotten an hour after they last happened."""

    def reconcile(self, now: float) -> float:
        oldest = (datetime.now(UTC) - EVENTS_LIVE).strftime("%Y-%m-%dT%H:%M:%S")
        for (namespace, name), entry in self.store.list("events"):
            event = entry.obj
            last = (event.get("series") or {}).get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
            if str(last or event["metadata"]["creationTimestamp"]) < oldest:
                self.store.remove("events", namespace, name)
        return EXPIRE_EVERY_S
