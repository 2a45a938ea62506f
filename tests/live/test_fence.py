"""An ordinary Pod tries to get at the machine through its volumes: to write where it may only read, and to be led elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.kernel.parse import parse_mountinfo
from labkit.kubelet.api import ApiClientError
from labkit.kubelet.volumes.pod_volumes import mounts_below
from tests.live.cluster import Cluster, wait_for
from tests.live.test_kubelet import cluster, ends, pod, runs, shell  # noqa: F401

OPEN = """
exec 2>/dev/null
all=$(find /h -xdev -maxdepth 3 -type f -perm -200; find /h /h/fs/cgroup -maxdepth 3 -name cgroup.procs)
for file in $all /h/sys/kernel/core_pattern /h/sys/fs/binfmt_misc/register /h/sysrq-trigger; do
  [ -e $file ] && tried=1 && (: >> $file) && echo can write $file
done
for directory in /h /h/fs/cgroup /h/fs/cgroup/* /h/*; do
  mkdir $directory/labkit-fence && rmdir $directory/labkit-fence && echo can make $directory/labkit-fence
done
echo tried $tried
"""
"""Opens for writing whatever can be, without writing to it."""


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A directory of the machine that is none of the lab's business, in which nothing may appear."""
    directory = tmp_path / "victim"
    directory.mkdir()
    (directory / "dir").mkdir()
    yield directory
    assert [str(path) for path in directory.rglob("*")] == [str(directory / "dir")]


@pytest.fixture
def machines_mounts(cluster: Cluster) -> Iterator[None]:  # noqa: F811
    """No mount of the machine goes with a Pod that had it as a volume. The API forgets a Pod that has ended at once, before the
    kubelet has unmounted its volumes."""
    before = system_mounts()
    yield
    for item in cluster.api.get(f"{cluster.path}/pods")["items"]:
        cluster.delete(item["metadata"]["name"])
    wait_for(lambda: not cluster.api.get(f"{cluster.path}/pods")["items"], "every Pod to be gone")
    wait_for(lambda: not mounts_below(cluster.home.kubelet_root / "pods"), "the kubelet to unmount what they had")
    assert system_mounts() == before


def system_mounts() -> list[str]:
    found = parse_mountinfo(Path("/proc/self/mountinfo").read_text())
    return sorted(mount.mount_point for mount in found if mount.mount_point.startswith(("/sys", "/proc", "/dev")))


def host_path(cluster: Cluster, *names: str) -> str:  # noqa: F811
    return str(cluster.home.data.joinpath("hostpath", *names))


def said_of(cluster: Cluster, name: str) -> str:  # noqa: F811
    """The events that say why a Pod does not start."""
    return "\n".join(cluster.messages(name, "FailedMount") + cluster.messages(name, "Failed"))


@pytest.mark.parametrize(
    ("path", "mount"),
    [
        ("/sys", {}),
        ("/sys", {"subPath": "fs/cgroup"}),
        ("/sys/fs", {"subPathExpr": "cgroup"}),
        ("/sys/fs/cgroup", {}),
        ("/proc", {}),
    ],
    ids=["sys", "sub-path", "expression", "cgroup", "proc"],
)
@pytest.mark.usefixtures("machines_mounts")
def test_the_machines_own_files_can_only_be_read(cluster: Cluster, path: str, mount: dict[str, str]) -> None:  # noqa: F811
    tries = shell(OPEN, volumeMounts=[{"name": "h", "mountPath": "/h", **mount}])
    cluster.create(pod("reads", tries, volumes=[{"name": "h", "hostPath": {"path": path}}], restartPolicy="Never"))
    assert ends(cluster, "reads") == "Succeeded", said_of(cluster, "reads")
    assert cluster.log("reads").splitlines() == ["tried 1"]


@pytest.mark.usefixtures("machines_mounts")
def test_a_local_volume_of_the_machines_own_files_can_only_be_read(cluster: Cluster) -> None:  # noqa: F811
    here = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["sim-worker"]}]}
    mode: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "storageClassName": "fence"}
    disk = {**mode, "capacity": {"storage": "1Gi"}, "local": {"path": "/sys"}, "persistentVolumeReclaimPolicy": "Retain",
            "nodeAffinity": {"required": {"nodeSelectorTerms": [here]}}}
    claim = {**mode, "volumeName": "fence", "resources": {"requests": {"storage": "1Gi"}}}
    disks, claims = "/api/v1/persistentvolumes", f"{cluster.path}/persistentvolumeclaims"
    cluster.api.post(disks, {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "fence"}, "spec": disk})
    try:
        made = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "fence"}, "spec": claim}
        cluster.api.post(claims, made)
        tries = shell(OPEN, volumeMounts=[{"name": "h", "mountPath": "/h"}])
        volume = {"name": "h", "persistentVolumeClaim": {"claimName": "fence"}}
        cluster.create(pod("claims", tries, volumes=[volume], restartPolicy="Never"))
        assert ends(cluster, "claims") == "Succeeded", said_of(cluster, "claims")
        assert cluster.log("claims").splitlines() == ["tried 1"]
        cluster.delete("claims")
    finally:
        for path in (f"{claims}/fence", f"{disks}/fence"):
            with contextlib.suppress(ApiClientError):
                cluster.api.delete(path)


@pytest.mark.parametrize("sub_path", ["", "dir"], ids=["path", "sub-path"])
@pytest.mark.parametrize("again", [False, True], ids=["init", "restart"])
def test_a_directory_exchanged_for_a_link_is_not_mounted(cluster: Cluster, victim: Path, again: bool, sub_path: str) -> None:  # noqa: F811
    """By the container before it, or by the same one before it starts again."""
    base = host_path(cluster, f"swap-{again}-{sub_path}")
    up, there = {"name": "up", "mountPath": "/up"}, {"name": "dir", "mountPath": "/h", "subPath": sub_path}
    swap, write = f"mv /up/dir /up/aside && ln -s {victim} /up/dir", "touch /h/escaped && sleep 1000"
    volumes = [
        {"name": "dir", "hostPath": {"path": f"{base}/dir", "type": "DirectoryOrCreate"}},
        {"name": "up", "hostPath": {"path": base, "type": "DirectoryOrCreate"}},
    ]
    if again:
        app = shell(f"if [ -e /up/aside ]; then {write}; else {swap}; exit 1; fi", volumeMounts=[up, there])
        cluster.create(pod("swaps", app, volumes=volumes))
    else:
        init = {**shell(swap, volumeMounts=[up]), "name": "init"}
        cluster.create(pod("swaps", shell(write, volumeMounts=[there]), initContainers=[init], volumes=volumes))
    said = wait_for(lambda: said_of(cluster, "swaps"), "the Pod to be refused")
    assert f"this lab forbids hostPath {base}/dir" in said
    wait_for(lambda: "CreateContainerConfigError" in cluster.reasons("swaps"), "the container's reason")


def test_the_root_of_a_pod_is_no_way_out(cluster: Cluster, victim: Path) -> None:  # noqa: F811
    """A link of /proc to a container's root: there the path is a link to a directory of the machine."""
    inside = host_path(cluster, "magic")
    Path(inside).mkdir(parents=True, exist_ok=True)
    cluster.create(pod("owner", shell(f"mkdir -p {Path(inside).parent}; ln -s {victim} {inside}; sleep 1000")))
    runs(cluster, "owner")
    pid = wait_for(lambda: linked(cluster, inside), "the link in the Pod")
    root = f"/proc/{pid}/root"
    for number, path in enumerate((root + inside, f"{root}{inside}/dir", root, f"/proc/{pid}/cwd")):
        name = f"follows{number}"
        writes = shell("touch /h/escaped", volumeMounts=[{"name": "h", "mountPath": "/h"}])
        cluster.create(pod(name, writes, volumes=[{"name": "h", "hostPath": {"path": path}}], restartPolicy="Never"))
        assert f"this lab forbids hostPath {path}" in wait_for(lambda name=name: said_of(cluster, name), f"{path} to be refused")


def linked(cluster: Cluster, path: str) -> int:  # noqa: F811
    """The pid of a process in whose root there is a link at `path`."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / f"root{path}").is_symlink():
                return int(process.name)
    return 0


def test_nothing_is_made_beside_what_may_be_written_to(cluster: Cluster) -> None:  # noqa: F811
    place = Path("/usr/share/zoneinfo/labkit-fence")
    try:
        for number, kind in enumerate(("", "DirectoryOrCreate", "FileOrCreate")):
            app = shell("true", volumeMounts=[{"name": "h", "mountPath": "/h", "subPath": "a"}])
            cluster.create(pod(f"makes{number}", app, volumes=[{"name": "h", "hostPath": {"path": str(place), "type": kind}}]))
            assert wait_for(lambda name=f"makes{number}": said_of(cluster, name), "the Pod to be refused")
            assert not place.exists()
        app = shell("true", volumeMounts=[{"name": "h", "mountPath": "/h", "subPath": place.name}])
        cluster.create(pod("makes", app, volumes=[{"name": "h", "hostPath": {"path": str(place.parent)}}]))
        assert "create subPath directory" in wait_for(lambda: said_of(cluster, "makes"), "the Pod to be refused")
        assert not place.exists()
    finally:
        if place.is_dir():
            place.rmdir()
        place.unlink(missing_ok=True)
