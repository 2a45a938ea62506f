"""PLEG, the Pod lifecycle event generator: finds out which Pods changed in the runtime, by listing everything anew.

Each second where the runtime sends no events; where it serves GetContainerEvents, these come first and lists are rare, as
they are where there is nothing to list. Knowledge: kubelet's pleg/generic.go and pleg/evented.go.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass, field
from typing import Any

from labkit.cri import CriClient, CriError
from labkit.cri.v1 import api_pb2 as pb
from labkit.kubelet.core.runtime import STATES
from labkit.kubelet.go_format import go_duration
from labkit.kubelet.pod.pod_runtime import UNKNOWN
from labkit.podspec.messages.configs import POD_UID

log = logging.getLogger("kubelet")

RELIST_S = 1.0
RELIST_WITH_EVENTS_S = 10.0
RELIST_OF_NOTHING_S = 5.0
"""Where neither the kubelet nor the runtime has a Pod. The real one lists each second there, too: in an emulated machine
that alone is a twentieth of a processor."""
UNHEALTHY_S = 180.0


@dataclass(frozen=True)
class RuntimeList:
    """What one list of everything shows: uid → items of ListPodSandbox, of ListContainers. `began` and `at`: before and after
    the runtime was asked, as time.monotonic()."""

    sandboxes: Mapping[str, list[Any]] = field(default_factory=dict)
    containers: Mapping[str, list[Any]] = field(default_factory=dict)
    at: float = 0.0
    began: float = 0.0

    def states(self, uid: str) -> dict[str, object]:
        """Id → state of everything of a Pod, as `PodRuntime.states` has it."""
        boxes = {box.id: box.state == pb.SANDBOX_READY for box in self.sandboxes.get(uid, ())}
        return {**boxes, **{item.id: STATES.get(item.state, UNKNOWN) for item in self.containers.get(uid, ())}}

    @property
    def uids(self) -> set[str]:
        return {*self.sandboxes, *self.containers}


class Pleg:
    """Relists for ever on a thread of its own; `listed` is the newest list."""

    def __init__(self, cri: CriClient) -> None:
        self.cri = cri
        self.listed = RuntimeList()
        self.events = False
        self._started = time.monotonic()
        self._answers = True

    def start(self, pods: Sized, changed: Callable[[str], None], stopped: Callable[[str], None]) -> None:
        """Relist from now on, rarely while the kubelet has no `pods`. `changed(uid)` is called for each Pod that changed since
        the list before, `stopped(uid)` for an event of the runtime, at once."""
        threading.Thread(target=self._relist_for_ever, args=(pods, changed), name="pleg", daemon=True).start()
        threading.Thread(target=self._watch_for_ever, args=(stopped,), name="pleg-events", daemon=True).start()

    def errors(self) -> str:
        """The words for a node whose runtime has not been listed for three minutes, else ""."""
        ago = time.monotonic() - (self.listed.at or self._started)
        if ago < UNHEALTHY_S:
            return ""
        threshold = go_duration(UNHEALTHY_S)
        return f"PLEG is not healthy: pleg was last seen active {go_duration(ago)} ago; threshold is {threshold}"

    def relist(self) -> list[str]:
        """List everything and keep the list. Returns the uids of the Pods that changed. Raises CriError."""
        sandboxes: dict[str, list[Any]] = {}
        containers: dict[str, list[Any]] = {}
        began = time.monotonic()
        for box in self.cri.list_pod_sandbox().items:
            sandboxes.setdefault(box.metadata.uid, []).append(box)
        for container in self.cri.list_containers().containers:
            containers.setdefault(container.labels.get(POD_UID, ""), []).append(container)
        before, self.listed = self.listed, RuntimeList(sandboxes, containers, time.monotonic(), began)
        return [uid for uid in before.uids | self.listed.uids if before.states(uid) != self.listed.states(uid)]

    def period_s(self, pods: Sized) -> float:
        """From one list to the next."""
        if self.events:
            return RELIST_WITH_EVENTS_S
        return RELIST_S if self.listed.uids or pods else RELIST_OF_NOTHING_S

    def _relist_for_ever(self, pods: Sized, changed: Callable[[str], None]) -> None:
        while True:
            time.sleep(RELIST_S)
            if time.monotonic() - self.listed.at < self.period_s(pods) - RELIST_S / 2:
                continue
            try:
                for uid in self.relist():
                    changed(uid)
                if not self._answers:
                    log.info("the runtime answers again")
                self._answers = True
            except CriError as error:
                if self._answers:
                    log.warning("the runtime cannot be listed: %s", error)
                self._answers = False
            except Exception:
                log.exception("a list of the runtime could not be worked on; the next one follows")

    def _watch_for_ever(self, stopped: Callable[[str], None]) -> None:
        """Pass the runtime's events on; end where it has none."""
        while True:
            try:
                with self.cri.get_container_events() as stream:
                    for event in stream:
                        self.events = True
                        if event.container_event_type == pb.CONTAINER_STOPPED_EVENT:
                            stopped(event.pod_sandbox_status.metadata.uid)
            except CriError as error:
                if error.code == "UNIMPLEMENTED":
                    return
            except Exception:
                log.exception("an event of the runtime could not be worked on")
            self.events = False
            time.sleep(RELIST_S)
