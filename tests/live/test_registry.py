"""The real programs: fetched with apt, images made of them, served by docker-registry, pulled by containerd."""

from __future__ import annotations

import base64
import http.client
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from labkit.node.host import confined
from labkit.node.packages.elf import is_static
from labkit.node.packages.programs import Programs, ProgramsError, ensure_programs, fetch, find_programs
from labkit.node.registry import registry
from labkit.node.registry.course_images import BUSYBOX, busybox_image, pause_image
from labkit.node.registry.oci import Image, write_archive

LOGIN = ("learner", "container")
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def programs(cache: Path) -> Programs:
    return ensure_programs(cache)


@pytest.fixture(scope="module")
def images(programs: Programs) -> dict[str, Image]:
    return {"busybox": busybox_image(programs.busybox), "pause": pause_image(programs.catatonit)}


@dataclass(frozen=True)
class Served:
    open: str
    private: str


@pytest.fixture(scope="module")
def served(programs: Programs, images: dict[str, Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two registries, an open one and one behind a password, run by a user of no account."""
    base, account = tmp_path_factory.mktemp("registries"), confined.account("test")
    program, port = programs.docker_registry, registry.free_port
    made = [
        registry.configure(program, base, "open", images.values(), port(), group=account),
        registry.configure(program, base, "private", images.values(), port(), login=LOGIN, group=account),
    ]
    processes = []
    try:
        for number, one in enumerate(made):
            with (base / f"{number}.log").open("wb") as log:
                processes.append(subprocess.Popen(
                    one.argv, executable=one.executable, cwd=one.directory, stdout=log, stderr=log, **confined.popen(account)
                ))
            registry.wait_ready(one.url, 20, lambda process=processes[-1]: process.poll() is None)  # type: ignore[misc]
        yield Served(made[0].url, made[1].url)
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def get(url: str, path: str, login: tuple[str, str] | None = None) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    headers = {"Accept": MANIFEST}
    if login:
        headers["Authorization"] = "Basic " + base64.b64encode(":".join(login).encode()).decode()
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    answer = response.status, response.headers, response.read()
    connection.close()
    return answer


def listing(*roots: str) -> list[tuple[str, int, int]]:
    paths = [Path(directory, name) for root in roots for directory, _, names in os.walk(root) for name in [*names, "."]]
    return sorted((str(path), path.lstat().st_size, path.lstat().st_mtime_ns) for path in paths)


def test_programs_come_without_touching_the_system(tmp_path: Path) -> None:
    watched = ("/var/lib/apt", "/var/cache/apt", "/var/lib/dpkg", "/etc/apt", "/usr/bin", "/usr/sbin")
    before = listing(*watched)
    said: list[str] = []
    found = ensure_programs(tmp_path, said.append)
    assert listing(*watched) == before
    assert (found.source, found.missing) == ("apt", ())
    assert any(text.startswith("downloading containerd ") and text.endswith("B)") for text in said)
    assert find_programs(tmp_path) == found


def test_each_program_runs(programs: Programs) -> None:
    environment = {"LD_LIBRARY_PATH": programs.library_path}
    for program in (programs.containerd, programs.ctr, programs.runc, programs.docker_registry, programs.catatonit):
        assert subprocess.run([program, "--version"], env=environment, capture_output=True).returncode == 0
    assert subprocess.run([programs.shim, "-v"], env=environment, capture_output=True).returncode == 0
    for plugin in ("bridge", "host-local", "loopback"):
        asked = {**environment, "CNI_COMMAND": "VERSION"}
        configuration = b'{"cniVersion": "1.0.0"}'
        said = subprocess.run([programs.cni_dir / plugin], env=asked, input=configuration, capture_output=True, check=True)
        assert "1.0.0" in json.loads(said.stdout)["supportedVersions"]
    assert is_static(programs.busybox)
    assert is_static(programs.catatonit)


def test_a_full_disk(programs: Programs, tmp_path: Path) -> None:
    """A file system of 30 MB holds the package lists, and then not the programs."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m,mode=700", "tmpfs", small], check=True)
    try:
        with pytest.raises(ProgramsError, match=rf"The disk that holds {small} is full: \d+ MB are needed there\. Free some"):
            fetch(["containerd"], dest=small / "programs")
        assert {path.name for path in small.iterdir()} <= {"apt", "lock"}
        (small / "filler").write_bytes(bytes(int(os.statvfs(small).f_bavail * os.statvfs(small).f_frsize) - 100_000))
        with pytest.raises(ProgramsError, match=rf"The disk that holds {small}\S* is full"):
            fetch(["busybox-static"], dest=small / "programs")
        assert {path.name for path in small.iterdir()} <= {"apt", "lock", "filler"}
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_source_signed_with_another_key(tmp_path: Path) -> None:
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)"]
    targets = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    uri, release = targets.splitlines()[0].split()
    sources = tmp_path / "sources.list"
    sources.write_text(f"deb [signed-by=/usr/share/keyrings/debian-archive-removed-keys.gpg] {uri} {release} main\n")
    with pytest.raises(ProgramsError, match="apt does not trust a package source"):
        fetch(["runc"], dest=tmp_path / "programs", sources=sources)


