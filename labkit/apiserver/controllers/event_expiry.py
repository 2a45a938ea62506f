"""Events are forgotten an hour after they last happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from labkit.apiserver.controllers.controller import Controller

EVENTS_LIVE = timedelta(hours=1)
"""kube-apiserver's --event-ttl."""
EXPIRE_EVERY_S = 60.0


class EventExpiry(Controller):
    """Removes those whose time is over, once a minute."""

    def reconcile(self, now: float) -> float:
        oldest = (datetime.now(UTC) - EVENTS_LIVE).strftime("%Y-%m-%dT%H:%M:%S")
        for (namespace, name), entry in self.store.list("events"):
            event = entry.obj
            last = (event.get("series") or {}).get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
            if str(last or event["metadata"]["creationTimestamp"]) < oldest:
                self.store.remove("events", namespace, name)
        return EXPIRE_EVERY_S
