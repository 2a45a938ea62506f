"""Pods on a node, by CRI calls alone: start one from its manifest, remove one and what it left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from labkit.cri import CriClient, CriError
from labkit.cri.v1 import api_pb2
from labkit.util.errors import NodeError

POLL_S = 0.02


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


def wait_exit(cri: CriClient, container_id: str, timeout_s: float) -> int:
    """Wait until the container has exited; its exit code. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        status = cri.container_status(container_id=container_id).status
        if status.state == api_pb2.CONTAINER_EXITED:
            return int(status.exit_code)
        time.sleep(POLL_S)
    raise TimeoutError(container_id)
