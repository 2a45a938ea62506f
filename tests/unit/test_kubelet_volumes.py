"""Volumes as files: ConfigMaps and Secrets changed all at once, hostPath with its fence, subPath that cannot leave its volume."""

from __future__ import annotations

import base64
import dataclasses
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from labkit.kubelet.api import ApiClientError
from labkit.kubelet.containers.configuration import Configuration, expanded
from labkit.kubelet.containers.images import NodeImage
from labkit.kubelet.volumes import empty_dirs, fs_group, pod_volumes, subpaths
from labkit.kubelet.volumes.atomic import File, check_path, write_files
from labkit.kubelet.volumes.objects import Objects
from labkit.kubelet.volumes.pod_volumes import MountError, Volumes, mounts_below
from labkit.podspec.messages import CreateContainerConfigError, MachineInfo
from tests.unit.kubelet_pods import container, pod

GIVES = MachineInfo(memory_bytes=1 << 30, cpus=2)


class Api:
    def __init__(self, **objects):
        self.objects = objects

    def get(self, path):
        name = path.rpartition("/")[2]
        if name not in self.objects:
            raise ApiClientError(404, "NotFound", f'"{name}" not found')
        return self.objects[name]

    def post(self, path, body):
        raise ApiClientError(404, "NotFound", 'serviceaccounts "default" not found')


@pytest.fixture
def volumes(tmp_path):
    api = Api(
        settings={"kind": "ConfigMap", "data": {"colour": "blue", "size": "7"}, "binaryData": {"raw": "AAE="}},
        login={"kind": "Secret", "data": {"password": base64.b64encode(b"secret").decode()}},
    )
    (tmp_path / "allowed").mkdir()
    return Volumes(tmp_path, Objects(api), api, MachineInfo(1 << 30, 2), (tmp_path / "allowed",), lambda *volume: None)


def set_up(volumes, volume, **metadata):
    manifest = pod()
    manifest["metadata"].update(metadata)
    named = {"name": "v", **volume}
    volumes.set_up(manifest, named)
    return volumes.place(manifest, named)


def refused(volumes, volume, **metadata):
    with pytest.raises(MountError) as caught:
        set_up(volumes, volume, **metadata)
    return caught.value.event()


def test_the_directory_of_host_paths_is_made_again_where_somebody_took_it_away(volumes, tmp_path):
    (tmp_path / "allowed").rmdir()
    set_up(volumes, {"hostPath": {"path": str(tmp_path / "allowed/new"), "type": "DirectoryOrCreate"}})
    assert (tmp_path / "allowed/new").is_dir()


def test_a_config_map_becomes_files(volumes):
    place = set_up(volumes, {"configMap": {"name": "settings"}})
    assert {f: (place / f).read_bytes() for f in ("colour", "size", "raw")} == {"colour": b"blue", "size": b"7", "raw": b"\0\1"}
    assert os.readlink(place / "colour") == "..data/colour" and (place / "..data").is_symlink()
    assert (place / "colour").stat().st_mode & 0o777 == 0o644


def test_items_pick_keys_and_modes(volumes):
    items = [{"key": "password", "path": "deep/er/pw", "mode": 0o400}]
    place = set_up(volumes, {"secret": {"secretName": "login", "items": items}})
    assert (place / "deep/er/pw").read_text() == "secret"
    assert (place / "deep/er/pw").stat().st_mode & 0o777 == 0o400
    assert not (place / "password").exists()


def test_a_changed_object_changes_the_files_in_one_step(tmp_path):
    files = {"a": File(b"1", 0o644), "b": File(b"1", 0o644)}
    assert write_files(tmp_path, files) is True
    first = os.readlink(tmp_path / "..data")
    assert write_files(tmp_path, files) is False and os.readlink(tmp_path / "..data") == first
    assert write_files(tmp_path, {"a": File(b"2", 0o600)}) is True
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o777
    assert (tmp_path / "a").read_bytes() == b"2" and not (tmp_path / "b").is_symlink()
    assert os.readlink(tmp_path / "..data") != first and not (tmp_path / first).exists()


