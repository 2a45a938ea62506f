"""The files that a kubelet makes on the node before it creates a container: what the container's mounts name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.node.host.access import Host
from labkit.util.errors import NodeError
from labkit.util.safepath import is_component


def make(
    pod: Mapping[str, Any],
    config: Any,
    host: Host,
    *,
    hosts: str,
) -> None:
    """Make /etc/hosts (its text: `hosts`), the termination log and emptyDir volumes for one container. Raises NodeError (see
    `refuse_volumes`)."""
    refuse_volumes(pod)
    spec = pod["spec"]
    mounted = next(c for c in containers(spec) if c["name"] == config.metadata.name).get("volumeMounts") or []
    host_paths = {volume["name"] for volume in spec.get("volumes") or [] if volume.get("hostPath")}
    for mount, volume in zip(config.mounts, mounted, strict=False):
        if volume["name"] not in host_paths:
            host.make_directory(mount.host_path, 0o777)
    for mount in config.mounts[len(mounted) :]:  # the kubelet's own (labkit.podspec.messages.container_mounts)
        host.write_file(mount.host_path, hosts if mount.container_path == "/etc/hosts" else "")


def log_directory(metadata: Any) -> str:
    """The name of the directory of a Pod's logs; `metadata` is CRI's."""
    return f"{metadata.namespace}_{metadata.name}_{metadata.uid}"


def has_files(metadata: Any) -> bool:
    """Whether a Pod can have files that `make` made: none is made below a name that is more than a name."""
    return is_component(metadata.uid) and is_component(log_directory(metadata))


def refuse_volumes(pod: Mapping[str, Any]) -> None:
    """Raises NodeError for a volume of another kind than emptyDir and hostPath, since filling it is a kubelet's work, and for a
    sub-path of an emptyDir: a container may have made a link of it, which the runtime would follow out of the volume."""
    spec = pod["spec"]
    unknown = sorted({kind for v in spec.get("volumes") or [] for kind in v if kind not in ("name", "emptyDir", "hostPath")})
    if unknown:
        raise NodeError(f"start_pod cannot fill a volume of kind {', '.join(unknown)}.", "Use emptyDir or hostPath.")
    own = {volume["name"] for volume in spec.get("volumes") or [] if not volume.get("hostPath")}
    for container in containers(spec):
        for mount in container.get("volumeMounts") or []:
            if mount["name"] in own and (mount.get("subPath") or mount.get("subPathExpr")):
                raise NodeError(
                    f"start_pod cannot mount a subPath of the emptyDir {mount['name']} safely.",
                    "Mount the whole volume, or let the kubelet run the Pod (node.cluster.apply).",
                )


def containers(spec: Mapping[str, Any]) -> list[Any]:
    """All containers of a Pod's spec, of every kind."""
    return [*(spec.get("initContainers") or []), *spec["containers"], *(spec.get("ephemeralContainers") or [])]
