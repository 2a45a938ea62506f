"""Pods on a node, by CRI calls alone: start one from its manifest, remove one and what it left."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from labkit.cri import CriClient, CriError
from labkit.cri.v1 import api_pb2
from labkit.podspec.messages.configs import POD_UID
from labkit.util.errors import NodeError
from labkit.util.progress import attempts


def remove_sandbox(cri: CriClient, sandbox_id: str) -> None:
    """StopContainer for each that lives, StopPodSandbox, RemoveContainer for each, RemovePodSandbox. A Pod gone already is no
    error.

    Containers get no time to end. They are stopped first, as by the kubelet: how long StopPodSandbox waits for them is the
    runtime's choice (containerd not at all, CRI-O nearly until the call's deadline).
    """
    containers = cri.list_containers(filter={"pod_sandbox_id": sandbox_id}).containers
    for container in containers:
        stop(cri, container)
    with gone_is_fine():
        cri.stop_pod_sandbox(pod_sandbox_id=sandbox_id)
    for container in containers:
        with gone_is_fine():
            cri.remove_container(container_id=container.id)
    with gone_is_fine():
        cri.remove_pod_sandbox(pod_sandbox_id=sandbox_id)


def remove_containers(cri: CriClient, sandbox_id: str, name: str, attempt: int = 0) -> None:
    """Stop and remove a sandbox's containers of that name, from an attempt on. One gone already is no error."""
    for container in cri.list_containers(filter={"pod_sandbox_id": sandbox_id}).containers:
        if container.metadata.name == name and container.metadata.attempt >= attempt:
            stop(cri, container)
            with gone_is_fine():
                cri.remove_container(container_id=container.id)


def stop(cri: CriClient, container: Any) -> None:
    """Stop a container as the runtime listed it, without giving it time to end."""
    if container.state != api_pb2.CONTAINER_EXITED:
        with gone_is_fine():
            cri.stop_container(container_id=container.id, timeout=0)


@contextlib.contextmanager
def gone_is_fine() -> Any:
    try:
        yield
    except CriError as error:
        if not error.gone:
            raise


def pull_if_absent(cri: CriClient, image: str, auth: Mapping[str, str] | None = None, policy: str = "IfNotPresent") -> str:
    """PullImage unless ImageStatus finds it; returns the image's id as the runtime names it."""
    if policy != "Always":
        found = cri.image_status(image={"image": image}).image
        if found.id:
            return str(found.id)
    if policy == "Never":
        raise NodeError(f"The image {image} is not present, and its pull policy is Never.", "Pull it, or use IfNotPresent.")
    request: dict[str, Any] = {"image": {"image": image, "user_specified_image": image}}
    if auth:
        request["auth"] = dict(auth)
    return str(cri.pull_image(**request, timeout=120).image_ref)


def pod_ip(cri: CriClient, uid: str) -> str:
    """The address of a Pod, as the runtime reports it; "" while it has none."""
    wanted = {"label_selector": {POD_UID: uid}, "state": {"state": api_pb2.SANDBOX_READY}}
    with contextlib.suppress(CriError):
        for sandbox in cri.list_pod_sandbox(filter=wanted).items:
            return str(cri.pod_sandbox_status(pod_sandbox_id=sandbox.id).status.network.ip)
    return ""


def wait_exit(cri: CriClient, container_id: str, timeout_s: float) -> int:
    """Wait until the container has exited; its exit code. Raises TimeoutError."""
    for _ in attempts(timeout_s):
        status = cri.container_status(container_id=container_id).status
        if status.state == api_pb2.CONTAINER_EXITED:
            return int(status.exit_code)
    raise TimeoutError(container_id)


def wait_not_ready(cri: CriClient, sandbox_id: str, timeout_s: float) -> None:
    """Wait until the runtime says that a sandbox is not ready. Raises TimeoutError."""
    for _ in attempts(timeout_s):
        if cri.pod_sandbox_status(pod_sandbox_id=sandbox_id).status.state != api_pb2.SANDBOX_READY:
            return
    raise TimeoutError(sandbox_id)