def test_fs_group_may_read_every_file_and_owns_what_is_made_later(tmp_path):
    group = os.getgid()
    files = {"a": File(b"1", 0o400), "b/c": File(b"2", 0o600)}
    assert write_files(tmp_path, files, group) is True and write_files(tmp_path, files, group) is False
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in (".", "..data", "a", "b", "b/c")}
    assert modes == {".": 0o2777, "..data": 0o2755, "a": 0o440, "b": 0o2755, "b/c": 0o640}


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "..x", ""])
def test_no_file_is_written_outside_of_its_volume(volumes, path):
    words = refused(volumes, {"configMap": {"name": "settings", "items": [{"key": "colour", "path": path}]}})
    assert words.startswith('MountVolume.SetUp failed for volume "v" : invalid path')


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        ({"configMap": {"name": "absent"}}, 'configmap "absent" not found'),
        ({"secret": {"secretName": "absent"}}, 'secret "absent" not found'),
        (
            {"configMap": {"name": "settings", "items": [{"key": "no", "path": "p"}]}},
            "configmap references non-existent config key: no",
        ),
        (
            {"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
            'failed to fetch token: serviceaccounts "default" not found',
        ),
    ],
)
def test_what_is_missing_is_told_as_a_kubelet_does(volumes, volume, words):
    assert refused(volumes, volume) == f'MountVolume.SetUp failed for volume "v" : {words}'


def test_what_is_optional_may_be_missing(volumes):
    place = set_up(volumes, {"configMap": {"name": "absent", "optional": True}})
    assert place.is_dir() and [p.name for p in place.iterdir() if not p.name.startswith("..")] == []


def test_the_downward_api_and_projected_volumes(volumes):
    field = {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}
    limit = {"path": "cpu", "resourceFieldRef": {"containerName": "app", "resource": "limits.cpu"}}
    sources = [{"downwardAPI": {"items": [field, limit]}}, {"configMap": {"name": "settings"}}]
    place = set_up(volumes, {"projected": {"sources": sources}}, labels={"b": 'say "hi"', "a": "1"})
    assert (place / "labels").read_text() == 'a="1"\nb="say \\"hi\\""'
    assert (place / "cpu").read_text() == "2" and (place / "colour").read_text() == "blue"


def test_a_kind_that_no_plugin_knows(volumes):
    words = refused(volumes, {"flexVolume": {"driver": "example.com/none"}})
    assert words.startswith("Unable to attach or mount volumes: unmounted volumes=[v]")
    assert words.endswith('failed to get Plugin from volumeSpec for volume "v" err=no volume plugin matched')


def test_host_paths_are_fenced_in(volumes, tmp_path):
    allowed = tmp_path / "allowed"
    set_up(volumes, {"hostPath": {"path": str(allowed / "new"), "type": "DirectoryOrCreate"}})
    assert (allowed / "new").is_dir()
    (allowed / "out").symlink_to("/etc")
    for path in ("/", "/etc/shadow", "/root", str(allowed / "out")):
        assert "this lab forbids hostPath" in refused(volumes, {"hostPath": {"path": path}}), path
    set_up(volumes, {"hostPath": {"path": "/proc", "type": "Directory"}})
    set_up(volumes, {"hostPath": {"path": "/etc/os-release", "type": "File"}})


def test_host_paths_are_made_only_where_they_may_be_written_to(volumes, tmp_path):
    set_up(volumes, {"hostPath": {"path": str(tmp_path / "allowed/file"), "type": "FileOrCreate"}})
    set_up(volumes, {"hostPath": {"path": str(tmp_path / "allowed/a/b"), "type": ""}})
    assert (tmp_path / "allowed/file").is_file() and (tmp_path / "allowed/a/b").stat().st_mode & 0o777 == 0o755
    for type in ("", "DirectoryOrCreate", "FileOrCreate"):
        words = "mkdir /proc/labkit: no such file or directory"
        assert words in refused(volumes, {"hostPath": {"path": "/proc/labkit", "type": type}})
    long = tmp_path / "allowed" / ("a" * 300)
    assert f"mkdir {long}: file name too long" in refused(volumes, {"hostPath": {"path": str(long), "type": "DirectoryOrCreate"}})


