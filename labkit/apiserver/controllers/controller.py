"""The loop that every controller of the control plane has: look at the objects, wait for a change that matters, look again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Mapping
from typing import Any

from labkit.apiserver.api_errors import ApiError
from labkit.apiserver.api_resources import ApiResource
from labkit.apiserver.controllers.event_recorder import StoreEventRecorder
from labkit.apiserver.objects import patch
from labkit.apiserver.objects.rest import Api
from labkit.apiserver.objects.write_options import Options
from labkit.apiserver.storage.store import WatchEvent

log = logging.getLogger("kubeapi")
RETRY_S = 1.0
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 1.0, 60.0


class Controller:
    """A subclass names the resources whose changes wake it (`matters` chooses among the changes) and reconciles all objects."""

    component = ""
    resources: tuple[str, ...] = ()

    def __init__(self, api: Api) -> None:
        self.api, self.store = api, api.store
        self.recorder = StoreEventRecorder(api.store, self.component)
        self.changed = asyncio.Event()

    def matters(self, change: WatchEvent) -> bool:
        """Whether a change can alter what `reconcile` does."""
        return True

    def reconcile(self, now: float) -> float:
        """Bring the objects to where they should be. Returns the seconds after which it has to be called again even if nothing
        changes; math.inf for never. `now`: seconds of a clock that never goes back. May raise ApiError."""
        raise NotImplementedError

    def options(self) -> Options:
        """How a controller writes: new each time, since what there is to say to a client is gathered in it."""
        return Options(manager="kube-controller-manager")

    def change_metadata(self, resource: ApiResource, obj: Mapping[str, Any], change: Mapping[str, Any]) -> None:
        """Change the metadata of this object, and of no later one of its name. Raises ApiError."""
        meta = obj["metadata"]
        new = {"metadata": {"uid": meta["uid"], **change}}
        self.api.patch(resource, meta.get("namespace") or "", meta["name"], new, patch.MERGE, self.options())

    def without_finalizer(self, resource: ApiResource, obj: Mapping[str, Any], name: str) -> None:
        """Take a finalizer away from an object. Raises ApiError."""
        self.change_metadata(resource, obj, {"finalizers": [each for each in obj["metadata"]["finalizers"] if each != name]})

    async def run(self) -> None:
        """Reconcile for ever. A write that failed (the disk may be full) is tried again after a second, any other failure later
        each time; `labkit status` reports those."""
        ends = [self.store.subscribe(resource, self._hear) for resource in self.resources]
        backoff = FIRST_BACKOFF_S
        try:
            while True:
                self.changed.clear()
                try:
                    wait = self.reconcile(time.monotonic())
                    backoff = FIRST_BACKOFF_S
                except ApiError as error:
                    log.warning("%s could not write: %s", type(self).__name__, error)
                    wait = RETRY_S
                except Exception:
                    log.exception("%s failed; it starts again in %d s", type(self).__name__, backoff)
                    await asyncio.sleep(backoff)
                    backoff = min(backoff * 2, LONGEST_BACKOFF_S)
                    continue
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.changed.wait(), None if math.isinf(wait) else wait)
        finally:
            for end in ends:
                end()

    def _hear(self, change: WatchEvent) -> None:
        if self.matters(change):
            self.changed.set()
