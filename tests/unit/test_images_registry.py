"""The registry's files, and what is said when none answers."""

from __future__ import annotations

import http.server
import socket
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest
import yaml  # type: ignore[import-untyped]

from labkit.images.oci import Entry, image, layer
from labkit.images.registry import RegistryError, answers, configure, free_port, hosts_toml, push, wait_ready, write_hosts

IMAGE = image("registry.lab/one:1", [layer([Entry("file", b"x")])], {})


def test_hosts_toml_names_one_host_and_no_other() -> None:
    assert hosts_toml("http://127.0.0.1:1") == 'server = "http://127.0.0.1:1"\ncapabilities = ["pull", "resolve"]\n\n[host]\n'


def test_write_hosts_replaces_the_port(tmp_path: Path) -> None:
    write_hosts(tmp_path, {"registry.lab": "http://127.0.0.1:1", "private.registry.lab": "http://127.0.0.1:2"})
    write_hosts(tmp_path, {"registry.lab": "http://127.0.0.1:3"})
    servers = {path.parent.name: tomllib.loads(path.read_text())["server"] for path in tmp_path.glob("*/*")}
    assert servers == {"registry.lab": "http://127.0.0.1:3", "private.registry.lab": "http://127.0.0.1:2"}


def test_an_open_registry(tmp_path: Path) -> None:
    made = configure(Path("/bin/registry"), tmp_path / "open", tmp_path / 'a "quoted" path', 5000)
    config = yaml.safe_load((tmp_path / "open/config.yml").read_text())
    assert made.argv == ("/bin/registry", "serve", str(tmp_path / "open/config.yml"))
    assert made.url == "http://127.0.0.1:5000"
    assert config["http"]["addr"] == "127.0.0.1:5000"
    assert "debug" not in config["http"]
    assert "auth" not in config
    assert config["storage"]["filesystem"] == {"rootdirectory": str(tmp_path / 'a "quoted" path')}
    assert config["storage"]["delete"] == {"enabled": False}
    assert config["storage"]["maintenance"]["readonly"] == {"enabled": False}


def test_a_registry_with_a_password_keeps_its_files_private(tmp_path: Path) -> None:
    login = ("learner", "container")
    for _ in range(2):
        configure(Path("/bin/registry"), tmp_path / "private", tmp_path / "blobs", 1, login=login, read_only=True)
    config = yaml.safe_load((tmp_path / "private/config.yml").read_text())
    htpasswd = tmp_path / "private/htpasswd"
    assert config["auth"] == {"htpasswd": {"realm": "labkit", "path": str(htpasswd)}}
    assert config["storage"]["maintenance"]["readonly"] == {"enabled": True}
    user, _, hashed = htpasswd.read_text().strip().partition(":")
    assert user == "learner"
    assert bcrypt.checkpw(b"container", hashed.encode())
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "private").iterdir()} == {0o600}
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o700


def test_a_free_port_can_be_had() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port()))


def test_nobody_answers() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(RegistryError, match=rf"^The registry at {url} does not answer \(.*refused\)\. Start the node"):
        push(url, IMAGE)
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
    with pytest.raises(RegistryError, match=r"answered PUT /v2/one/manifests/1 with 200"):
        push(another_server, IMAGE)
