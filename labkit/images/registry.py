"""The course's registries: the real docker-registry on loopback, one open, one behind a password.

This module writes their files, says how to start them, waits for them and pushes images; who starts and watches the
processes is the caller. Knowledge: docker-registry's configuration.md, HTTP API v2 (spec/api.md), containerd's hosts.md.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from labkit.images.oci import Image

Login = tuple[str, str]
"""User name and password."""

Headers = Mapping[str, str]
NO_HEADERS: Headers = {}

PASSWORD_COST = 4
"""bcrypt's least (log2 of rounds): the password is printed in the course and guards nothing, and each request checks it."""


class RegistryError(Exception):
    """A registry does not answer, or refuses. `happened` and `todo` are a sentence each."""

    def __init__(self, happened: str, todo: str) -> None:
        self.happened, self.todo = happened, todo
        super().__init__(f"{happened} {todo}")


@dataclass(frozen=True)
class Registry:
    """One registry to be started: run `argv`; it then listens at `url`."""

    argv: tuple[str, ...]
    url: str


def configure(
    docker_registry: Path, directory: Path, storage: Path, port: int, *, login: Login | None = None, read_only: bool = False
) -> Registry:
    """Write the files of a registry into `directory` (made if absent, 0700): config.yml, and htpasswd when `login` is given.

    `storage` is where blobs lie; a second registry may share it if it is `read_only`. Raises OSError.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    storage.mkdir(parents=True, exist_ok=True, mode=0o700)
    htpasswd = directory / "htpasswd" if login else None
    if htpasswd and login:
        write_private(htpasswd, htpasswd_line(*login))
    config = directory / "config.yml"
    write_private(config, config_yml(storage, port, htpasswd, read_only))
    return Registry((str(docker_registry), "serve", str(config)), f"http://127.0.0.1:{port}")


def config_yml(storage: Path, port: int, htpasswd: Path | None = None, read_only: bool = False) -> str:
    """docker-registry's configuration: files in `storage`, loopback only, no deleting, no debug port, no report to anybody."""
    auth = f"auth:\n  htpasswd:\n    realm: labkit\n    path: {json.dumps(str(htpasswd))}\n" if htpasswd else ""
    return f"""version: 0.1
log:
  level: warn
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: {json.dumps(str(storage))}
  delete:
    enabled: false
  maintenance:
    uploadpurging:
      enabled: false
    readonly:
      enabled: {str(read_only).lower()}
http:
  addr: 127.0.0.1:{port}
  secret: {json.dumps(base64.b16encode(os.urandom(16)).decode())}
  relativeurls: true
{auth}"""


def htpasswd_line(user: str, password: str) -> str:
    """One line of an htpasswd file, with bcrypt: the only hash that docker-registry takes."""
    import bcrypt  # here, since labkit must be imported quickly

    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(PASSWORD_COST)).decode()
    return f"{user}:{hashed}\n"


def hosts_toml(url: str) -> str:
    """containerd's hosts.toml for a registry that answers at `url`, and nowhere else.

    Hosts in the [host] table alone would leave https://NAME as the last resort: a DNS query for a name that no one has.
    The table is empty, so that a refusal is asked for once; it is there, since containerd 1.6 rejects a file without it.
    """
    return f'server = "{url}"\ncapabilities = ["pull", "resolve"]\n\n[host]\n'


def write_hosts(certs_dir: Path, registries: Mapping[str, str]) -> None:
    """Tell containerd, whose registry config_path is `certs_dir`, where each name is: {"registry.lab": "http://127.0.0.1:5000"}.

    containerd reads the files at each pull, so they may be written while it runs. Raises OSError.
    """
    for name, url in registries.items():
        directory = certs_dir / name
        directory.mkdir(parents=True, exist_ok=True)
        partial = directory / ".hosts.toml"
        partial.write_text(hosts_toml(url))
        partial.replace(directory / "hosts.toml")


def free_port() -> int:
    """A loopback TCP port that nobody listens on at this moment. Somebody may take it before it is used: then ask again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether nobody listens on this loopback TCP port at this moment."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what is left of closed connections does not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait_ready(url: str, timeout: float, alive: Callable[[], bool] = lambda: True) -> None:
    """Wait up to `timeout` s until a registry answers at `url`, while `alive()`. Raises RegistryError."""
    deadline = time.monotonic() + timeout
    while not answers(url):
        if not alive():
            raise RegistryError(f"The registry for {url} ended before it answered.", "Its output says why, often a port in use.")
        if time.monotonic() > deadline:
            raise RegistryError(f"No registry answers at {url} after {timeout:g} s.", "See its log for the reason.")
        time.sleep(0.02)


def answers(url: str) -> bool:
    """Whether a registry, and no other HTTP server, answers at `url` (its header says so, with or without a password)."""
    try:
        response, _ = _request(url, "GET", "/v2/")
    except RegistryError:
        return False
    return response.status in (200, 401) and response.getheader("Docker-Distribution-Api-Version") == "registry/2.0"


def push(url: str, image: Image, login: Login | None = None) -> None:
    """Push `image` to the registry at `url`: blobs that it lacks, then the manifest under the tag. Raises RegistryError."""
    for blob in (*image.layers, image.config):
        _push_blob(url, image.repository, blob.digest, blob.data, login)
    headers = {"Content-Type": image.manifest.media_type}
    _expect(201, url, "PUT", f"/v2/{image.repository}/manifests/{image.tag}", login, image.manifest.data, headers)


def _push_blob(url: str, repository: str, digest: str, data: bytes, login: Login | None) -> None:
    response, _ = _request(url, "HEAD", f"/v2/{repository}/blobs/{digest}", login)
    if response.status == 200:
        return
    started = _expect(202, url, "POST", f"/v2/{repository}/blobs/uploads/", login)
    where = urlsplit(started.getheader("Location") or "")
    query = f"{where.query}&digest={digest}" if where.query else f"digest={digest}"
    _expect(201, url, "PUT", f"{where.path}?{query}", login, data, {"Content-Type": "application/octet-stream"})


def _expect(
    status: int, url: str, method: str, path: str, login: Login | None, body: bytes = b"", headers: Headers = NO_HEADERS
) -> http.client.HTTPResponse:
    response, content = _request(url, method, path, login, body, headers)
    if response.status == 401:
        raise RegistryError(f"The registry at {url} wants another name and password.", "Give the login it was configured with.")
    if response.status != status:
        said = content.decode(errors="replace").strip()[:200]
        raise RegistryError(f"The registry at {url} answered {method} {path} with {response.status}: {said}", "Its log says why.")
    return response


def _request(
    url: str, method: str, path: str, login: Login | None = None, body: bytes = b"", headers: Headers = NO_HEADERS
) -> tuple[http.client.HTTPResponse, bytes]:
    sent = dict(headers)
    if login:
        sent["Authorization"] = "Basic " + base64.b64encode(":".join(login).encode()).decode()
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        return response, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise RegistryError(f"The registry at {url} does not answer ({error}).", "Start the node with `labkit up`.") from None
    finally:
        connection.close()


def write_private(file: Path, text: str) -> None:
    """Write `file` so that only its owner can read it, also if it was there before."""
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
        output.write(text)
