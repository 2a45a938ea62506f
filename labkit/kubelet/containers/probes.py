"""Liveness, readiness and startup probes: when each runs, and what its results come to.

Knowledge: kubelet's prober/worker.go, prober.go and prober_manager.go.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from labkit.cri import CriClient
from labkit.kubelet.containers.hooks import HookError, HookFailed, grpc_check, http_get, run_command, tcp_open
from labkit.kubelet.pod.pod_runtime import RUNNING, PodRuntime, Probed
from labkit.podspec.container_kinds import is_sidecar

log = logging.getLogger("kubelet")

KINDS = {"liveness": "livenessProbe", "readiness": "readinessProbe", "startup": "startupProbe"}
AT_ONCE = 128
"""Threads that all Pods' probes share, made as needed. A probe whose answer does not come keeps its thread until its timeout."""
WAIT_FOR_CONTAINER_S = 0.25
RETRIES = 2


@dataclass
class Probe:
    """One probe of one container of a Pod, and how its results stand."""

    uid: str
    container: Mapping[str, Any]
    kind: str
    spec: Mapping[str, Any]
    field_path: str
    container_id: str = ""
    last: bool | None = None
    run: int = 0
    on_hold: bool = False
    removed: bool = False
    since: float = field(default_factory=time.monotonic)

    @property
    def period(self) -> float:
        return float(self.spec.get("periodSeconds", 10))

    def to_tick(self, now: float) -> float:
        """Seconds until its ticker's next tick: it ticks at its period from when the Pod came, whatever its container does."""
        return self.period - (now - self.since) % self.period

    def soon(self, now: float) -> float:
        """Seconds to wait for its container. The kubelet asks for readiness at once when a container runs (prober_manager.go,
        UpdatePodStatus); liveness and startup have to wait for the ticker (worker.go, run)."""
        return min(self.period, WAIT_FOR_CONTAINER_S) if self.kind == "readiness" else self.to_tick(now)

    def count(self, good: bool) -> bool | None:
        """The result once it has come often enough in a row, else None."""
        self.run = self.run + 1 if good is self.last else 1
        self.last = good
        needed = self.spec.get("successThreshold", 1) if good else self.spec.get("failureThreshold", 3)
        return good if self.run >= needed else None


@dataclass(frozen=True)
class Probing:
    """What the prober must know of a Pod at the moment."""

    pod: Mapping[str, Any]
    runtime: PodRuntime
    ip: str
    started: Mapping[str, bool] = field(default_factory=dict)


