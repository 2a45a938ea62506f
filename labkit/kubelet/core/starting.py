"""One container started: back-off, image, CreateContainer, StartContainer, postStart hook, with the kubelet's events.

Knowledge: kuberuntime_manager.go (doBackOff), kuberuntime_container.go (startContainer).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.cri import CriClient, CriError
from labkit.kubelet.api import ApiError
from labkit.kubelet.backoff import Backoff
from labkit.kubelet.containers import hooks
from labkit.kubelet.containers.configuration import Configuration
from labkit.kubelet.core.stopping import Stopping
from labkit.kubelet.go_format import go_duration, pod_words
from labkit.kubelet.images import Images, Login, StartError, read_logins
from labkit.kubelet.node.events import EventRecorder
from labkit.kubelet.pod.runtime import CREATED, EXITED, Runtime
from labkit.kubelet.pod.statuses import has_run
from labkit.kubelet.pod.worker import Worker
from labkit.kubelet.volumes.objects import Objects
from labkit.podspec import container_kind
from labkit.podspec.messages import CreateContainerConfigError
from labkit.podspec.messages.configs import container_hash

SOON_S = 1.0
RETRY_S = 10.0
RESERVED = "is reserved"
"""What the runtime says of a name that an earlier call, still under way, has taken."""


class RequeueAfter(Exception):
    """The Pod cannot go on now; look at it again after `seconds`. `tried`: containers were started, or their turn came."""

    def __init__(self, seconds: float, *, tried: bool = False) -> None:
        self.seconds, self.tried = seconds, tried
        super().__init__(seconds)


@dataclass(frozen=True)
class Starting:
    """Starts containers. `crashes` holds their back-offs, `room` the places for Pods that start (taken by the caller)."""

    cri: CriClient
    runtime: Runtime
    recorder: EventRecorder
    images: Images
    objects: Objects
    configuration: Configuration
    crashes: Backoff
    stopping: Stopping
    host_ip: str
    room: threading.Semaphore

    def start(
        self, worker: Worker, container: Mapping[str, Any], sandbox_id: str, sandbox: Any, ips: Sequence[str], grace_s: int
    ) -> None:
        """Image, CreateContainer, StartContainer, postStart hook, with their events. Raises StartError."""
        pod, name, path = worker.pod, container["name"], field_path(worker.pod, container["name"])

        def tell(type: str, reason: str, message: str) -> None:
            self.recorder.pod_event(pod, type, reason, message, path)

        self.back_off(worker, container, tell)
        before = worker.runtime.newest(name)
        attempt = before.attempt + 1 if before else int(old_restarts(worker, name))
        if before is not None and before.state == CREATED:
            attempt = before.attempt  # an earlier kubelet died between creating and starting it: make the same one anew
            self.cri.remove_container(container_id=before.id)
        try:
            self.image_volumes(worker, container, sandbox)
            image = self.images.ensure(worker.uid, container, sandbox, worker.logins, tell, self.others_turn)
        except StartError as error:
            tell("Warning", "Failed", f"Error: {error.reason}")
            raise
        try:
            config = self.configuration.container(pod, container, attempt, image, ips)
        except CreateContainerConfigError as error:
            tell("Warning", "Failed", f"Error: {error}")
            raise StartError("CreateContainerConfigError", str(error)) from None
        try:
            made = self.cri.create_container(pod_sandbox_id=sandbox_id, config=config, sandbox_config=sandbox).container_id
        except CriError as error:
            if RESERVED in error.message:
                raise RequeueAfter(SOON_S) from None
            tell("Warning", "Failed", f"Error: {error.message}")
            raise StartError("CreateContainerError", error.message) from None
        tell("Normal", "Created", "Container created")
        try:
            self.cri.start_container(container_id=made)
        except CriError as error:  # an id in an event would make each one another
            tell("Warning", "Failed", f"Error: {error.message.replace(made, name)}")
            raise StartError("RunContainerError", error.message, SOON_S) from None
        tell("Normal", "Started", "Container started")
        self.check_stop_signal(container, made, tell)
        hook = (container.get("lifecycle") or {}).get("postStart")
        if hook:
            self.post_start(worker, container, made, hook, ips, grace_s, tell)

    def check_stop_signal(self, container: Mapping[str, Any], container_id: str, tell: Any) -> None:
        """A word where the runtime does not know the stop signal that a Pod asks for (containerd before 2.2, for example)."""
        wanted = (container.get("lifecycle") or {}).get("stopSignal")
        if wanted and not self.cri.container_status(container_id=container_id).status.stop_signal:
            words = f"the runtime does not take a stop signal from the Pod: {wanted} is not sent, but the image's or SIGTERM"
            tell("Warning", "StopSignalIgnored", words)

    def image_volumes(self, worker: Worker, container: Mapping[str, Any], sandbox: Any) -> None:
        """The images that a container mounts as volumes (getImageVolumes); their events are about the Pod. Raises StartError."""

        def tell(type: str, reason: str, message: str) -> None:
            self.recorder.pod_event(worker.pod, type, reason, message)

        mounted = {mount["name"] for mount in container.get("volumeMounts", ())}
        for volume in worker.pod["spec"].get("volumes", ()):
            if "image" in volume and volume["name"] in mounted:
                source = volume["image"]
                wanted = {"image": source["reference"], "imagePullPolicy": source.get("pullPolicy", "IfNotPresent")}
                self.images.ensure(worker.uid, wanted, sandbox, worker.logins, tell, self.others_turn)

    def back_off(self, worker: Worker, container: Mapping[str, Any], tell: Any) -> None:
        """CrashLoopBackOff: a container that ended waits before it starts again. Raises StartError."""
        last = next((c for c in worker.runtime.attempts(container["name"]) if c.state == EXITED), None)
        if last is None:
            return
        key = backoff_key(worker, container)
        left = self.crashes.left_since(key, last.finished / 1e9)
        if left:
            tell("Warning", "BackOff", f"Back-off restarting failed container {container['name']} in pod {pod_words(worker.pod)}")
            wait = go_duration(self.crashes.seconds(key))
            words = f"back-off {wait} restarting failed container={container['name']} pod={pod_words(worker.pod)}"
            raise StartError("CrashLoopBackOff", words, left)
        self.crashes.next(key, last.finished / 1e9)

    def post_start(
        self,
        worker: Worker,
        container: Mapping[str, Any],
        container_id: str,
        hook: Mapping[str, Any],
        ips: Sequence[str],
        grace_s: int,
        tell: Any,
    ) -> None:
        try:
            with self.others_turn():
                warning = hooks.run_hook(self.cri, worker.pod, container, container_id, hook, ips[0] if ips else self.host_ip)
            if warning:
                self.recorder.pod_event(worker.pod, "Warning", "LifecycleHTTPFallback", warning)
        except hooks.HookFailed as error:
            tell("Warning", "FailedPostStartHook", "PostStartHook failed")
            runtime = self.runtime.pod(worker.uid)
            running = next((c for c in runtime.running if c.id == container_id), None)
            if running:
                self.stopping.stop_container(worker, container, running, grace_s, "FailedPostStartHook")
            raise StartError("PostStartHookError", str(error), SOON_S) from None

    def logins(self, pod: Mapping[str, Any]) -> list[Login]:
        """The registry logins of a Pod's imagePullSecrets; one that is missing only makes a warning."""
        found: list[Login] = []
        missing = []
        names = filter(None, (reference.get("name") for reference in pod["spec"].get("imagePullSecrets", ())))
        for name in names:
            try:
                secret = self.objects.read("secrets", pod["metadata"]["namespace"], name)
            except ApiError:
                secret = None
            if secret is None:
                missing.append(name)
            else:
                found += read_logins(secret)
        if missing:
            told = ", ".join(missing)
            words = f"Unable to retrieve some image pull secrets ({told}); attempting to pull the image may not succeed."
            self.recorder.pod_event(pod, "Warning", "FailedToRetrieveImagePullSecret", words)
        return found

    @contextlib.contextmanager
    def others_turn(self) -> Iterator[None]:
        """Leave one's place to another Pod while only waiting: for a pull, for a hook."""
        self.room.release()
        try:
            yield
        finally:
            self.room.acquire()


def field_path(pod: Mapping[str, Any], name: str) -> str:
    """"spec.containers{app}": what a container's events are about."""
    kind = container_kind(pod, name)
    return f"spec.{kind}{{{name}}}" if kind else ""


def backoff_key(worker: Worker, container: Mapping[str, Any]) -> str:
    return f"{worker.uid}_{container['name']}_{container_hash(container)}"


def old_restarts(worker: Worker, name: str) -> int:
    """The next restart count of a container of which the runtime holds nothing, but the API's status does."""
    for kind in ("initContainerStatuses", "containerStatuses"):
        for status in worker.status.get(kind, ()):
            if status["name"] == name and has_run(status):
                return int(status["restartCount"]) + 1
            if status["name"] == name and status.get("lastState"):  # lost, and counted when it was
                return int(status["restartCount"])
    return 0
