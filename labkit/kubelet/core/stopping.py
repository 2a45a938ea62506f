"""Stopping containers and whole Pods: preStop hook, SIGTERM, SIGKILL after the grace period, then the sandbox.

Knowledge: kubelet's kuberuntime_container.go (killContainer, killContainersWithSyncResult), kuberuntime_manager.go (killPod).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from labkit.cri import CriClient, CriError
from labkit.kubelet.containers import hooks
from labkit.kubelet.core.pod_state import PodState
from labkit.kubelet.node.events import EventRecorder
from labkit.kubelet.pod.pod_runtime import RUNNING, UNKNOWN, Container
from labkit.podspec import container_kind
from labkit.podspec.container_kinds import containers, sidecars

log = logging.getLogger("kubelet")

LEAST_S = 2
"""A minimal window to shut down, whatever is asked for (minimumGracePeriodInSeconds)."""
BEING_REMOVED = "already in removing state"
"""containerd's words for a container that another client is removing."""
REMOVED_WITHIN_S = 10.0


class Stopping:
    def __init__(self, cri: CriClient, recorder: EventRecorder) -> None:
        self.cri, self.recorder = cri, recorder

    def stop_containers(self, state: PodState, grace_s: int) -> None:
        """Stop all containers at once. A sidecar runs its hook at once, too, and is stopped when the regular containers and the
        sidecars after it have ended, or the grace period is over (terminationOrdering). Raises CriError."""
        spec = state.pod["spec"]
        specs = {c["name"]: c for c in containers(spec)}
        lasting = [c["name"] for c in sidecars(spec)]
        alive = [c for c in state.runtime.containers if c.state in (RUNNING, UNKNOWN)]
        ended = {c.id: threading.Event() for c in alive}

        def before(container: Container) -> list[threading.Event]:
            """The ends that a container waits for."""
            if container.name not in lasting:
                return []
            first = lasting[: lasting.index(container.name) + 1]
            return [ended[other.id] for other in alive if other.name not in first]

        def stop(container: Container) -> None:
            try:
                named = specs.get(container.name, {"name": container.name})
                self.stop_container(state, named, container, grace_s, after=before(container))
            finally:
                ended[container.id].set()

        if alive:
            with ThreadPoolExecutor(len(alive), "stop") as pool:
                stops = [pool.submit(stop, container) for container in alive]  # map would cancel the others where one fails
                for each in stops:
                    each.result()

    def stop_sandboxes(self, state: PodState) -> None:
        """Stop every sandbox of a Pod: its network is given back. Raises CriError."""
        for box in state.runtime.sandboxes:
            if box.ready or not state.ended:
                gone_is_fine(self.cri.stop_pod_sandbox, pod_sandbox_id=box.id)

    def stop_container(
        self,
        state: PodState,
        spec: Mapping[str, Any],
        container: Container,
        grace_s: int,
        message: str = "",
        after: Sequence[threading.Event] = (),
    ) -> None:
        """Make an event, run the preStop hook, wait for all of `after`, stop; all within `grace_s`. `message` is the Killing
        event's, by default that it is stopped. Raises CriError."""
        pod, ips = state.pod, state.runtime.ips
        path = f"spec.{container_kind(pod, container.name) or 'containers'}{{{container.name}}}"
        first = container.id not in state.progress.announced
        state.progress.announced.add(container.id)
        if first:
            self.recorder.pod_event(pod, "Normal", "Killing", message or f"Stopping container {container.name}", path)
        hook, began = (spec.get("lifecycle") or {}).get("preStop"), time.monotonic()
        if first and hook and container.state == RUNNING:
            try:
                warning = hooks.run_hook(self.cri, pod, spec, container.id, hook, ips[0] if ips else "127.0.0.1", grace_s)
                if warning:
                    self.recorder.pod_event(pod, "Warning", "LifecycleHTTPFallback", warning)
            except hooks.HookFailed as error:
                log.info("preStop: %s", error)
                self.recorder.pod_event(pod, "Warning", "FailedPreStopHook", "PreStopHook failed", path)
        for turn in after:
            turn.wait(max(grace_s - (time.monotonic() - began), 0))
        left = max(grace_s - int(time.monotonic() - began), LEAST_S)
        gone_is_fine(self.cri.stop_container, container_id=container.id, timeout=left)

    def shorten_grace(self, state: PodState, grace_s: int) -> None:
        """The Pod is being stopped and shall have less time: stop its containers anew, with that."""
        for container in state.runtime.running:
            gone_is_fine(self.cri.stop_container, container_id=container.id, timeout=max(grace_s, 1))

    def remove_container(self, container_id: str) -> None:
        gone_is_fine(self.cri.remove_container, container_id=container_id)

    def remove_sandbox(self, sandbox_id: str) -> None:
        """Remove a sandbox that has been stopped: each StopPodSandbox runs the network's plugins again. Raises CriError."""
        gone_is_fine(self.cri.remove_pod_sandbox, pod_sandbox_id=sandbox_id)


def gone_is_fine(call: Callable[..., object], **request: Any) -> None:
    """Make a call that stops or removes something that may be gone already; what somebody else is removing is waited for. Raises
    CriError."""
    end = time.monotonic() + REMOVED_WITHIN_S
    while True:
        try:
            call(**request)
            return
        except CriError as error:
            if error.gone:
                return
            if BEING_REMOVED not in error.message or time.monotonic() > end:
                raise
        time.sleep(0.1)
