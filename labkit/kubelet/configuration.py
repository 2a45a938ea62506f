"""What a container is created with: CRI's ContainerConfig, and the files on the node that its mounts name.

Knowledge: kubelet_pods.go (GenerateRunContainerOptions, makeMounts, ensureHostsFile), kuberuntime_container.go.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.cri import CreateContainerConfigError, Machine, container_config, lenient, sandbox_config
from labkit.cri.environment import expand
from labkit.cri.hosts import hosts_file as managed_hosts_file
from labkit.cri.mounts import OWN_PODS
from labkit.kubelet import subpaths
from labkit.kubelet.api import ApiError
from labkit.kubelet.claims import CLAIMS
from labkit.kubelet.images import Image
from labkit.kubelet.objects import Objects
from labkit.kubelet.volumes import READ_ONLY_HOST_PATHS, Volumes, kind_of
from labkit.safepath import below, is_component

HOSTS_OF_NODE = "# Kubernetes-managed hosts file (host network).\n"
OLD_MARK = "labkit-kubelet"
"""What earlier kubelets left in a Pod's directory instead."""
ALIASES = "\n# Entries added by HostAliases.\n"


@dataclass(frozen=True)
class Configuration:
    """Makes configs for one node. `root` is the kubelet's directory, `logs` the one of logs, `dns` what dnsPolicy stands for."""

    root: Path
    logs: Path
    cgroup_root: str
    host_ip: str
    machine: Machine
    objects: Objects
    volumes: Volumes
    dns: Mapping[str, Sequence[str]] | None = None
    cgroup_driver: str = "cgroupfs"

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

    def container(
        self, pod: Mapping[str, Any], container: Mapping[str, Any], attempt: int, image: Image, ips: Sequence[str]
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
            )
            self._sub_paths(pod, container, config)
            self._files(pod, container, config, ips)
            (self.log_directory(pod) / config.log_path).parent.mkdir(parents=True, exist_ok=True)
        except (ApiError, OSError) as error:
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
        shutil.rmtree(self.log_directory(pod), ignore_errors=True)

    def log_directory(self, pod: Mapping[str, Any]) -> Path:
        metadata = pod["metadata"]
        name = f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"
        return below(self.logs, name, what="log directory's name")

    def _files(self, pod: Mapping[str, Any], container: Mapping[str, Any], config: Any, ips: Sequence[str]) -> None:
        directory = self.pod_directory(pod)
        for mount in config.mounts:
            if mount.host_path == str(directory / "etc-hosts"):
                directory.mkdir(parents=True, exist_ok=True, mode=0o750)
                Path(mount.host_path).write_text(hosts_file(pod, ips))
            elif mount.host_path.startswith(f"{directory}/containers/{container['name']}/"):
                Path(mount.host_path).parent.mkdir(parents=True, exist_ok=True, mode=0o750)
                Path(mount.host_path).touch(mode=0o666)
                Path(mount.host_path).chmod(0o666)
        for mount, wanted in zip(config.mounts, container.get("volumeMounts", ()), strict=False):
            if self._is_read_only(pod, wanted["name"]):
                mount.readonly = True

    def _is_read_only(self, pod: Mapping[str, Any], name: str) -> bool:
        """Whether a volume is claimed for reading, or one of the machine's own files, which a Pod of a lab may only read."""
        found = self.volumes.source(pod, next(v for v in pod["spec"]["volumes"] if v["name"] == name))
        if found.read_only or kind_of(found.volume) != "hostPath":
            return found.read_only
        real = Path(os.path.realpath(found.volume["hostPath"]["path"]))
        return any(real == base or base in real.parents for base in map(Path, READ_ONLY_HOST_PATHS))

    def _claimed(self, pod: Mapping[str, Any]) -> dict[str, str]:
        """Volume name → place on the node, for the Pod's claims."""
        claims = (volume for volume in pod["spec"].get("volumes", ()) if kind_of(volume) in CLAIMS)
        return {volume["name"]: str(place) for volume in claims if (place := self.volumes.place(pod, volume)) is not None}

    def _sub_paths(self, pod: Mapping[str, Any], container: Mapping[str, Any], config: Any) -> None:
        """Put what is safely mounted in the place of volume/subPath, for each mount that has one."""
        variables = lenient.variables_of(config)
        named = {volume["name"]: volume for volume in pod["spec"].get("volumes", ())}
        targets = self.pod_directory(pod) / "volume-subpaths"
        for index, mount in enumerate(container.get("volumeMounts", ())):
            wanted = mount.get("subPath") or expanded(mount.get("subPathExpr", ""), variables)
            place = self.volumes.place(pod, named[mount["name"]])
            if not wanted or place is None:
                continue
            target = below(targets, mount["name"], container["name"], str(index))
            failed = "prepare subPath" if os.path.lexists(place / wanted) else "create subPath directory"
            try:
                config.mounts[index].host_path = str(subpaths.prepare(place, wanted, target))
            except (OSError, ValueError):
                raise CreateContainerConfigError(
                    f'failed to {failed} for volumeMount "{mount["name"]}" of container "{container["name"]}"'
                ) from None


def expanded(expression: str, variables: Mapping[str, str]) -> str:
    """A subPathExpr with its variables filled in (ExpandContainerVolumeMounts). Raises CreateContainerConfigError for those that
    are not there, or empty."""
    named = re.findall(r"\$(?:\$|\(([^)]*)\))", expression)
    missing = sorted({name for name in named if name and not variables.get(name)})
    if missing:
        raise CreateContainerConfigError(f"missing value for {', '.join(missing)}")
    return expand(expression, variables)


def hosts_file(pod: Mapping[str, Any], ips: Sequence[str]) -> str:
    """/etc/hosts of a Pod's containers."""
    spec = pod["spec"]
    if spec.get("hostNetwork"):
        text = HOSTS_OF_NODE + Path("/etc/hosts").read_text()
    else:
        hostname = (spec.get("hostname") or pod["metadata"]["name"])[:63].rstrip("-.")
        text = managed_hosts_file(ips or ("127.0.0.1",), hostname)
    aliases = spec.get("hostAliases", ())
    return text + (ALIASES if aliases else "") + "".join(
        "\t".join([alias["ip"], *alias.get("hostnames", ())]) + "\n" for alias in aliases
    )