@pytest.mark.parametrize("path", ["/proc/self/root", "/proc/self/cwd", "/proc/self/exe", "/proc/self/root/etc/shadow"])
def test_a_link_of_proc_leads_nowhere(volumes, path):
    assert "this lab forbids hostPath" in refused(volumes, {"hostPath": {"path": path}})


@pytest.mark.parametrize(
    ("type", "name", "words"),
    [
        ("Directory", "file", "is not a directory"),
        ("Directory", "absent", "is not a directory"),
        ("File", "directory", "is not a file"),
        ("Socket", "file", "is not a socket file"),
        ("CharDevice", "file", "is not a character device"),
        ("BlockDevice", "file", "is not a block device"),
    ],
)
def test_the_type_of_a_host_path_is_checked(volumes, tmp_path, type, name, words):
    (tmp_path / "allowed/file").touch()
    (tmp_path / "allowed/directory").mkdir()
    path = tmp_path / "allowed" / name
    told = refused(volumes, {"hostPath": {"path": str(path), "type": type}})
    assert told == f'MountVolume.SetUp failed for volume "v" : hostPath type check failed: {path} {words}'


def test_a_socket_is_a_socket(volumes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "allowed")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s")
        set_up(volumes, {"hostPath": {"path": str(tmp_path / "allowed/s"), "type": "Socket"}})


def test_a_sub_path_stays_in_its_volume(tmp_path):
    volume = tmp_path / "volume"
    (volume / "a").mkdir(parents=True)
    (volume / "inside").symlink_to("a")
    (volume / "outside").symlink_to("/etc")
    opened = os.open(volume, os.O_PATH)
    for path, wanted in (("a", "a"), ("inside", "a"), ("new//deep/", "new/deep")):
        found = subpaths.open_inside(opened, path)
        assert os.readlink(f"/proc/self/fd/{found}") == str(volume / wanted)
        os.close(found)
    for path in ("outside", "outside/passwd"):
        with pytest.raises(ValueError, match="leads out of the volume"):
            subpaths.open_inside(opened, path)
    for path in ("../x", "/etc", "a/../../x"):
        with pytest.raises(ValueError, match="must be relative"):
            subpaths.open_inside(opened, path)
    with pytest.raises(FileNotFoundError):
        subpaths.open_inside(opened, "absent", make=False)
    os.close(opened)


def test_a_sub_path_is_made_with_its_volumes_mode(tmp_path):
    tmp_path.chmod(0o777)
    opened = os.open(tmp_path, os.O_PATH)
    os.close(subpaths.open_inside(opened, "new/deep"))
    os.close(opened)
    assert all((tmp_path / made).stat().st_mode & 0o777 == 0o777 for made in ("new", "new/deep"))


def test_the_variables_of_a_sub_path_must_be_there():
    assert expanded("$(A)/$$(B)", {"A": "x"}) == "x/$(B)"
    with pytest.raises(CreateContainerConfigError, match="missing value for B, C"):
        expanded("$(A)/$(C)/$(B)", {"A": "x", "B": ""})
    with pytest.raises(CreateContainerConfigError, match=r"^missing value for $"):
        expanded("$()", {"A": "x"})


def test_a_variable_of_a_container_that_is_not_there(volumes, tmp_path):
    limit = {"resourceFieldRef": {"containerName": "nobody", "resource": "limits.cpu"}}
    manifest = pod(container(env=[{"name": "A", "valueFrom": limit}]))
    made = Configuration(tmp_path, tmp_path / "logs", "", "10.0.0.1", GIVES, volumes.objects, volumes)
    with pytest.raises(CreateContainerConfigError, match=r"^container nobody not found$"):
        made.container(manifest, manifest["spec"]["containers"][0], 0, NodeImage("sha256:1", 0), ())


