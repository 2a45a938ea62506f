"""The registry's files, and what is said when none answers."""

from __future__ import annotations

import http.server
import json
import os
import socket
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest
import yaml  # type: ignore[import-untyped]

from labkit.node.registry.oci import Entry, image, layer
from labkit.node.registry.registry import (
    RegistryError,
    Tls,
    answers,
    configure,
    free_port,
    hosts_toml,
    stored,
    stored_for,
    wait_ready,
    write_hosts,
)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "program"
    file.write_bytes(b"#!/bin/sh\n")
    return file


IMAGE = image("registry.lab/one:1", [layer([Entry("file", b"x")])], {})


def test_hosts_toml_names_one_host_and_no_other() -> None:
    assert hosts_toml("http://127.0.0.1:1") == 'server = "http://127.0.0.1:1"\ncapabilities = ["pull", "resolve"]\n\n[host]\n'
    assert tomllib.loads(hosts_toml("https://127.0.0.1:1", Path("/lab/ca.crt")))["ca"] == "/lab/ca.crt"


def test_write_hosts_replaces_the_port(tmp_path: Path) -> None:
    write_hosts(tmp_path, {"registry.lab": "http://127.0.0.1:1", "private.registry.lab": "http://127.0.0.1:2"})
    write_hosts(tmp_path, {"registry.lab": "http://127.0.0.1:3"})
    servers = {path.parent.name: tomllib.loads(path.read_text())["server"] for path in tmp_path.glob("*/*")}
    assert servers == {"registry.lab": "http://127.0.0.1:3", "private.registry.lab": "http://127.0.0.1:2"}


def test_an_open_registry(tmp_path: Path, program: Path) -> None:
    made = configure(program, tmp_path / 'a "quoted" path', "open", [IMAGE], 5000)
    directory = made.directory
    config = yaml.safe_load((directory / "open/config.yml").read_text())
    assert (made.argv, made.executable) == ((f"{directory}/docker-registry", "serve", "open/config.yml"), "./docker-registry")
    assert made.url == "http://127.0.0.1:5000"
    assert config["http"]["addr"] == "127.0.0.1:5000"
    assert "debug" not in config["http"]
    assert "auth" not in config and "tls" not in config["http"]
    assert config["storage"]["filesystem"] == {"rootdirectory": "open/storage"}
    assert config["storage"]["delete"] == {"enabled": False}
    assert config["storage"]["maintenance"]["readonly"] == {"enabled": True}


def test_a_registry_with_a_password_and_a_certificate(tmp_path: Path, program: Path) -> None:
    login = ("learner", "container")
    for _ in range(2):
        made = configure(program, tmp_path / "r", "private", [IMAGE], 1, login=login, tls=Tls("server.crt", "server.key"))
    assert made.url == "https://127.0.0.1:1"
    config = yaml.safe_load((tmp_path / "r/private/config.yml").read_text())
    assert config["auth"] == {"htpasswd": {"realm": "labkit", "path": "private/htpasswd"}}
    assert config["http"]["tls"] == {"certificate": "server.crt", "key": "server.key"}
    user, _, hashed = (tmp_path / "r/private/htpasswd").read_text().strip().partition(":")
    assert user == "learner"
    assert bcrypt.checkpw(b"container", hashed.encode())


def test_whatever_the_umask_nobody_else_reads_a_registrys_files(tmp_path: Path, program: Path) -> None:
    before = os.umask(0)
    try:
        configure(program, tmp_path / "r", "one", [IMAGE], 1, login=("a", "b"), group=os.getgid())
    finally:
        os.umask(before)
    paths = [tmp_path / "r", *(tmp_path / "r").rglob("*")]
    assert [path for path in paths if path.stat().st_mode & 0o027] == []


def test_a_storage_holds_what_it_should_and_nothing_else(tmp_path: Path, program: Path) -> None:
    """What was put there by somebody else before is gone with the next start."""
    configure(program, tmp_path, "one", [IMAGE], 1)
    other = image("registry.lab/one:1", [layer([Entry("file", b"another")])], {})
    for path, data in stored([other]).items():
        (tmp_path / "one/storage" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "one/storage" / path).write_bytes(data)
    configure(program, tmp_path, "one", [IMAGE], 1)
    storage = tmp_path / "one/storage"
    assert {str(p.relative_to(storage)): p.read_bytes() for p in storage.rglob("*") if p.is_file()} == stored([IMAGE])


def test_a_tag_may_lead_to_another_architectures_image_alone() -> None:
    layers = [layer([Entry("file", b"x")])]
    foreign = image("registry.lab/one:2", layers, {}, "s390x")
    more = stored_for(foreign, [IMAGE])
    assert not more.keys() & stored([IMAGE]).keys()
    [tag] = [data for path, data in more.items() if path.endswith("tags/2/current/link")]
    hexadecimal = tag.decode().removeprefix("sha256:")
    listed = json.loads(more[f"docker/registry/v2/blobs/sha256/{hexadecimal[:2]}/{hexadecimal}/data"])
    [only] = listed["manifests"]
    assert only["platform"] == {"architecture": "s390x", "os": "linux"} and only["digest"] == foreign.digest


def test_a_free_port_can_be_had() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port()))


def test_nobody_answers() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(RegistryError, match=rf"^No registry answers at {url} after 0\.05 s\. See its log"):
        wait_ready(url, 0.05)
    with pytest.raises(RegistryError, match=r"ended before it answered"):
        wait_ready(url, 60, alive=lambda: False)


@pytest.fixture
def another_server() -> Iterator[str]:
    """An HTTP server that is no registry: it answers 200 to all."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        do_HEAD = do_PUT = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_another_server_is_no_registry(another_server: str) -> None:
    assert not answers(another_server)
