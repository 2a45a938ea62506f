"""Pods, containers and sandboxes for the tests of the lab kubelet."""

from __future__ import annotations

from typing import Any

from labkit.kubelet.pod.pod_runtime import EXITED, RUNNING, Container, PodRuntime, Sandbox
from labkit.kubelet.pod.statuses import Facts
from labkit.podspec import with_defaults
from labkit.podspec.messages.configs import container_hash

SECOND = 1_000_000_000
BOX = Sandbox("box0", 0, True, ("10.88.0.5",), 1)


def container(name: str = "app", **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": "registry.lab/busybox:1", **fields}


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    manifest = {"metadata": {"name": "web", "uid": "u1"}, "spec": {"containers": list(containers) or [container()], **spec}}
    return with_defaults(manifest)


def attempt(name: str = "app", number: int = 0, state: str = RUNNING, code: int = 0, **fields: Any) -> Container:
    """One attempt of a container, as the runtime tells of it."""
    given: dict[str, Any] = {
        "id": f"{name}{number}",
        "name": name,
        "state": state,
        "attempt": number,
        "hash": container_hash(container(name)),
        "image": "registry.lab/busybox:1",
        "image_id": "sha256:1",
        "created": (10 * number + 1) * SECOND,
        "started": (10 * number + 2) * SECOND,
        "finished": (10 * number + 3) * SECOND if state == EXITED else 0,
        "exit_code": code,
        "reason": "" if state != EXITED else "Error" if code else "Completed",
        "message": "",
    }
    return Container(**{**given, **fields})


def runtime(*containers: Container, boxes: tuple[Sandbox, ...] = (BOX,)) -> PodRuntime:
    """The Pod u1 with these containers, given newest first."""
    return PodRuntime("u1", boxes, containers)


def facts(**fields: Any) -> Facts:
    return Facts(**{"host_ip": "10.88.0.1", "runtime_name": "containerd", "before": {}, "now": 0.0, **fields})
