"""Which container a request for logs, exec or attach means, and the kubelet's words where there is none to be had.

Knowledge: kubelet_pods.go (validateContainerLogStatus, GetExec, findContainer).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.cri import CriClient, CriError
from labkit.cri.v1 import api_pb2 as pb
from labkit.podspec import container_kind
from labkit.podspec.go_text import go_quote
from labkit.podspec.messages.configs import CONTAINER_NAME, POD_NAME, POD_NAMESPACE

KINDS = ("containers", "initContainers", "ephemeralContainers")


class NoContainer(Exception):
    """There is none; `code` is HTTP's, `reason` that of a Status."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message


class InsteadOfLog(Exception):
    """Why there is no log, in words that a reader gets in its place: by then the kubelet has answered that there is one."""


def newest(cri: CriClient, namespace: str, pod: str, container: str) -> Any | None:
    """CRI's newest container of that name, of a Pod of that name; None where there is none. Raises CriError."""
    wanted = {POD_NAMESPACE: namespace, POD_NAME: pod, CONTAINER_NAME: container}
    found = cri.list_containers(filter={"label_selector": wanted}).containers
    return max(found, key=lambda c: c.created_at, default=None)


def running(cri: CriClient, namespace: str, pod: str, container: str) -> str:
    """The id of a container that runs. Raises NoContainer and CriError."""
    found = newest(cri, namespace, pod, container)
    if found is None or found.state != pb.CONTAINER_RUNNING:
        raise NoContainer(404, "NotFound", f"container not found ({go_quote(container)})")
    return str(found.id)


def attached(cri: CriClient, pod: Mapping[str, Any], container: str) -> tuple[str, bool]:
    """The id of a container that runs, and whether its manifest gives it a terminal. Raises NoContainer and CriError."""
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    found = newest(cri, namespace, name, container)
    kind = container_kind(pod, container)
    if found is None or found.state != pb.CONTAINER_RUNNING or not kind:
        raise NoContainer(404, "NotFound", f"container {container} not found in pod {name}_{namespace}")
    return str(found.id), any(c.get("tty", False) for c in pod["spec"][kind] if c["name"] == container)


def ready_sandbox(cri: CriClient, namespace: str, pod: str) -> str:
    """The id of a Pod's sandbox. Raises NoContainer and CriError."""
    wanted = {"label_selector": {POD_NAMESPACE: namespace, POD_NAME: pod}, "state": {"state": pb.SANDBOX_READY}}
    found = cri.list_pod_sandbox(filter=wanted).items
    if not found:
        raise NoContainer(404, "NotFound", f'pod not found ("{pod}_{namespace}")')
    return str(max(found, key=lambda s: s.created_at).id)


def of_log(cri: CriClient, pod: Mapping[str, Any], container: str, previous: bool) -> tuple[str, str]:
    """The id of the container whose log is asked for, and the path of that log. `pod` is the API's object.

    Raises NoContainer in the kubelet's words, InsteadOfLog, and CriError.
    """
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    if not container_kind(pod, container):
        raise NoContainer(404, "NotFound", f"container {go_quote(container)} not found in pod {go_quote(name)}")
    now = newest(cri, namespace, name, container)
    if not previous and now is not None and now.state == pb.CONTAINER_RUNNING:
        wanted = str(now.id)  # the status in the API may be a moment behind
    else:
        wanted = by_status(pod.get("status") or {}, container, name, previous)
    try:
        return wanted, str(cri.container_status(container_id=wanted).status.log_path)
    except CriError as error:
        if not error.gone:
            raise
        raise InsteadOfLog(f"unable to retrieve container logs for {runtime_of(pod, container)}{wanted}") from None


def by_status(status: Mapping[str, Any], container: str, pod: str, previous: bool) -> str:
    """The id that the Pod's status names. Raises NoContainer."""
    of_container = next(
        (s for kind in KINDS for s in status.get(f"{kind.removesuffix('s')}Statuses") or [] if s["name"] == container), None
    )
    words = f'container "{container}" in pod "{pod}"'
    if of_container is None:
        raise bad(f"{words} is not available")
    state = of_container.get("state") or {}
    last = bare((of_container.get("lastState") or {}).get("terminated"))
    ended, waiting = bare(state.get("terminated")), state.get("waiting")
    if previous:
        if not last:
            raise bad(f"previous terminated {words} not found")
        return last
    if state.get("running") is not None:
        return bare(of_container)
    if ended or last:
        return ended or last
    if state.get("terminated") is not None:
        raise bad(f"{words} is terminated")
    reason = (waiting or {}).get("reason")
    if not reason:
        raise bad(f"{words} is waiting to start - no logs yet")
    known = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}
    raise bad(f"{words} is waiting to start: {known.get(reason, reason)}")


def bad(message: str) -> NoContainer:
    return NoContainer(400, "BadRequest", message)


def bare(state: Mapping[str, Any] | None) -> str:
    """ "containerd://ID" → "ID"."""
    return str((state or {}).get("containerID") or "").rpartition("//")[2]


def runtime_of(pod: Mapping[str, Any], container: str) -> str:
    statuses = (s for kind in KINDS for s in (pod.get("status") or {}).get(f"{kind.removesuffix('s')}Statuses") or [])
    return next(
        (s["containerID"].rpartition("//")[0] + "//" for s in statuses if s["name"] == container and s.get("containerID")), ""
    )
