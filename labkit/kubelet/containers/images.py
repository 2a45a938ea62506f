"""A container's image: present, pulled by its policy, or the kubelet's reason why not.

Knowledge: kubelet's images/image_manager.go and puller.go.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from labkit.cri import CriClient, CriError
from labkit.kubelet.backoff import Backoff
from labkit.kubelet.containers.image_names import with_tag
from labkit.kubelet.containers.pull_secrets import Login, Pulled, matching
from labkit.kubelet.go_format import go_duration, pull_error, rpc_error
from labkit.podspec.go_text import go_quote

Tell = Callable[[str, str, str], None]
"""Takes an event's type, reason and message."""


class StartError(Exception):
    """A container cannot be started. `reason` is what its status shows (ErrImagePull, RunContainerError …)."""

    def __init__(self, reason: str, message: str, retry_s: float | None = None) -> None:
        self.reason, self.message, self.retry_s = reason, message, retry_s
        super().__init__(f"{reason}: {message}")


@dataclass(frozen=True)
class NodeImage:
    """An image that the node has: its id for CreateContainer, and the user that its config names."""

    ref: str
    user: int | str


class ImageManager:
    """Sees to it that images are there. Pulls are made one after the other, as the kubelet does by default."""

    def __init__(self, cri: CriClient, backoff: Backoff, pulled: Pulled) -> None:
        self.cri, self.backoff, self.pulled = cri, backoff, pulled
        self._pulling = threading.Lock()
        self._failures: dict[str, str] = {}

    def ensure(
        self,
        uid: str,
        container: Mapping[str, Any],
        sandbox_config: Any,
        logins: Iterable[Login],
        tell: Tell,
        waiting: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> NodeImage:
        """The image of a container, pulled where its policy wants that. Raises StartError.

        A pull is made inside of `waiting()`.
        """
        name, policy = container["image"], container["imagePullPolicy"]
        try:
            wanted = with_tag(name)
        except ValueError as error:
            message = f"Failed to apply default image tag {go_quote(name)}: couldn't parse image name {go_quote(name)}: {error}"
            tell("Warning", "InspectFailed", message)
            raise StartError("InvalidImageName", message) from None
        present = self._look(name, wanted, tell)
        if present and policy != "Always" and self.pulled.may_use(present.ref, wanted, lambda: matching(wanted, logins)):
            tell("Normal", "Pulled", f'Container image "{name}" already present on machine and can be accessed by the pod')
            return present
        if policy == "Never":
            message = f'Container image "{name}" is not present with pull policy of Never'
            tell("Warning", "ErrImageNeverPull", message)
            raise StartError("ErrImageNeverPull", message)
        return self._pull(f"{uid}_{name}", name, wanted, sandbox_config, logins, tell, waiting)

    def ensure_volumes(
        self,
        pod: Mapping[str, Any],
        container: Mapping[str, Any],
        sandbox_config: Any,
        logins: Iterable[Login],
        tell: Tell,
        waiting: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        """The images that a container mounts as volumes, pulled like its own (getImageVolumes). Raises StartError."""
        mounted = {mount["name"] for mount in container.get("volumeMounts", ())}
        for volume in pod["spec"].get("volumes", ()):
            if "image" in volume and volume["name"] in mounted:
                source = volume["image"]
                wanted = {"image": source["reference"], "imagePullPolicy": source.get("pullPolicy", "IfNotPresent")}
                self.ensure(pod["metadata"]["uid"], wanted, sandbox_config, logins, tell, waiting)

    def forget(self, uid: str) -> None:
        self.backoff.forget(f"{uid}_")
        for key in [key for key in self._failures if key.startswith(f"{uid}_")]:
            self._failures.pop(key, None)

    def _look(self, name: str, wanted: str, tell: Tell) -> NodeImage | None:
        try:
            return found(self.cri.image_status(image={"image": wanted}).image)
        except CriError as error:
            message = f'Failed to inspect image "{name}": {rpc_error(error)}'
            tell("Warning", "InspectFailed", message)
            raise StartError("ImageInspectError", message) from None

    def _pull(
        self,
        key: str,
        name: str,
        wanted: str,
        sandbox_config: Any,
        logins: Iterable[Login],
        tell: Tell,
        waiting: Callable[[], AbstractContextManager[None]],
    ) -> NodeImage:
        left = self.backoff.left(key)
        if left:
            tell("Normal", "BackOff", f'Back-off pulling image "{name}"')
            why = self._failures.get(key, "")
            raise StartError("ImagePullBackOff", f'Back-off pulling image "{name}"{": " if why else ""}{why}', left)
        tell("Normal", "Pulling", f'Pulling image "{name}"')
        asked = time.monotonic()
        with waiting(), self._pulling:
            started = time.monotonic()
            try:
                login = self._pull_with_any(wanted, sandbox_config, matching(wanted, logins))
            except CriError as error:
                message = pull_error(error)
                tell("Warning", "Failed", f'Failed to pull image "{name}": {message}')
                self.backoff.next(key, time.time())
                self._failures[key] = f"ErrImagePull: {message}"
                # Half of the back-off later the status tells ImagePullBackOff: a learner sees both.
                raise StartError("ErrImagePull", message, self.backoff.seconds(key) / 2) from None
        took, waited = go_duration(time.monotonic() - started), go_duration(time.monotonic() - asked)
        status = self.cri.image_status(image={"image": wanted}).image
        words = f'Successfully pulled image "{name}" in {took} ({waited} including waiting). Image size: {status.size} bytes.'
        tell("Normal", "Pulled", words)
        self._failures.pop(key, None)
        image = found(status)
        if image is None:
            raise StartError("ErrImagePull", f'image "{name}" was pulled, and removed again')
        self.pulled.add(image.ref, wanted, login)
        return image

    def _pull_with_any(self, wanted: str, sandbox_config: Any, logins: list[Login]) -> Login | None:
        """Try each login that fits, else none; the one that did it. The last refusal is the one that is raised."""
        request = {"image": {"image": wanted, "user_specified_image": wanted}, "sandbox_config": sandbox_config}
        refusal: CriError | None = None
        for login in logins:
            try:
                self.cri.pull_image(**request, auth=dict(login.auth))
                return login
            except CriError as error:
                refusal = error
        if refusal is not None:
            raise refusal
        self.cri.pull_image(**request)
        return None


def found(status: Any) -> NodeImage | None:
    """CRI's Image, None where it is empty."""
    if not status.id:
        return None
    return NodeImage(status.id, status.username or (status.uid.value if status.HasField("uid") else 0))