def test_variables_name_what_they_need(volumes):
    references = [
        {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "x"}}},
    ]
    found = volumes.objects.of_environment(pod(), container(env=references))
    assert found == {"configmaps": {"settings": {"colour": b"blue", "size": b"7"}}, "secrets": {}}  # no binaryData in variables


def test_what_a_sub_path_made_in_a_volume_of_files_stays(tmp_path):
    write_files(tmp_path, {"a": File(b"1", 0o600)})
    (tmp_path / "made").mkdir()
    assert write_files(tmp_path, {"b": File(b"1", 0o600)}) is True
    assert sorted(p.name for p in tmp_path.iterdir() if p.name[0] != ".") == ["b", "made"]


def test_a_mount_point_is_found_whatever_bytes_it_is_named_with(monkeypatch):
    """The kernel writes a space as \\040 and every other byte as it is."""
    lines = "36 25 0:30 / /pods/u1/é\\040x rw - tmpfs tmpfs rw\n37 25 0:31 / /pods/u12 rw - tmpfs tmpfs rw\n".encode()
    lines += b"38 25 0:32 / /pods/u1/\xff rw - tmpfs tmpfs rw\n"
    monkeypatch.setattr(Path, "read_bytes", lambda path: lines)
    assert mounts_below(Path("/pods/u1")) == ["/pods/u1/é x", "/pods/u1/\udcff"]


def test_a_memory_volume_is_as_large_as_the_smallest_limit() -> None:
    def size(limit: str = "") -> int:
        made = pod(container(resources={"limits": {"memory": limit}} if limit else {}))
        return empty_dirs.memory_size(made, {"medium": "Memory"}, GIVES)

    assert size() == 1 << 30 and size("64Mi") == 64 << 20 and size("2Gi") == 1 << 30
    assert empty_dirs.memory_size(pod(), {"medium": "Memory", "sizeLimit": "1Mi"}, GIVES) == 1 << 20


def test_huge_pages_are_of_the_size_that_the_pod_requests() -> None:
    def asking(*sizes: str) -> dict[str, Any]:
        return pod(container(resources={"limits": {"memory": "1Gi", **{f"hugepages-{size}": size for size in sizes}}}))

    assert empty_dirs.page_size(asking("2Mi"), "HugePages") == "2Mi"
    assert empty_dirs.page_size(asking("2Mi", "1Gi"), "HugePages-1Gi") == "1Gi"
    with pytest.raises(ValueError, match="medium: HugePages can't be used if container requests multiple huge page sizes"):
        empty_dirs.page_size(asking("2Mi", "1Gi"), "HugePages")
    words = "medium HugePages-2Mi: hugePages storage requested, but there is no resource request for huge pages"
    with pytest.raises(ValueError, match=words):
        empty_dirs.page_size(pod(), "HugePages-2Mi")


def test_an_empty_dir_is_made_once_and_what_a_container_does_to_it_stays(volumes: Volumes) -> None:
    volume = {"name": "data", "emptyDir": {}}
    manifest = pod(volumes=[volume])
    volumes.set_up(manifest, volume)
    place = volumes.place(manifest, volume)
    assert place is not None and place.stat().st_mode & 0o7777 == 0o777
    place.chmod(0o700)
    volumes.set_up(manifest, volume)
    assert place.stat().st_mode & 0o7777 == 0o700
    volumes.remove("u1")
    volumes.set_up(manifest, volume)
    assert place.stat().st_mode & 0o7777 == 0o777


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to a group that it is not in")
def test_a_volume_is_given_to_the_pods_group_but_no_link_is_followed(tmp_path: Path) -> None:
    volume, outside = tmp_path / "volume", tmp_path / "outside"
    (volume / "sub").mkdir(parents=True)
    for file in (volume / "sub/file", outside):
        file.write_text("x")
        file.chmod(0o600)
    (volume / "link").symlink_to(outside)
    fs_group.give(volume, 1234)
    modes = {name: ((volume / name).stat().st_gid, (volume / name).stat().st_mode & 0o7777) for name in (".", "sub", "sub/file")}
    assert modes == {".": (1234, 0o2775), "sub": (1234, 0o2775), "sub/file": (1234, 0o660)}
    assert (outside.stat().st_gid, outside.stat().st_mode & 0o7777) == (0, 0o600)
    (volume / "sub/file").chmod(0o600)
    fs_group.give(volume, 1234, policy="OnRootMismatch")
    assert (volume / "sub/file").stat().st_mode & 0o777 == 0o600
    fs_group.give(volume, 1234)
    assert (volume / "sub/file").stat().st_mode & 0o777 == 0o660


