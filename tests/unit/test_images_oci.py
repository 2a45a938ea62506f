"""Images are equal to the byte for equal input, and hold what they should."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from labkit.node.registry.course_images import busybox_image, pause_image
from labkit.node.registry.oci import Entry, Image, image, layer, machine_architecture, write_archive


@pytest.fixture
def busybox(tmp_path: Path) -> Path:
    """A program that lists its applets as busybox does, in no particular order."""
    program = tmp_path / "busybox"
    program.write_text("#!/bin/sh\n[ $1 = --list-full ] && printf '%s\\n' usr/bin/wget bin/busybox bin/sh 'usr/bin/[[' linuxrc\n")
    program.chmod(0o755)
    return program


def members(built: Image) -> dict[str, tarfile.TarInfo]:
    """What all layers hold together, each in the order of its paths, each path with the directories above it."""
    found: dict[str, tarfile.TarInfo] = {}
    for blob in built.layers:
        with tarfile.open(fileobj=io.BytesIO(blob.data)) as archive:
            mine = {member.name: member for member in archive.getmembers()}
        assert list(mine) == sorted(mine)
        for name in mine:
            assert Path(name).parent == Path(".") or mine[str(Path(name).parent)].isdir()
        found |= mine
    return found


def test_the_same_programs_make_the_same_bytes(busybox: Path) -> None:
    first = (busybox_image(busybox), pause_image(busybox))
    os.utime(busybox, (1, 1))
    busybox.chmod(0o700)
    assert (busybox_image(busybox), pause_image(busybox)) == first


def test_another_program_makes_another_digest(busybox: Path) -> None:
    first = pause_image(busybox).digest
    busybox.write_bytes(busybox.read_bytes() + b"\n")
    assert pause_image(busybox).digest != first


def test_bytes_do_not_depend_on_the_version_of_python() -> None:
    built = image(
        "registry.lab/fixed:1",
        [layer([Entry("bin/sh", target="/bin/busybox"), Entry("bin/busybox", b"program"), Entry("tmp", mode=0o1777)])],
        {"Cmd": ["sh"]},
        "amd64",
    )
    assert built.layers[0].digest == "sha256:56a7639d80a1234d7da343f6ce08b9817abf348c48986bdbc0204ebf8319394e"
    assert built.digest == "sha256:69fe473b3083de2aa9e9992c38268aab92f4c55f5df31a76aee8cce236571a0e"


def test_busybox_has_a_link_for_each_applet(busybox: Path) -> None:
    found = members(busybox_image(busybox))
    links = {name: member.linkname for name, member in found.items() if member.issym()}
    assert links == dict.fromkeys(("bin/sh", "linuxrc", "usr/bin/[[", "usr/bin/wget"), "/bin/busybox")
    assert found["bin/busybox"].mode == 0o755
    assert found["tmp"].mode == 0o1777
    assert found["var/www/index.html"].isreg()
    assert {(member.uid, member.gid, member.mtime) for member in found.values()} == {(0, 0, 0)}


def test_pause_holds_one_file(busybox: Path) -> None:
    built = pause_image(busybox)
    assert {name: member.isreg() for name, member in members(built).items()} == {"pause": True}
    assert json.loads(built.config.data)["config"] == {"Entrypoint": ["/pause", "-P"]}


def test_manifest_and_config_name_what_they_hold(busybox: Path) -> None:
    built = busybox_image(busybox)
    manifest, config = json.loads(built.manifest.data), json.loads(built.config.data)
    digests = ["sha256:" + hashlib.sha256(blob.data).hexdigest() for blob in built.layers]
    assert config["rootfs"] == {"type": "layers", "diff_ids": digests}
    assert len(config["history"]) == len(digests) == len({each["created_by"] for each in config["history"]}) == 3
    assert (config["architecture"], config["os"]) == (machine_architecture(), "linux")
    sizes = [len(blob.data) for blob in built.layers]
    assert [(entry["digest"], entry["size"]) for entry in manifest["layers"]] == list(zip(digests, sizes, strict=True))
    assert manifest["config"]["digest"] == "sha256:" + hashlib.sha256(built.config.data).hexdigest()
    assert (built.reference, built.repository) == ("registry.lab/busybox:1", "busybox")


@pytest.mark.parametrize(("machine", "expected"), [("x86_64", "amd64"), ("aarch64", "arm64"), ("riscv64", "riscv64")])
def test_architecture_is_spelled_as_go_does(monkeypatch: pytest.MonkeyPatch, machine: str, expected: str) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert machine_architecture() == expected


def test_an_archive_holds_each_blob_once(busybox: Path, tmp_path: Path) -> None:
    images = [pause_image(busybox), pause_image(busybox, "registry.lab/other:2")]
    write_archive(tmp_path / "one.tar", images)
    write_archive(tmp_path / "two.tar", images)
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as archive:
        files = {member.name: archive.extractfile(member) for member in archive.getmembers() if member.isreg()}
        data = {name: file.read() for name, file in files.items() if file}
    blobs = (*images[0].layers, images[0].config, images[0].manifest)
    assert set(data) == {"oci-layout", "index.json", *("blobs/" + blob.digest.replace(":", "/") for blob in blobs)}
    named = [entry["annotations"]["io.containerd.image.name"] for entry in json.loads(data["index.json"])["manifests"]]
    assert named == ["registry.lab/pause:1", "registry.lab/other:2"]


def test_an_archive_that_cannot_be_written_leaves_nothing(busybox: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError):
        write_archive(tmp_path / "taken", [pause_image(busybox)])
    assert {path.name for path in tmp_path.iterdir()} == {"busybox", "taken"}
