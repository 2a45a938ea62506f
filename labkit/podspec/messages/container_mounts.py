"""What a container sees of the node's files: volumes, /etc/hosts, the termination log.

Knowledge: kubelet_pods.go (makeMounts), kuberuntime_container.go (makeMounts), the volume plugins' names. These are paths
only: making the directories and files is the kubelet's work, not the builders'.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from labkit.cri.v1 import api_pb2 as pb
from labkit.podspec.manifest import volume_kind
from labkit.podspec.messages.container_env import CreateContainerConfigError, expand

PLUGINS = {
    "emptyDir": "empty-dir",
    "configMap": "configmap",
    "secret": "secret",
    "downwardAPI": "downward-api",
    "projected": "projected",
    "local": "local-volume",
    "nfs": "nfs",
}
OWN_PODS = "own"
"""Below the lab kubelet's directory, next to pods/: an empty file for each Pod that it has made, named by the uid."""
ALWAYS_READ_ONLY = ("configMap", "secret", "downwardAPI", "projected", "image")
PROPAGATION = {
    "None": pb.PROPAGATION_PRIVATE,
    "HostToContainer": pb.PROPAGATION_HOST_TO_CONTAINER,
    "Bidirectional": pb.PROPAGATION_BIDIRECTIONAL,
}


def container_mounts(
    pod: Mapping[str, Any],
    container: Mapping[str, Any],
    environment: Mapping[str, str],
    *,
    kubelet_root: str,
    volume_paths: Mapping[str, str],
) -> list[pb.Mount]:
    """Volume mounts in the manifest's order, then /etc/hosts unless a volume is there, then the termination log.

    CRI leaves /etc/hosts to the kubelet: containerd copies the node's where no mount names it, CRI-O supplies none.

    volume_paths: where volumes lie whose place only their plugin knows (volume name → path on the node).
    Raises CreateContainerConfigError for a volume without a known place, and for a subPath that leads out of one.
    """
    pod_directory = f"{kubelet_root}/pods/{pod['metadata']['uid']}"
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", ())}
    mounts = [
        _volume_mount(mount, volumes[mount["name"]], container["name"], environment, pod_directory, volume_paths)
        for mount in container.get("volumeMounts", ())
    ]
    if not any(mount.container_path == "/etc/hosts" for mount in mounts):
        mounts.append(pb.Mount(container_path="/etc/hosts", host_path=f"{pod_directory}/etc-hosts"))
    log = f"{pod_directory}/containers/{container['name']}/{secrets.token_hex(4)}"
    mounts.append(pb.Mount(container_path=_absolute(container["terminationMessagePath"]), host_path=log))
    return mounts


def _volume_mount(
    mount: Mapping[str, Any],
    volume: Mapping[str, Any],
    container: str,
    environment: Mapping[str, str],
    pod_directory: str,
    volume_paths: Mapping[str, str],
) -> pb.Mount:
    kind = volume_kind(volume)
    sub_path = expand(mount["subPathExpr"], environment) if mount.get("subPathExpr") else mount.get("subPath", "")
    if sub_path.startswith("/"):
        raise CreateContainerConfigError(f"error SubPath `{sub_path}` must not be an absolute path")
    if ".." in sub_path.split("/"):
        raise CreateContainerConfigError(f"unable to provision SubPath `{sub_path}`: must not contain '..'")
    result = pb.Mount(
        container_path=_absolute(mount["mountPath"]),
        readonly=mount.get("readOnly", False) or kind in ALWAYS_READ_ONLY,
        recursive_read_only=mount.get("recursiveReadOnly") == "Enabled",
        propagation=PROPAGATION[mount.get("mountPropagation", "None")],
    )
    if kind == "image":
        reference = volume["image"]["reference"]
        result.image.CopyFrom(pb.ImageSpec(image=reference, user_specified_image=reference))
        result.image_sub_path = sub_path
        return result
    if volume["name"] in volume_paths:
        path = volume_paths[volume["name"]]
    elif kind == "hostPath":
        path = volume["hostPath"]["path"]
    elif kind in PLUGINS:
        path = f"{pod_directory}/volumes/kubernetes.io~{PLUGINS[kind]}/{volume['name']}"
    else:
        raise CreateContainerConfigError(f'cannot find volume "{volume["name"]}" to mount into container "{container}"')
    result.host_path = f"{path.rstrip('/')}/{sub_path}" if sub_path else path
    return result


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"