class Prober:
    """Runs every probe at its period on a few threads, once it is started. `tell(pod, type, reason, message, field_path)` makes
    an event."""

    def __init__(self, cri: CriClient, tell: Callable[[Mapping[str, Any], str, str, str, str], None]) -> None:
        self.cri, self.tell = cri, tell
        self.look: Callable[[str], Probing | None]
        self.changed: Callable[[str], None]
        self._probes: dict[str, list[Probe]] = {}
        self._results: dict[str, dict[str, bool]] = {kind: {} for kind in KINDS}
        self._due: list[tuple[float, int, Probe]] = []
        self._number = itertools.count()
        self._wake = threading.Condition()
        self._pool = ThreadPoolExecutor(AT_ONCE, "probe")

    def start(self, look: Callable[[str], Probing | None], changed: Callable[[str], None]) -> None:
        """Probe from now on. `look(uid)` returns what a Pod is like now (None: gone); `changed(uid)` is called when a result
        changes."""
        self.look, self.changed = look, changed
        threading.Thread(target=self._run, name="prober", daemon=True).start()

    def add(self, pod: Mapping[str, Any]) -> None:
        """Begin to probe a Pod's containers; a Pod that is known already is left as it is."""
        uid = pod["metadata"]["uid"]
        if uid in self._probes:
            return
        made = []
        sidecars = (c for c in pod["spec"].get("initContainers", ()) if is_sidecar(c))
        for part, containers in (("containers", pod["spec"]["containers"]), ("initContainers", sidecars)):
            for container in containers:
                path = f"spec.{part}{{{container['name']}}}"
                made += [Probe(uid, container, kind, container[key], path) for kind, key in KINDS.items() if key in container]
        self._probes[uid] = made
        for probe in made:
            self._at(0.0, probe)

    def remove(self, uid: str, *, only: tuple[str, ...] = tuple(KINDS)) -> None:
        """Stop a Pod's probes, or those of some kinds."""
        for probe in self._probes.get(uid, ()):
            if probe.kind in only:
                probe.removed = True
                self._results[probe.kind].pop(probe.container_id, None)
        if set(only) == set(KINDS):
            self._probes.pop(uid, None)

    def results(self, uid: str) -> Probed:
        """What a Pod's probes have found so far."""
        mine = {probe.container_id for probe in self._probes.get(uid, ())}
        return Probed(*({id: self._results[kind][id] for id in mine if id in self._results[kind]} for kind in KINDS))

    def _at(self, seconds: float, probe: Probe) -> None:
        with self._wake:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._number), probe))
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._due or self._due[0][0] > time.monotonic():
                    self._wake.wait(self._due[0][0] - time.monotonic() if self._due else None)
                probe = heapq.heappop(self._due)[2]
            self._pool.submit(self._turn, probe)

    def _turn(self, probe: Probe) -> None:
        began = time.monotonic()
        try:
            wait = self._probe(probe, began)
        except Exception:
            log.exception("a probe failed")
            wait = probe.period
        if not probe.removed and wait is not None:
            self._at(max(wait - (time.monotonic() - began), 0.0), probe)

    def _probe(self, probe: Probe, now: float) -> float | None:
        """Run the probe if it is time; seconds from `now` until it may be again, None for never."""
        pod = self.look(probe.uid)
        if pod is None or probe.removed:
            return None
        container = pod.runtime.newest(probe.container["name"])
        if container is None or (container.state != RUNNING and container.id != probe.container_id):
            return probe.soon(now)
        if container.id != probe.container_id:
            self._results[probe.kind].pop(probe.container_id, None)
            probe.container_id, probe.run, probe.last, probe.on_hold = container.id, 0, None, False
        if container.state != RUNNING or probe.on_hold:
            return probe.soon(now)
        delay = probe.spec.get("initialDelaySeconds", 0) - (time.time() - container.started / 1e9)
        if delay > 0:
            return delay if probe.kind == "readiness" else probe.to_tick(now)
        started = self._results["startup"].get(container.id) is True or "startupProbe" not in probe.container
        if started is (probe.kind == "startup"):  # a startup probe ends when the container has started; the others wait for that
            return probe.soon(now)
        good = self._ask(probe, pod, container.id)
        result = None if good is None else probe.count(good)
        if result is not None and not probe.removed:
            self._set(probe, result)
            if result is False and probe.kind != "readiness":
                probe.on_hold, probe.run = True, 0
        return probe.period if probe.kind == "readiness" else probe.to_tick(now)

    def _set(self, probe: Probe, result: bool) -> None:
        known = self._results[probe.kind]
        if known.get(probe.container_id) is not result:
            known[probe.container_id] = result
            self.changed(probe.uid)

    def _ask(self, probe: Probe, pod: Probing, container_id: str) -> bool | None:
        """What the probe found; None where it could not be made, which counts neither way."""
        kind = probe.kind.capitalize()
        try:
            if warning := self._tried(probe, pod, container_id):
                self.tell(pod.pod, "Warning", "ProbeWarning", f"{kind} probe warning: {warning}", probe.field_path)
            return True
        except HookFailed as error:
            self.tell(pod.pod, "Warning", "Unhealthy", f"{kind} probe failed: {error}", probe.field_path)
        except HookError as error:
            words = f"{kind} probe errored and resulted in unknown state: {error}"
            self.tell(pod.pod, "Warning", "Unhealthy", words, probe.field_path)
            return None
        except Exception as error:  # whatever a manifest can make a client fail with, e.g. a host that is no name
            log.exception("a probe of %s could not be made", probe.container["name"])
            words = f"{kind} probe errored and resulted in unknown state: {error}"
            self.tell(pod.pod, "Warning", "Unhealthy", words, probe.field_path)
            return None
        return False

    def _tried(self, probe: Probe, pod: Probing, container_id: str) -> str:
        """As `_handler`. What could not be made at all is tried again at once (runProbeWithRetries)."""
        for _ in range(RETRIES):
            with contextlib.suppress(HookError):
                return self._handler(probe, pod, container_id)
        return self._handler(probe, pod, container_id)

    def _handler(self, probe: Probe, pod: Probing, container_id: str) -> str:
        """Run the probe; the words of a warning, "" for none."""
        spec, timeout = probe.spec, probe.spec.get("timeoutSeconds", 1)
        if "exec" in spec:
            run_command(self.cri, container_id, spec["exec"].get("command", []), timeout)
        elif "httpGet" in spec:
            return http_get(spec["httpGet"], probe.container, pod.ip, timeout, "kube-probe/labkit")
        elif "tcpSocket" in spec:
            tcp_open(spec["tcpSocket"], probe.container, pod.ip, timeout)
        elif "grpc" in spec:
            grpc_check(spec["grpc"], pod.ip, timeout)
        return ""
