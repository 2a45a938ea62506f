"""Cleans up on a thread of its own: every two seconds what the API no longer has, more rarely the rest.

Knowledge: kubelet.go (housekeepingCh, StartGarbageCollection), kubelet_pods.go (HandlePodCleanups).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

from labkit.cri import CriError
from labkit.kubelet.cleanup.eviction import REASON, Eviction, evict
from labkit.kubelet.cleanup.housekeeping import Housekeeping
from labkit.kubelet.core.kubelet import Kubelet
from labkit.kubelet.node.events import EventRecorder

log = logging.getLogger("kubelet")

HOUSEKEEPING_S = 2.0
COLLECT_S, ROTATE_S = 30.0, 10.0


class CleanupLoop:
    def __init__(self, kubelet: Kubelet, housekeeping: Housekeeping, eviction: Eviction, recorder: EventRecorder) -> None:
        self.kubelet, self.housekeeping, self.eviction, self.recorder = kubelet, housekeeping, eviction, recorder
        self._collected = self._rotated = 0.0

    def start(self) -> None:
        threading.Thread(target=self._run, name="cleanup", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(HOUSEKEEPING_S)
            self.clean_up()

    def clean_up(self) -> None:
        """Do what is to be done now. Never raises."""
        try:
            for chore in self._chores(time.monotonic()):
                self._do(chore)
        except Exception:
            log.exception("what there is to clean up could not be found out")

    def _chores(self, now: float) -> Iterator[Callable[[], object]]:
        """One call each, so that one that fails does not stop the others."""
        keep, pods, listed = self.housekeeping, self.kubelet.pods, self.kubelet.pleg.listed
        if not listed.at:  # the runtime has not been listed yet
            return
        if self.kubelet.sources_ready.is_set():
            # A list shows what there was when it began: Pods that have finished since are no orphans.
            for uid in keep.orphans(listed, self.kubelet.known_since(listed.began)):
                yield partial(keep.remove_orphan, listed, uid)
            for uid in keep.stale_traces(self._owned):
                yield partial(keep.remove_traces, uid)
        if now - self._collected > COLLECT_S:
            self._collected = now
            idle = {uid for uid in list(pods) if not self.kubelet.queue.busy(uid)}
            yield partial(keep.collect, listed, idle.__contains__)
            yield partial(keep.forget_marks, listed, set(pods))
        if now - self._rotated > ROTATE_S:
            self._rotated = now
            yield partial(keep.rotate_logs, listed)
            yield self._evict

    def _owned(self) -> set[str]:
        """The Pods that the API or the runtime has."""
        return {*self.kubelet.pleg.listed.uids, *self.kubelet.pods}

    def _evict(self) -> None:
        for state, why in evict(list(self.kubelet.pods.values()), self.eviction):
            self.recorder.pod_event(state.pod, "Warning", REASON, why)
            self.kubelet.queue.add(state.uid)

    def _do(self, chore: Callable[[], object]) -> None:
        try:
            chore()
        except (CriError, OSError) as error:
            log.warning("cleaning up: %s", error)
        except Exception as error:
            log.exception("cleaning up failed")
            about = {"kind": "Node", "name": self.kubelet.name, "uid": self.kubelet.name}
            self.recorder.event(about, "Warning", "ContainerGCFailed", f"{type(error).__name__}: {error}")