@pytest.mark.parametrize(
    ("path", "words"),
    [("", 'must not be empty: ""'), ("/a", "must be relative path: /a"), ("a/../b", "must not contain '..': a/../b"),
     ("..a", "must not start with '..': ..a"), ("x" * 256, "filenames must be less than or equal to 255 characters"),
     ("a/" * 2049, "must be less than or equal to 4096 characters")],
)
def test_a_path_that_no_volume_can_hold_is_refused_in_the_kubelets_words(path: str, words: str) -> None:
    with pytest.raises(ValueError) as refused:
        check_path(path)
    assert str(refused.value) == f"invalid path: {words}"


@pytest.mark.parametrize(
    ("mounts", "made"),
    [
        ({"v": "/etc/app", "w": "/etc/app/data"}, ["data"]),
        ({"v": "/etc/app/", "w": "/etc/app/a//b", "x": "/etc/app/a/b/c"}, ["a", "a/b"]),
        ({"v": "/etc/app", "w": "/etc/application", "x": "/etc"}, []),
        ({"v": "/etc/app", "w": "/etc/app/a-b", "x": "/etc/app/a/c"}, ["a", "a-b", "a/c"]),
    ],
)
def test_a_volume_of_files_has_a_directory_for_what_is_mounted_in_it(
    volumes: Volumes, mounts: dict[str, str], made: list[str]
) -> None:
    """It is read-only in the container, where the runtime could not make one (MakeNestedMountpoints)."""
    own = [{"name": name, "mountPath": path} for name, path in mounts.items()]
    others = [{"name": name, "emptyDir": {}} for name in mounts]
    manifest = pod(container(), initContainers=[container("first", volumeMounts=own)], volumes=others)
    volume = {"name": "v", "configMap": {"name": "settings", "items": [{"key": "size", "path": "size"}]}}
    for _ in range(2):
        volumes.set_up(manifest, volume)
    place = volumes.place(manifest, volume)
    assert place
    found = [str(each.relative_to(place)) for each in place.rglob("*") if each.is_dir() and not each.is_symlink()]
    assert sorted(each for each in found if not each.startswith("..")) == made
    assert all(stat.S_IMODE((place / each).stat().st_mode) == 0o755 for each in made) and (place / "size").read_text() == "7"


def test_a_mount_path_does_not_lead_a_volume_out_of_the_container(volumes: Volumes) -> None:
    own = [{"name": "v", "mountPath": "../x"}, {"name": "w", "mountPath": "../x/y"}]
    with pytest.raises(MountError, match=r"unable to create nested volume mountpoints: .*invalid container mount point \.\./x"):
        volumes.set_up(
            pod(container(volumeMounts=own), volumes=[{"name": name, "emptyDir": {}} for name in "vw"]),
            {"name": "v", "configMap": {"name": "settings"}},
        )


