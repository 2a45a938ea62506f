"""Claims as volumes: what a bound one stands for, and the kubelet's words for one that stands for nothing."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from labkit.kubelet.api import ApiClientError
from labkit.kubelet.containers.configuration import Configuration
from labkit.kubelet.containers.images import NodeImage
from labkit.kubelet.volumes import inside
from labkit.kubelet.volumes.bound_claims import NotBound, resolve
from labkit.kubelet.volumes.objects import Objects
from labkit.kubelet.volumes.pod_volumes import MountError, Volumes
from labkit.podspec.messages import MachineInfo
from tests.unit.kubelet_pods import container, pod

CLAIM = {"metadata": {"uid": "c1"}, "spec": {"volumeName": "disk"}, "status": {"phase": "Bound"}}


class Api:
    def __init__(self, claim=None, source=None, owner="c1"):
        self.held = {"/api/v1/persistentvolumes/disk": {"spec": {**(source or {}), "claimRef": {"uid": owner}, "capacity": {}}}}
        if claim:
            self.held["/api/v1/namespaces/default/persistentvolumeclaims/data"] = claim
            self.held["/api/v1/namespaces/default/persistentvolumeclaims/web-v"] = claim

    def get(self, path):
        if path not in self.held:
            raise ApiClientError(404, "NotFound", f'persistentvolumeclaims "{path.rpartition("/")[2]}" not found')
        return self.held[path]


def claiming(**more):
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "data", **more}}
    return pod(container(volumeMounts=[{"name": "v", "mountPath": "/d"}]), volumes=[volume])


def volumes_of(tmp_path, api):
    (tmp_path / "allowed").mkdir()
    return Volumes(tmp_path / "root", Objects(api), api, MachineInfo(1 << 30, 2), (tmp_path / "allowed",))


def mounted(tmp_path, manifest, volumes, monkeypatch):
    """What the container's first volume is mounted from, and as the runtime is asked for it."""
    mounts = {}
    keep = lambda found, place, **more: mounts.update({str(place): (os.readlink(f"/proc/self/fd/{found}"), more)})  # noqa: E731
    monkeypatch.setattr(inside, "mount", keep)
    volumes.set_up(manifest, manifest["spec"]["volumes"][0])
    here = MachineInfo(1 << 30, 2)
    configuration = Configuration(tmp_path / "root", tmp_path / "logs", "", "10.0.0.1", here, volumes.objects, volumes)
    configuration.make_directories(manifest)
    made = configuration.container(manifest, manifest["spec"]["containers"][0], 0, NodeImage("sha256:1", 0), ["10.88.0.5"])
    mount = next(mount for mount in made.mounts if mount.container_path == "/d")
    return mounts[mount.host_path], mount


def test_a_bound_claim_is_its_volume(tmp_path, monkeypatch):
    place = str(tmp_path / "allowed")
    source, mount = mounted(tmp_path, claiming(), volumes_of(tmp_path, Api(CLAIM, {"hostPath": {"path": place}})), monkeypatch)
    assert source == (place, {"read_only": False, "shared": False}) and not mount.readonly


def test_a_claim_for_reading_is_mounted_for_reading(tmp_path, monkeypatch):
    api = Api(CLAIM, {"hostPath": {"path": str(tmp_path / "allowed")}})
    assert mounted(tmp_path, claiming(readOnly=True), volumes_of(tmp_path, api), monkeypatch)[1].readonly


@pytest.mark.parametrize("kind", ["hostPath", "local"])
def test_the_machines_own_files_are_mounted_for_reading_with_all_that_is_mounted_there(tmp_path, monkeypatch, kind):
    volumes = volumes_of(tmp_path, Api(CLAIM, {kind: {"path": "/sys"}}))
    (source, how), _ = mounted(tmp_path, claiming(), volumes, monkeypatch)
    assert source == "/sys" and how["read_only"]


def test_the_fence_is_around_claimed_volumes_too(tmp_path):
    volumes, manifest = volumes_of(tmp_path, Api(CLAIM, {"hostPath": {"path": "/root"}})), claiming()
    with pytest.raises(MountError, match="forbids hostPath /root") as caught:
        volumes.set_up(manifest, manifest["spec"]["volumes"][0])
    assert caught.value.event().startswith('MountVolume.SetUp failed for volume "disk" : ')


def test_a_local_volume_that_is_not_there(tmp_path):
    volumes, manifest = volumes_of(tmp_path, Api(CLAIM, {"local": {"path": f"{tmp_path}/allowed/none"}})), claiming()
    with pytest.raises(MountError) as caught:
        volumes.set_up(manifest, manifest["spec"]["volumes"][0])
    words = f'MountVolume.NewMounter initialization failed for volume "disk" : path "{tmp_path}/allowed/none" does not exist'
    assert caught.value.event() == words


@pytest.mark.parametrize(
    ("api", "words"),
    [
        (Api(), 'failed to fetch PVC from API server: persistentvolumeclaims "data" not found'),
        (Api({**CLAIM, "status": {"phase": "Pending"}}), "PVC is not bound"),
        (Api({**CLAIM, "metadata": {"uid": "c1", "deletionTimestamp": "now"}}), "PVC is being deleted"),
        (Api(CLAIM, owner="another"), "found PV object disk with unexpected"),
    ],
)
def test_what_cannot_be_mounted_is_told_as_a_kubelet_does(api, words):
    with pytest.raises(NotBound) as caught:
        manifest = claiming()
        resolve(api, manifest, manifest["spec"]["volumes"][0])
    assert str(caught.value).startswith(f"error processing PVC default/data: {words}")


def test_an_ephemeral_claim_must_be_the_pods_own():
    volume = {"name": "v", "ephemeral": {}}
    with pytest.raises(NotBound, match="was not created for pod default/web"):
        resolve(Api(CLAIM), pod(), volume)
    own = {**CLAIM, "metadata": {"uid": "c1", "ownerReferences": [{"uid": "u1"}]}}
    assert resolve(Api(own, {"hostPath": {"path": "/x"}}), pod(), volume).volume == {"name": "disk", "hostPath": {"path": "/x"}}


def test_the_api_is_asked_with_the_pods_namespace():
    asked = []
    api = SimpleNamespace(get=lambda path: asked.append(path) or CLAIM)
    with pytest.raises(NotBound):
        resolve(api, claiming(), {"name": "v", "persistentVolumeClaim": {"claimName": "data"}})
    assert asked[0] == "/api/v1/namespaces/default/persistentvolumeclaims/data"
