"""One container started: back-off, image, CreateContainer, StartContainer, postStart hook, with the kubelet's events.

Knowledge: kuberuntime_manager.go (doBackOff), kuberuntime_container.go (startContainer).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from labkit.cri import CriClient, CriError
from labkit.kubelet.backoff import Backoff
from labkit.kubelet.containers import hooks
from labkit.kubelet.containers.configuration import Configuration
from labkit.kubelet.containers.images import ImageManager, StartError
from labkit.kubelet.containers.pull_secrets import Login
from labkit.kubelet.core.pod_state import PodState
from labkit.kubelet.core.runtime import Runtime
from labkit.kubelet.core.stopping import Stopping
from labkit.kubelet.go_format import go_duration, pod_words
from labkit.kubelet.node.events import EventRecorder
from labkit.kubelet.pod.pod_runtime import CREATED, EXITED
from labkit.kubelet.pod.statuses import has_run
from labkit.podspec import container_kind
from labkit.podspec.messages import CreateContainerConfigError
from labkit.podspec.messages.configs import container_hash

SOON_S = 1.0
RETRY_S = 10.0
RESERVED = "is reserved"
"""What the runtime says of a name that an earlier call, still under way, has taken."""
Tell = Callable[[str, str, str], None]
"""Makes an event about the container: type, reason, message."""


class RequeueAfter(Exception):
    """The Pod cannot go on now; sync it again after `seconds`. `tried`: containers were started, or their turn came."""

    def __init__(self, seconds: float, *, tried: bool = False) -> None:
        self.seconds, self.tried = seconds, tried
        super().__init__(seconds)


@dataclass(frozen=True)
class PodSandbox:
    """Where containers are started: the Pod's sandbox, its PodSandboxConfig, the Pod's addresses."""

    id: str
    config: Any
    ips: Sequence[str]


@dataclass(frozen=True)
class Starting:
    """Starts containers. `crashes` holds their back-offs, `room` the places for Pods that start (taken by the caller)."""

    cri: CriClient
    runtime: Runtime
    recorder: EventRecorder
    images: ImageManager
    configuration: Configuration
    crashes: Backoff
    stopping: Stopping
    host_ip: str
    room: threading.Semaphore

    def start(
        self, state: PodState, container: Mapping[str, Any], sandbox: PodSandbox, logins: Sequence[Login], grace_s: int
    ) -> None:
        """Image, CreateContainer, StartContainer, postStart hook, with their events. Raises StartError."""
        pod, name = state.pod, container["name"]
        tell = partial(self.recorder.pod_event, pod, field_path=field_path(pod, name))
        self.back_off(state, container, tell)
        before = state.runtime.newest(name)
        attempt = before.attempt + 1 if before else int(old_restarts(state, name))
        if before is not None and before.state == CREATED:
            attempt = before.attempt  # an earlier kubelet died between creating and starting it: make the same one anew
            self.cri.remove_container(container_id=before.id)
        try:
            of_pod = partial(self.recorder.pod_event, pod)
            self.images.ensure_volumes(pod, container, sandbox.config, logins, of_pod, self.others_turn)
            image = self.images.ensure(state.uid, container, sandbox.config, logins, tell, self.others_turn)
        except StartError as error:
            tell("Warning", "Failed", f"Error: {error.reason}")
            raise
        try:
            config = self.configuration.container(pod, container, attempt, image, sandbox.ips, target_of(state, container))
        except CreateContainerConfigError as error:
            tell("Warning", "Failed", f"Error: {error}")
            raise StartError("CreateContainerConfigError", str(error)) from None
        try:
            request = {"pod_sandbox_id": sandbox.id, "config": config, "sandbox_config": sandbox.config}
            container_id = self.cri.create_container(**request).container_id
        except CriError as error:
            if RESERVED in error.message:
                raise RequeueAfter(SOON_S) from None
            tell("Warning", "Failed", f"Error: {error.message}")
            raise StartError("CreateContainerError", error.message) from None
        tell("Normal", "Created", "Container created")
        try:
            self.cri.start_container(container_id=container_id)
        except CriError as error:  # an id in an event would make each one another
            tell("Warning", "Failed", f"Error: {error.message.replace(container_id, name)}")
            raise StartError("RunContainerError", error.message, SOON_S) from None
        tell("Normal", "Started", "Container started")
        self.check_stop_signal(container, container_id, tell)
        if hook := (container.get("lifecycle") or {}).get("postStart"):
            self.post_start(state, container, container_id, hook, sandbox.ips, grace_s)

    def back_off(self, state: PodState, container: Mapping[str, Any], tell: Tell) -> None:
        """CrashLoopBackOff: a container that ended waits before it starts again (doBackOff). Raises StartError."""
        last = next((c for c in state.runtime.attempts(container["name"]) if c.state == EXITED), None)
        if last is None:
            return
        key = backoff_key(state, container)
        left = self.crashes.left_since(key, last.finished / 1e9)
        if left:
            tell("Warning", "BackOff", f"Back-off restarting failed container {container['name']} in pod {pod_words(state.pod)}")
            wait = go_duration(self.crashes.seconds(key))
            message = f"back-off {wait} restarting failed container={container['name']} pod={pod_words(state.pod)}"
            raise StartError("CrashLoopBackOff", message, left)
        self.crashes.next(key, last.finished / 1e9)

    def check_stop_signal(self, container: Mapping[str, Any], container_id: str, tell: Tell) -> None:
        """An event where the runtime does not know the stop signal that a Pod asks for (containerd before 2.2, for example)."""
        wanted = (container.get("lifecycle") or {}).get("stopSignal")
        if wanted and not self.cri.container_status(container_id=container_id).status.stop_signal:
            message = f"the runtime does not take a stop signal from the Pod: {wanted} is not sent, but the image's or SIGTERM"
            tell("Warning", "StopSignalIgnored", message)

    def post_start(
        self,
        state: PodState,
        container: Mapping[str, Any],
        container_id: str,
        hook: Mapping[str, Any],
        ips: Sequence[str],
        grace_s: int,
    ) -> None:
        """Run the hook; a container whose hook fails is stopped. Raises StartError."""
        pod, path = state.pod, field_path(state.pod, container["name"])
        try:
            with self.others_turn():
                warning = hooks.run_hook(self.cri, pod, container, container_id, hook, ips[0] if ips else self.host_ip)
            if warning:
                self.recorder.pod_event(pod, "Warning", "LifecycleHTTPFallback", warning)
        except hooks.HookFailed as error:
            self.recorder.pod_event(pod, "Warning", "FailedPostStartHook", "PostStartHook failed", path)
            running = next((c for c in self.runtime.pod(state.uid).running if c.id == container_id), None)
            if running:
                self.stopping.stop_container(state, container, running, grace_s, "FailedPostStartHook")
            raise StartError("PostStartHookError", str(error), SOON_S) from None

    @contextlib.contextmanager
    def others_turn(self) -> Iterator[None]:
        """Leave one's place to another Pod while only waiting: for a pull, for a hook."""
        self.room.release()
        try:
            yield
        finally:
            self.room.acquire()


def field_path(pod: Mapping[str, Any], name: str) -> str:
    """ "spec.containers{app}": what a container's events are about."""
    kind = container_kind(pod, name)
    return f"spec.{kind}{{{name}}}" if kind else ""


def target_of(state: PodState, container: Mapping[str, Any]) -> str:
    """The id of the container whose processes an ephemeral one is to see; "" where it names none (getTargetID). Raises
    CreateContainerConfigError."""
    if not (name := container.get("targetContainerName")):
        return ""
    target = state.runtime.newest(name)
    if target is None:
        raise CreateContainerConfigError(f"unable to find target container {name}")
    return target.id


def backoff_key(state: PodState, container: Mapping[str, Any]) -> str:
    return f"{state.uid}_{container['name']}_{container_hash(container)}"


def old_restarts(state: PodState, name: str) -> int:
    """The next restart count of a container of which the runtime holds nothing, but the API's status does."""
    for kind in ("initContainerStatuses", "containerStatuses"):
        for status in state.status.get(kind, ()):
            if status["name"] == name and has_run(status):
                return int(status["restartCount"]) + 1
            if status["name"] == name and status.get("lastState"):  # lost, and counted when it was
                return int(status["restartCount"])
    return 0