def test_what_must_not_reach_a_disk_is_in_memory(volumes: Volumes, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted: list[str] = []

    def mount(place: Path, pod: object, source: dict[str, str], machine: object) -> None:
        assert source == {"medium": "Memory"} and place.is_dir()
        mounted.append(str(place))

    in_memory = dataclasses.replace(volumes, mount_memory=mount)
    monkeypatch.setattr(pod_volumes, "mounts_below", lambda directory: [each for each in mounted if each == str(directory)])
    labels = {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}
    sources: dict[str, Any] = {
        "configMap": {"name": "settings"}, "secret": {"secretName": "login"}, "downwardAPI": labels,
        "projected": {"sources": [{"downwardAPI": labels}]},
    }
    for _ in range(2):
        places = {kind: str(set_up(in_memory, {"name": kind.lower(), kind: source})) for kind, source in sources.items()}
    assert mounted == [places[kind] for kind in ("secret", "downwardAPI", "projected")], "each of them once"


def test_paths_of_files_are_cleaned(tmp_path: Path) -> None:
    files = {"./a": File(b"1", 0o644), "b//c/": File(b"2", 0o644)}
    assert write_files(tmp_path, files) is True and write_files(tmp_path, files) is False
    assert ((tmp_path / "a").read_text(), (tmp_path / "b/c").read_text()) == ("1", "2")
    assert sorted(each.name for each in tmp_path.iterdir() if not each.name.startswith("..")) == ["a", "b"]


def test_what_could_not_be_written_whole_leaves_nothing(tmp_path: Path) -> None:
    for files in ({"a": File(b"1", 0o644), "a/b": File(b"2", 0o644)}, {"a/b": File(b"2", 0o644), "a": File(b"1", 0o644)}):
        with pytest.raises(OSError, match="a"):
            write_files(tmp_path, files)
        assert list(tmp_path.iterdir()) == []


def test_a_projected_source_of_no_kind_has_no_files(volumes: Volumes) -> None:
    place = set_up(volumes, {"projected": {"sources": [{}, {"configMap": {"name": "settings"}}]}})
    assert (place / "colour").read_text() == "blue"


def test_a_resource_of_a_container_that_is_not_there(volumes: Volumes) -> None:
    limit = {"path": "cpu", "resourceFieldRef": {"containerName": "nobody", "resource": "limits.cpu"}}
    words = 'MountVolume.SetUp failed for volume "v" : container nobody not found'
    assert refused(volumes, {"downwardAPI": {"items": [limit]}}) == words


def test_a_link_that_leads_nowhere_is_no_place_for_a_sub_path(tmp_path: Path) -> None:
    (tmp_path / "loose").symlink_to("absent")
    (tmp_path / "file").touch()
    opened = os.open(tmp_path, os.O_PATH)
    try:
        for path in ("loose", "loose/deep"):
            with pytest.raises(FileExistsError):
                subpaths.open_inside(opened, path)
        with pytest.raises(NotADirectoryError):
            subpaths.open_inside(opened, "file/deep")
    finally:
        os.close(opened)
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize(
    ("sub_path", "step"),
    [("loose", "create subPath directory"), ("outside", "prepare subPath"), ("outside/passwd", "prepare subPath"),
     ("file/deep", "prepare subPath"), ("loop", "prepare subPath")],
)
def test_a_sub_path_that_fails_is_named_by_its_step(volumes: Volumes, tmp_path: Path, sub_path: str, step: str) -> None:
    mount = {"name": "v", "mountPath": "/m", "subPath": sub_path}
    manifest = pod(container(volumeMounts=[mount]), volumes=[{"name": "v", "emptyDir": {}}])
    volumes.set_up(manifest, manifest["spec"]["volumes"][0])
    place = volumes.place(manifest, manifest["spec"]["volumes"][0])
    assert place
    (place / "loose").symlink_to("absent")
    (place / "outside").symlink_to("/etc")
    (place / "loop").symlink_to("loop")
    (place / "file").touch()
    made = Configuration(tmp_path, tmp_path / "logs", "", "10.0.0.1", GIVES, volumes.objects, volumes)
    with pytest.raises(CreateContainerConfigError) as failed:
        made.container(manifest, manifest["spec"]["containers"][0], 0, NodeImage("sha256:1", 0), ())
    assert str(failed.value) == f'failed to {step} for volumeMount "v" of container "app"'
