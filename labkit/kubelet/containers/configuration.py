"""What a container is created with: CRI's ContainerConfig, and the files on the node that its mounts name.

Knowledge: kubelet_pods.go (GenerateRunContainerOptions, makeMounts, ensureHostsFile), kuberuntime_container.go.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from labkit.cri import lenient
from labkit.kubelet.api import ApiClientError
from labkit.kubelet.containers import env_files
from labkit.kubelet.containers.images import NodeImage
from labkit.kubelet.volumes import inside, subpaths
from labkit.kubelet.volumes.bound_claims import CLAIMS
from labkit.kubelet.volumes.objects import Objects
from labkit.kubelet.volumes.pod_volumes import Volumes
from labkit.podspec import volume_kind
from labkit.podspec.messages import CreateContainerConfigError, MachineInfo, container_config, dns, sandbox_config
from labkit.podspec.messages.container_env import expand
from labkit.podspec.messages.container_mounts import OWN_PODS, PROPAGATION
from labkit.podspec.messages.hosts import hosts_file
from labkit.util import trees
from labkit.util.safepath import below, is_component

OLD_MARK = "labkit-kubelet"
"""What earlier kubelets left in a Pod's directory instead."""


@dataclass(frozen=True)
class Configuration:
    """Makes configs for one node. `root` is the kubelet's directory, `logs` the one of logs, `dns` what dnsPolicy stands for;
    `recursive()` says whether the runtime can make a mount read-only with all below it."""

    root: Path
    logs: Path
    cgroup_root: str
    host_ip: str
    machine: MachineInfo
    objects: Objects
    volumes: Volumes
    dns: Mapping[str, Sequence[str]] | None = None
    cgroup_driver: str = "cgroupfs"
    recursive: Callable[[], bool] = lambda: False

    def sandbox(self, pod: Mapping[str, Any], attempt: int, seen: str) -> Any:
        """The PodSandboxConfig; its log directory is made. Raises OSError, also for a Pod that wants a user namespace: this
        kubelet hands out no ids for one, and says so as a kubelet does whose runtime cannot make any (userns_manager.go)."""
        if pod["spec"].get("hostUsers") is False:
            raise OSError("can't set `spec.hostUsers: false`, runtime does not support user namespaces")
        config = sandbox_config(
            pod,
            attempt=attempt,
            cgroup_root=self.cgroup_root,
            cgroup_driver=self.cgroup_driver,
            dns=self.dns,
            log_root=str(self.logs),
            seen=seen,
            machine=self.machine,
        )
        below(self.logs, Path(config.log_directory).name).mkdir(parents=True, exist_ok=True)
        return config

    def dns_words(self, pod: Mapping[str, Any]) -> list[str]:
        """What to say of servers and searches that the Pod's resolv.conf has no room for."""
        whole = dns.with_own(pod["spec"], self.dns)
        return dns.within_limits(whole)[1] if whole else []

    def container(
        self, pod: Mapping[str, Any], container: Mapping[str, Any], attempt: int, image: NodeImage, ips: Sequence[str],
        target_id: str = "",
    ) -> Any:
        """The ContainerConfig; its files and directories, and that of its log, are made. Raises CreateContainerConfigError."""
        name = container["name"]
        try:
            named = self.objects.of_environment(pod, container)
            config = container_config(
                pod,
                name,
                attempt=attempt,
                image_ref=image.ref,
                image_user=image.user,
                pod_ip=ips,
                host_ip=self.host_ip,
                kubelet_root=str(self.root),
                machine=self.machine,
                configmaps=named["configmaps"],
                secrets=named["secrets"],
                volume_paths=self._claimed(pod),
                target_id=target_id,
                env_file=partial(self._from_file, pod),
            )
            self._volume_mounts(pod, container, config)
            self._files(pod, container, config, ips)
            (self.log_directory(pod) / config.log_path).parent.mkdir(parents=True, exist_ok=True)
        except (ApiClientError, OSError) as error:
            raise CreateContainerConfigError(str(error)) from None
        return config

    def make_directories(self, pod: Mapping[str, Any]) -> None:
        """The Pod's directory, as the kubelet has it. Raises OSError."""
        for name in ("volumes", "plugins", "containers"):
            (self.pod_directory(pod) / name).mkdir(parents=True, exist_ok=True, mode=0o750)

    def pod_directory(self, pod: Mapping[str, Any]) -> Path:
        return below(self.root / "pods", pod["metadata"]["uid"], what="uid")

    def mark(self, uid: str) -> None:
        """Record on disk that the Pod is this kubelet's, before anything is made for it: a Pod without this mark is somebody
        else's, and stays. Raises OSError."""
        mark = below(self.root / OWN_PODS, uid, what="uid")
        mark.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        mark.touch()

    def marked(self, uid: str) -> bool:
        """Whether this kubelet, or one before it with the same directory, has made the Pod."""
        if not is_component(uid):
            return False
        return (self.root / OWN_PODS / uid).exists() or (self.root / "pods" / uid / OLD_MARK).exists()

    def marks(self) -> Iterator[tuple[str, float]]:
        """The uid of each Pod that is marked, and for how many seconds it has been."""
        with contextlib.suppress(OSError):
            for entry in os.scandir(self.root / OWN_PODS):
                yield entry.name, time.time() - entry.stat().st_mtime

    def forget_mark(self, uid: str) -> None:
        below(self.root / OWN_PODS, uid, what="uid").unlink(missing_ok=True)

    def remove_logs(self, pod: Mapping[str, Any]) -> None:
        trees.remove(self.log_directory(pod))

    def log_directory(self, pod: Mapping[str, Any]) -> Path:
        metadata = pod["metadata"]
        name = f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"
        return below(self.logs, name, what="log directory's name")

    def _files(self, pod: Mapping[str, Any], container: Mapping[str, Any], config: Any, ips: Sequence[str]) -> None:
        directory = self.pod_directory(pod)
        for mount in config.mounts:
            if mount.host_path == str(directory / "etc-hosts"):
                directory.mkdir(parents=True, exist_ok=True, mode=0o750)
                Path(mount.host_path).write_text(hosts_file(pod, ips or ("127.0.0.1",), Path("/etc/hosts").read_text))
            elif mount.host_path.startswith(f"{directory}/containers/{container['name']}/"):
                Path(mount.host_path).parent.mkdir(parents=True, exist_ok=True, mode=0o750)
                Path(mount.host_path).touch(mode=0o666)
                Path(mount.host_path).chmod(0o666)

    def _from_file(self, pod: Mapping[str, Any], reference: Mapping[str, Any]) -> str | None:
        """The value of a fileKeyRef; None where it is optional and not there. Raises CreateContainerConfigError."""
        name, key = reference["volumeName"], reference["key"]
        volume = next((each for each in pod["spec"].get("volumes", ()) if each["name"] == name), None)
        if volume is None:
            raise CreateContainerConfigError(f'cannot find the volume "{name}" referenced by FileKeyRef')
        if self.volumes.place(pod, volume) is None:
            raise CreateContainerConfigError(f'failed to get host path for volume "{name}"')
        try:
            with contextlib.ExitStack() as stack:
                found, _ = stack.enter_context(self.volumes.opened(pod, volume))
                file = subpaths.open_inside(found, reference["path"], make=False)
                stack.callback(os.close, file)
                value = env_files.value_of(env_files.read(file), key)
        except (OSError, ValueError):
            raise CreateContainerConfigError("couldn't parse env file") from None
        if not value and not reference.get("optional"):
            raise CreateContainerConfigError(f'environment variable key "{key}" not found in file')
        return value or None

    def _recursively(self, mount: Mapping[str, Any]) -> bool:
        """Whether what is mounted below a read-only volume is read-only too (resolveRecursiveReadOnly)."""
        mode, able = mount.get("recursiveReadOnly") or "Disabled", self.recursive()
        if mode == "Enabled" and not able:
            why = f'volume "{mount["name"]}" requested recursive read-only mode, but it is not supported by the runtime'
            raise CreateContainerConfigError(f"failed to resolve recursive read-only mode: {why}")
        return able and mode != "Disabled"

    def _claimed(self, pod: Mapping[str, Any]) -> dict[str, str]:
        """Volume name → place on the node, for the Pod's claims."""
        claims = (volume for volume in pod["spec"].get("volumes", ()) if volume_kind(volume) in CLAIMS)
        return {volume["name"]: str(place) for volume in claims if (place := self.volumes.place(pod, volume)) is not None}

    def _volume_mounts(self, pod: Mapping[str, Any], container: Mapping[str, Any], config: Any) -> None:
        """Open each host path and sub-path, mount it in the Pod's directory, and have the runtime mount that: the runtime takes a
        path, which a Pod could redirect by a link after it was checked. Done at each start of a container."""
        variables = lenient.variables_of(config)
        named = {volume["name"]: volume for volume in pod["spec"].get("volumes", ())}
        for index, mount in enumerate(container.get("volumeMounts", ())):
            volume, asked = named[mount["name"]], config.mounts[index]
            source, place = self.volumes.source(pod, volume), self.volumes.place(pod, volume)
            asked.readonly = asked.readonly or source.read_only
            asked.recursive_read_only = self._recursively(mount)
            sub_path = mount.get("subPath") or expanded(mount.get("subPathExpr", ""), variables)
            if place is None or not (sub_path or volume_kind(source.volume) == "hostPath"):
                continue
            with contextlib.ExitStack() as stack:
                try:
                    found, read_only = stack.enter_context(self.volumes.opened(pod, volume))
                except (OSError, ValueError) as error:
                    raise CreateContainerConfigError(str(error)) from None
                failed = "create subPath directory" if subpaths.is_missing(place / sub_path) else "prepare subPath"
                directory = self.pod_directory(pod) / ("volume-subpaths" if sub_path else "host-paths")
                target = below(directory, mount["name"], container["name"], str(index))
                try:
                    if sub_path:
                        found = subpaths.open_inside(found, sub_path, make=not read_only)
                        stack.callback(os.close, found)
                    shared = asked.propagation == PROPAGATION["Bidirectional"]
                    inside.mount(found, target, read_only=read_only, shared=shared)
                except (OSError, ValueError) as error:
                    words = f'failed to {failed} for volumeMount "{mount["name"]}" of container "{container["name"]}"'
                    raise CreateContainerConfigError(words if sub_path else str(error)) from None
                asked.host_path, asked.readonly = str(target), asked.readonly or read_only


def expanded(expression: str, variables: Mapping[str, str]) -> str:
    """A subPathExpr with its variables filled in (ExpandContainerVolumeMounts). Raises CreateContainerConfigError for those that
    are not there, or empty."""
    named = (found[1] for found in re.finditer(r"\$(?:\$|\(([^)]*)\))", expression))
    missing = sorted({name for name in named if name is not None and not variables.get(name)})
    if missing:
        raise CreateContainerConfigError(f"missing value for {', '.join(missing)}")
    return expand(expression, variables)
