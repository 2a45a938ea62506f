"""The course's registries: the real docker-registry on loopback, one open, one behind a password; nobody can write to either.

This module writes their files, with the images, has the command that starts them, and waits for them. The caller starts and
watches the processes. Knowledge: docker-registry's configuration.md, its storage layout (registry/storage/paths.go), HTTP API v2
(spec/api.md), containerd's hosts.md.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from labkit.node.registry.oci import Blob, Image, index
from labkit.util.errors import AdvisedError
from labkit.util.progress import attempts

Login = tuple[str, str]
"""User name and password."""

OPEN_REGISTRY = "registry"
REGISTRIES = {OPEN_REGISTRY: "registry.lab", "registry-private": "private.registry.lab"}
LOGIN = ("learner", "container")
PROGRAM = "docker-registry"
STORAGE = "storage"

PASSWORD_COST = 4
"""bcrypt's least (log2 of rounds): the password is printed in the course and guards nothing, and each request checks it."""


class RegistryError(AdvisedError):
    """A registry does not answer."""


@dataclass(frozen=True)
class Tls:
    """Files of a registry that proves who it is, relative to its working directory: certificate and private key (PEM)."""

    certificate: str
    key: str


@dataclass(frozen=True)
class Registry:
    """One registry to be started: run `executable` as `argv` in the working directory `directory`; it then listens at `url`."""

    argv: tuple[str, ...]
    executable: str
    directory: Path
    url: str


def configure(
    docker_registry: Path,
    directory: Path,
    name: str,
    images: Iterable[Image],
    port: int,
    *,
    login: Login | None = None,
    tls: Tls | None = None,
    group: int | None = None,
) -> Registry:
    """Write the files of the registry `name` into `directory`: its program, and in a directory of its own its configuration, its
    storage with the `images`, and htpasswd when `login` is given. Raises OSError.

    Every path is relative to `directory`, so that a user who cannot enter its parents can run it there. `group` can read
    everything and write nothing.
    """
    own = directory / name
    shutil.rmtree(own / STORAGE, ignore_errors=True)
    store(own / STORAGE, stored(images), group)
    htpasswd = f"{name}/htpasswd" if login else None
    if htpasswd and login:
        write(directory / htpasswd, htpasswd_line(*login).encode(), group=group)
    write(own / "config.yml", config_yml(f"{name}/{STORAGE}", port, htpasswd, tls).encode(), group=group)
    program = directory / PROGRAM
    write(program, docker_registry.read_bytes(), 0o750, group=group)
    for place in (directory, own):
        give(place, 0o750, group)
    scheme = "https" if tls else "http"
    return Registry((str(program), "serve", f"{name}/config.yml"), f"./{PROGRAM}", directory, f"{scheme}://127.0.0.1:{port}")


def stored(images: Iterable[Image]) -> dict[str, bytes]:
    """What docker-registry has in its storage after a push of `images`: path below its root directory → content."""
    files: dict[str, bytes] = {}
    for image in images:
        repository = f"{ROOT}/repositories/{image.repository}"
        for blob in (*image.layers, image.config, image.manifest):
            files[data_of(blob)] = blob.data
            if blob is not image.manifest:
                files[f"{repository}/_layers/sha256/{hexadecimal(blob)}/link"] = blob.digest.encode()
        files |= tagged(f"{repository}/_manifests", image.tag, image.manifest)
    return files


def stored_for(image: Image, beside: Iterable[Image]) -> dict[str, bytes]:
    """What it has more than with the images `beside` after a push of an index that lists `image` alone, under its tag."""
    listed, there = index(image), stored(beside)
    manifests = f"{ROOT}/repositories/{image.repository}/_manifests"
    files = stored([image]) | {data_of(listed): listed.data} | tagged(manifests, image.tag, listed)
    return {path: data for path, data in files.items() if there.get(path) != data}


ROOT = "docker/registry/v2"


def data_of(blob: Blob) -> str:
    return f"{ROOT}/blobs/sha256/{hexadecimal(blob)[:2]}/{hexadecimal(blob)}/data"


def tagged(manifests: str, tag: str, manifest: Blob) -> dict[str, bytes]:
    by_digest = f"sha256/{hexadecimal(manifest)}"
    paths = (f"revisions/{by_digest}", f"tags/{tag}/current", f"tags/{tag}/index/{by_digest}")
    return {f"{manifests}/{path}/link": manifest.digest.encode() for path in paths}


