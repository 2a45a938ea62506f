"""The containers of a Pod: of which kind they are, by name, and the sidecars among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KINDS = ("initContainers", "containers", "ephemeralContainers")
"""Lists of the spec, in the order in which their containers start."""


def containers(spec: Mapping[str, Any], kinds: tuple[str, ...] = KINDS) -> list[dict[str, Any]]:
    """The containers of a spec that are in these lists."""
    return [container for kind in kinds for container in spec.get(kind) or ()]


def is_sidecar(container: Mapping[str, Any]) -> bool:
    """An init container that goes on running beside the others (KEP-753)."""
    return bool(container.get("restartPolicy") == "Always")


def sidecars(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [container for container in spec.get("initContainers") or () if is_sidecar(container)]


def container_names(pod: Mapping[str, Any], kinds: tuple[str, ...] = KINDS) -> tuple[str, ...]:
    """The names of a Pod's containers in the order in which they start: init, then regular, then ephemeral."""
    return tuple(container["name"] for container in containers(pod["spec"], kinds))


def container_kind(pod: Mapping[str, Any], name: str) -> str:
    """The list of the spec that a container is in, such as "initContainers"; "" if it is in none."""
    return next((kind for kind in KINDS if name in container_names(pod, (kind,))), "")
