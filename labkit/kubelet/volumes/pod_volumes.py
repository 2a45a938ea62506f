"""The volumes of a Pod: made, filled and kept up to date before and while its containers run; removed with the Pod.

Knowledge: kubelet's volumemanager and kubernetes' pkg/volume/{emptydir,hostpath,local,configmap,secret,downwardapi,projected,csi,
git_repo}.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.kernel.parse import mount_points_below
from labkit.kubelet.api import ApiClient, ApiClientError, segment
from labkit.kubelet.go_format import os_error
from labkit.kubelet.volumes import empty_dirs, fs_group, inside, nested
from labkit.kubelet.volumes.atomic import File, check_path, write_files
from labkit.kubelet.volumes.bound_claims import CLAIMS, NotBound, VolumeSource, resolve
from labkit.kubelet.volumes.hostpaths import Fence
from labkit.kubelet.volumes.objects import Objects
from labkit.podspec import volume_kind
from labkit.podspec.go_text import go_quote
from labkit.podspec.messages import CreateContainerConfigError, MachineInfo
from labkit.podspec.messages.container_env import container_of_field, pod_field, resource_field
from labkit.podspec.messages.container_mounts import PLUGINS
from labkit.util import trees
from labkit.util.safepath import below

FILLED = ("configMap", "secret", "downwardAPI", "projected")
IN_MEMORY = ("secret", "downwardAPI", "projected")
"""Those whose files never reach a disk."""

NO_GIT = (
    "git-repo volume plugin has been disabled; if necessary, it may be re-enabled by enabling the feature-gate "
    "`GitRepoVolumeDriver`"
)


class MountError(Exception):
    """A volume cannot be set up. `volume` is its name; `setup` says whether its plugin failed or none was found; `step` is what
    the plugin failed at."""

    def __init__(self, volume: str, message: str, *, setup: bool = True, step: str = "SetUp failed") -> None:
        self.volume, self.setup, self.step = volume, setup, step
        super().__init__(message)

    def event(self) -> str:
        """The words of the FailedMount event."""
        if self.setup:
            return f'MountVolume.{self.step} for volume "{self.volume}" : {self}'
        return (
            f"Unable to attach or mount volumes: unmounted volumes=[{self.volume}], unattached volumes=[], "
            f"failed to process volumes=[{self.volume}]: {self}"
        )


@dataclass(frozen=True)
class Volumes:
    """Sets up Pods' volumes below `root`/pods/UID/volumes. `host_paths`: the directories that a hostPath may lie in and be
    written to (see `Fence`). `mount_memory` is for tests that may not mount."""

    root: Path
    objects: Objects
    api: ApiClient
    machine: MachineInfo
    host_paths: Sequence[Path]
    mount_memory: Callable[[Path, Mapping[str, Any], Mapping[str, Any], MachineInfo], None] = empty_dirs.mount_memory
    _claimed: dict[tuple[str, str], VolumeSource] = field(default_factory=dict)

    def source(self, pod: Mapping[str, Any], volume: Mapping[str, Any]) -> VolumeSource:
        """A volume of the manifest as it is mounted: a claim that was set up is what it stands for."""
        return self._claimed.get((pod["metadata"]["uid"], volume["name"])) or VolumeSource(volume)

    def place(self, pod: Mapping[str, Any], volume: Mapping[str, Any]) -> Path | None:
        """Where a volume lies; None for a kind that has no place of its own."""
        volume = self.source(pod, volume).volume
        kind = volume_kind(volume)
        if kind == "hostPath":
            return Path(volume["hostPath"]["path"])
        if kind not in PLUGINS or kind == "nfs":
            return None
        plugin = f"kubernetes.io~{PLUGINS[kind]}"
        return below(self.root / "pods", pod["metadata"]["uid"], "volumes", plugin, volume["name"], what="uid or volume name")

    @property
    def fence(self) -> Fence:
        return Fence(self.host_paths)

    @contextlib.contextmanager
    def opened(self, pod: Mapping[str, Any], volume: Mapping[str, Any]) -> Iterator[tuple[int, bool]]:
        """A descriptor of a volume that has a place, and whether a Pod can only read it. Raises OSError and ValueError."""
        source, place = self.source(pod, volume).volume, self.place(pod, volume)
        assert place is not None
        if volume_kind(source) == "hostPath":
            with self.fence.host_path(source["hostPath"]) as opened:
                yield opened
            return
        found = os.open(place, inside.FOUND)
        try:
            yield found, False
        finally:
            os.close(found)

    def set_up(self, pod: Mapping[str, Any], volume: Mapping[str, Any], pod_ips: Sequence[str] = ()) -> None:
        """Make one volume and what is in it; what is there already is brought up to date. Raises MountError."""
        kind, name = volume_kind(volume), volume["name"]
        try:
            if kind in CLAIMS:
                found = self._claimed[pod["metadata"]["uid"], name] = resolve(self.api, pod, volume)
                volume, name = found.volume, found.volume["name"]
                kind = volume_kind(volume)
            if kind == "emptyDir":
                self._empty_dir(pod, volume)
            elif kind == "hostPath":
                with self.fence.host_path(volume["hostPath"]):
                    pass
            elif kind == "local":
                self._local(pod, volume)
            elif kind in FILLED:
                place = self.place(pod, volume)
                assert place is not None
                self._filled(pod, volume, kind, place)
            elif kind == "csi":
                driver = f"driver name {volume['csi']['driver']} not found in the list of registered CSI drivers"
                raise ValueError(f"kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: {driver}")
            elif kind == "gitRepo":
                raise ValueError(NO_GIT)
            elif kind != "image":
                raise MountError(name, f'failed to get Plugin from volumeSpec for volume "{name}" err=no volume plugin matched',
                                 setup=False)
        except NotBound as error:
            raise MountError(name, str(error), setup=False) from None
        except OSError as error:
            path = volume["hostPath"]["path"] if kind == "hostPath" else None
            raise MountError(name, os_error(error, "open" if kind in FILLED else "mkdir", path)) from None
        except (ApiClientError, ValueError) as error:
            raise MountError(name, str(error)) from None

    def remove(self, uid: str, *, everything: bool = True) -> None:
        """Unmount a Pod's volumes and remove its directory, or, while its containers may still be looked at, its volumes alone.

        Nothing is removed where something cannot be unmounted: it would be removed in the place where it is mounted from.
        """
        directory = below(self.root / "pods", uid, what="uid")
        for key in [key for key in self._claimed if key[0] == uid]:
            self._claimed.pop(key, None)
        if not directory.is_dir():
            return
        mounts = mounts_below(directory)
        for mount in mounts:
            with contextlib.suppress(OSError):
                inside.unmount(Path(mount))
        if not (mounts and mounts_below(directory)):
            trees.remove(directory if everything else directory / "volumes")

    def _empty_dir(self, pod: Mapping[str, Any], volume: Mapping[str, Any]) -> None:
        """Made once: what a container does to the directory itself stays (a file `ready` says that it is there)."""
        place, medium = self.place(pod, volume), (volume["emptyDir"] or {}).get("medium") or ""
        assert place is not None
        ready = below(self.root / "pods", pod["metadata"]["uid"], "plugins", "kubernetes.io~empty-dir", volume["name"]) / "ready"
        mounted = bool(medium) and str(place) in mounts_below(place)
        if ready.exists() and (mounted if medium else place.is_dir()):
            return
        if not mounted:
            place.mkdir(parents=True, exist_ok=True)
            place.chmod(0o777)
        if medium and not mounted:
            self.mount_memory(place, pod, volume["emptyDir"], self.machine)
        group = pod["spec"]["securityContext"].get("fsGroup")
        if group is not None:
            fs_group.give(place, group)
        ready.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        ready.touch()

    def _filled(self, pod: Mapping[str, Any], volume: Mapping[str, Any], kind: str, place: Path) -> None:
        """A volume of files from API objects, all but a ConfigMap's in memory."""
        files = dict(self._files(pod, kind, volume[kind]))
        place.mkdir(parents=True, exist_ok=True)
        if kind in IN_MEMORY and str(place) not in mounts_below(place):
            self.mount_memory(place, pod, {"medium": "Memory"}, self.machine)
        try:
            nested.make_mount_points(place, volume["name"], pod)
        except (OSError, ValueError) as error:
            words = os_error(error, "mkdir") if isinstance(error, OSError) else error
            raise ValueError(f"unable to create nested volume mountpoints: {words}") from None
        write_files(place, files, pod["spec"]["securityContext"].get("fsGroup"))

    def _local(self, pod: Mapping[str, Any], volume: Mapping[str, Any]) -> None:
        """A directory of the node, mounted in the Pod's own."""
        path, place = Path(volume["local"]["path"]), self.place(pod, volume)
        if not path.exists():
            words = f"path {go_quote(str(path))} does not exist"
            raise MountError(volume["name"], words, step="NewMounter initialization failed")
        assert place is not None
        with self.fence.opened(path, kind="local volume") as (found, read_only):
            if str(place) in mounts_below(place):
                return
            inside.mount(found, place, read_only=read_only)
        context = pod["spec"]["securityContext"]
        if context.get("fsGroup") is not None and not read_only:
            fs_group.give(place, context["fsGroup"], policy=context.get("fsGroupChangePolicy") or "Always")

    def _files(self, pod: Mapping[str, Any], kind: str, source: Mapping[str, Any]) -> Iterator[tuple[str, File]]:
        """Relative path and file, for each file of a volume that is made of API objects."""
        mode = source.get("defaultMode", 0o644)
        if kind == "projected":
            yield from self._projected(pod, source.get("sources", ()), mode)
        elif kind == "downwardAPI":
            for item in source.get("items", ()):
                check_path(item["path"])
                yield item["path"], File(self._field(pod, item).encode(), item.get("mode", mode))
        else:
            yield from self._keys(pod, kind, source, mode)

    def _projected(self, pod: Mapping[str, Any], sources: Sequence[Mapping[str, Any]], mode: int) -> list[tuple[str, File]]:
        """The files of all sources. Raises ValueError with what is wrong with any of them."""
        files: list[tuple[str, File]] = []
        problems: list[str] = []
        for one in sources:
            inner = next(iter(one), "")
            try:
                if not inner:
                    continue
                if inner == "serviceAccountToken":
                    files.append(self._token(pod, one[inner], mode))
                elif inner in ("configMap", "secret", "downwardAPI"):
                    files += self._files(pod, inner, {"defaultMode": mode, **one[inner]})
                else:
                    words = f"projected source {inner} is not served by this kubelet: use configMap, secret or downwardAPI"
                    raise ValueError(words)
            except ValueError as error:
                problems.append(str(error))
        if problems:
            unique = list(dict.fromkeys(problems))
            raise ValueError(unique[0] if len(unique) == 1 else f"[{', '.join(unique)}]")
        return files

    def _keys(self, pod: Mapping[str, Any], kind: str, source: Mapping[str, Any], mode: int) -> Iterator[tuple[str, File]]:
        """A ConfigMap's or Secret's keys as files: all, or those that `items` picks."""
        name = source.get("secretName") or source.get("name", "")
        data = self.objects.data("configmaps" if kind == "configMap" else "secrets", pod["metadata"]["namespace"], name)
        if data is None:
            if source.get("optional"):
                return
            raise ValueError(f'{"configmap" if kind == "configMap" else "secret"} "{name}" not found')
        if not source.get("items"):
            for key, value in data.items():
                yield key, File(value, mode)
            return
        for item in source["items"]:
            check_path(item["path"])
            if item["key"] in data:
                yield item["path"], File(data[item["key"]], item.get("mode", mode))
            elif not source.get("optional"):
                words = "configmap references non-existent config" if kind == "configMap" else "references non-existent secret"
                raise ValueError(f"{words} key: {item['key']}")

    def _field(self, pod: Mapping[str, Any], item: Mapping[str, Any]) -> str:
        try:
            if "fieldRef" in item:
                return pod_field(pod, item["fieldRef"]["fieldPath"])
            reference = item["resourceFieldRef"]
            return resource_field(reference, pod, container_of_field(pod, reference["containerName"]), self.machine)
        except (CreateContainerConfigError, KeyError) as error:
            raise ValueError(str(error)) from None

    def _token(self, pod: Mapping[str, Any], source: Mapping[str, Any], mode: int) -> tuple[str, File]:
        metadata = pod["metadata"]
        account = pod["spec"].get("serviceAccountName", "default")
        wanted = {
            "audiences": [source["audience"]] if source.get("audience") else [],
            "expirationSeconds": source.get("expirationSeconds", 3600),
            "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": metadata["name"], "uid": metadata["uid"]},
        }
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": wanted}
        try:
            path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{segment(account)}/token"
            return source["path"], File(self.api.post(path, body)["status"]["token"].encode(), mode)
        except (ApiClientError, KeyError) as error:
            raise ValueError(f"failed to fetch token: {error}") from None


def mounts_below(directory: Path) -> list[str]:
    """Mount points at or below a directory, the deepest first (source: /proc/self/mountinfo, man 5 proc)."""
    return mount_points_below(os.fsdecode(Path("/proc/self/mountinfo").read_bytes()), str(directory))