def hexadecimal(blob: Blob) -> str:
    return blob.digest.partition(":")[2]


def store(storage: Path, files: Mapping[str, bytes], group: int | None) -> None:
    """Write files into a registry's storage, where `group` can read them. Raises OSError."""
    for path, data in files.items():
        write(storage / path, data, group=group)
    for place in (storage, *storage.rglob("*")):
        if place.is_dir():
            give(place, 0o750, group)


def config_yml(storage: str, port: int, htpasswd: str | None = None, tls: Tls | None = None) -> str:
    """docker-registry's configuration: files in `storage`, loopback only, read-only, no debug port, no report to anybody."""
    auth = f"auth:\n  htpasswd:\n    realm: labkit\n    path: {json.dumps(htpasswd)}\n" if htpasswd else ""
    proof = f"  tls:\n    certificate: {json.dumps(tls.certificate)}\n    key: {json.dumps(tls.key)}\n" if tls else ""
    return f"""version: 0.1
log:
  level: warn
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: {json.dumps(storage)}
  delete:
    enabled: false
  maintenance:
    uploadpurging:
      enabled: false
    readonly:
      enabled: true
http:
  addr: 127.0.0.1:{port}
  secret: read-only
  relativeurls: true
{proof}{auth}"""


def htpasswd_line(user: str, password: str) -> str:
    """One line of an htpasswd file, with bcrypt: the only hash that docker-registry takes."""
    import bcrypt  # here, since labkit must be imported quickly

    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(PASSWORD_COST)).decode()
    return f"{user}:{hashed}\n"


def hosts_toml(url: str, ca: Path | None = None) -> str:
    """containerd's hosts.toml for a registry that answers at `url`, and nowhere else; `ca` is the authority of its certificate.

    Hosts in the [host] table alone would leave https://NAME as the last resort: a DNS query for a name that no one has.
    The table is empty, so that a refusal is asked for once; it is there, since containerd 1.6 rejects a file without it.
    """
    trust = f"ca = {json.dumps(str(ca))}\n" if ca else ""
    return f'server = "{url}"\n{trust}capabilities = ["pull", "resolve"]\n\n[host]\n'


def write_hosts(certs_dir: Path, registries: Mapping[str, str], ca: Path | None = None) -> None:
    """Tell containerd, whose registry config_path is `certs_dir`, where each name is: {"registry.lab": "http://127.0.0.1:5000"}.

    containerd reads the files at each pull, so they may be written while it runs. Raises OSError.
    """
    for name, url in registries.items():
        write(certs_dir / name / "hosts.toml", hosts_toml(url, ca).encode(), 0o644)


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


def wait_ready(url: str, timeout: float, alive: Callable[[], bool] = lambda: True, ca: Path | None = None) -> None:
    """Wait up to `timeout` s until a registry answers at `url`, while `alive()`. Raises RegistryError."""
    for _ in attempts(timeout):
        if answers(url, ca):
            return
        if not alive():
            raise RegistryError(f"The registry for {url} ended before it answered.", "Its output says why, often a port in use.")
    raise RegistryError(f"No registry answers at {url} after {timeout:g} s.", "See its log for the reason.")


def answers(url: str, ca: Path | None = None) -> bool:
    """Whether a registry, and no other HTTP server, answers at `url` (its header says so, with or without a password); with `ca`,
    whether it is the one that has the certificate's key."""
    where = urlsplit(url).netloc
    connection = http.client.HTTPConnection(where, timeout=30)
    if ca:
        connection = http.client.HTTPSConnection(where, timeout=30, context=ssl.create_default_context(cafile=str(ca)))
    try:
        connection.request("GET", "/v2/")
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return response.status in (200, 401) and response.getheader("Docker-Distribution-Api-Version") == "registry/2.0"


def write(file: Path, data: bytes, mode: int = 0o640, group: int | None = None) -> None:
    """Write `file` whole or not at all, with this mode and group whatever was there before; makes its directories."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as output:
        output.write(data)
    give(draft, mode, group)
    draft.replace(file)


def give(path: Path, mode: int, group: int | None) -> None:
    if group is not None:
        os.chown(path, -1, group)
    path.chmod(mode)