def test_images_of_real_programs_are_equal_to_the_byte(programs: Programs, images: dict[str, Image]) -> None:
    assert busybox_image(programs.busybox) == images["busybox"]
    assert pause_image(programs.catatonit) == images["pause"]


@pytest.mark.parametrize("name", ["busybox", "pause"])
def test_what_is_stored_is_served(served: Served, images: dict[str, Image], name: str) -> None:
    image = images[name]
    status, headers, manifest = get(served.open, f"/v2/{name}/manifests/1")
    assert (status, headers["Docker-Content-Digest"], manifest) == (200, image.digest, image.manifest.data)
    for blob in (*image.layers, image.config):
        assert get(served.open, f"/v2/{name}/blobs/{blob.digest}")[2] == blob.data


def test_the_private_registry_wants_its_password(served: Served, images: dict[str, Image]) -> None:
    assert get(served.private, "/v2/busybox/manifests/1")[0] == 401
    assert get(served.private, "/v2/busybox/manifests/1", ("learner", "wrong"))[0] == 401
    status, headers, _ = get(served.private, "/v2/busybox/manifests/1", LOGIN)
    assert (status, headers["Docker-Content-Digest"]) == (200, images["busybox"].digest)


def test_an_image_that_is_not_there(served: Served) -> None:
    assert get(served.open, "/v2/nothing/manifests/1")[0] == 404


@pytest.fixture(scope="module")
def ctr(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """A containerd with nothing but its content store in use; the beginning of a ctr command line that reaches it."""
    base = tmp_path_factory.mktemp("containerd")
    socket = base / "c.sock"
    (base / "config.toml").write_text(
        f'version = 2\nroot = "{base}/root"\nstate = "{base}/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\n  address = "{socket}"\n'
        f'[plugins."io.containerd.internal.v1.opt"]\n  path = "{base}/opt"\n'
    )
    with (base / "log").open("wb") as log:
        process = subprocess.Popen([programs.containerd, "--config", base / "config.toml"], stdout=log, stderr=log)
    try:
        command = [str(programs.ctr), "--address", str(socket), "--namespace", "labkit-test"]
        for _ in range(100):
            if subprocess.run([*command, "--timeout", "5s", "version"], capture_output=True).returncode == 0:
                break
            assert process.poll() is None, (base / "log").read_text()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.1)
        yield command
    finally:
        process.terminate()
        process.wait()


def test_containerd_takes_the_archive(ctr: list[str], images: dict[str, Image], tmp_path: Path) -> None:
    write_archive(tmp_path / "images.tar", list(images.values()))
    subprocess.run([*ctr, "images", "import", "--no-unpack", tmp_path / "images.tar"], check=True, capture_output=True)
    listed = subprocess.run([*ctr, "images", "ls"], check=True, capture_output=True, text=True).stdout
    for image in images.values():
        assert [image.reference, image.manifest.media_type, image.digest] in [line.split()[:3] for line in listed.splitlines()]


def test_containerd_pulls_by_the_stable_name(ctr: list[str], served: Served, images: dict[str, Image], tmp_path: Path) -> None:
    registry.write_hosts(tmp_path, {"registry.lab": served.open, "private.registry.lab": served.private})
    fetch_content = [*ctr, "content", "fetch", "--hosts-dir", str(tmp_path)]
    subprocess.run([*fetch_content, BUSYBOX], check=True, capture_output=True)
    refused = subprocess.run([*fetch_content, f"private.{BUSYBOX}"], capture_output=True, text=True)
    assert refused.returncode != 0
    assert "401 Unauthorized" in refused.stderr or "authorization failed" in refused.stderr
    subprocess.run([*fetch_content, "--user", ":".join(LOGIN), f"private.{BUSYBOX}"], check=True, capture_output=True)
    missing = subprocess.run([*fetch_content, "registry.lab/nothing:1"], capture_output=True, text=True)
    assert "registry.lab/nothing:1: not found" in missing.stderr
