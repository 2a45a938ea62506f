"""A container's image: present, pulled by its policy, or the kubelet's reason why not.

Knowledge: kubelet's images/image_manager.go and puller.go, credentialprovider/keyring.go, distribution/reference.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from labkit.cri import CriClient, CriError
from labkit.kubelet.backoff import Backoff
from labkit.kubelet.go_format import go_duration, go_quote, pull_error, rpc_error
from labkit.util.outputs import PRIVATE, write_whole

Tell = Callable[[str, str, str], None]
"""Takes an event's type, reason and message."""

HOST = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
DOMAIN = rf"(?:{HOST}(?:\.{HOST})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
REFERENCE = re.compile(
    rf"(?:(?P<domain>{DOMAIN})/)?(?P<path>{PART}(?:/{PART})*)(?::(?P<tag>[\w][\w.-]{{0,127}}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?"
)
HUB = "docker.io"
ANYBODY = "anybody"


class StartError(Exception):
    """A container cannot be started. `reason` is what its status shows (ErrImagePull, RunContainerError …)."""

    def __init__(self, reason: str, message: str, retry_s: float | None = None) -> None:
        self.reason, self.message, self.retry_s = reason, message, retry_s
        super().__init__(f"{reason}: {message}")


@dataclass(frozen=True)
class Image:
    """An image that the node has: its id for CreateContainer, and the user that its config names."""

    ref: str
    user: int | str


@dataclass(frozen=True)
class Login:
    """A registry's credentials as CRI's AuthConfig wants them; `where` is the pattern of registry and path they are for."""

    where: str
    auth: Mapping[str, str]


class Images:
    """Sees to it that images are there. Pulls are made one after the other, as the kubelet does by default."""

    def __init__(self, cri: CriClient, backoff: Backoff, pulled: Pulled) -> None:
        self.cri, self.backoff, self.pulled = cri, backoff, pulled
        self._pulling = threading.Lock()
        self._failures: dict[str, str] = {}

    def ensure(
        self,
        uid: str,
        container: Mapping[str, Any],
        sandbox_config: Any,
        logins: Iterable[Login],
        tell: Tell,
        waiting: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> Image:
        """The image of a container, pulled where its policy wants that. Raises StartError.

        A pull is made inside of `waiting()`.
        """
        name, policy = container["image"], container["imagePullPolicy"]
        try:
            wanted = with_tag(name)
        except ValueError as error:
            message = f"Failed to apply default image tag {go_quote(name)}: couldn't parse image name {go_quote(name)}: {error}"
            tell("Warning", "InspectFailed", message)
            raise StartError("InvalidImageName", message) from None
        present = self._look(name, wanted, tell)
        if present and policy != "Always" and self.pulled.may_use(present.ref, wanted, lambda: matching(wanted, logins)):
            tell("Normal", "Pulled", f'Container image "{name}" already present on machine and can be accessed by the pod')
            return present
        if policy == "Never":
            message = f'Container image "{name}" is not present with pull policy of Never'
            tell("Warning", "ErrImageNeverPull", message)
            raise StartError("ErrImageNeverPull", message)
        return self._pull(f"{uid}_{name}", name, wanted, sandbox_config, logins, tell, waiting)

    def forget(self, uid: str) -> None:
        self.backoff.forget(f"{uid}_")
        for key in [key for key in self._failures if key.startswith(f"{uid}_")]:
            self._failures.pop(key, None)

    def _look(self, name: str, wanted: str, tell: Tell) -> Image | None:
        try:
            return found(self.cri.image_status(image={"image": wanted}).image)
        except CriError as error:
            message = f'Failed to inspect image "{name}": {rpc_error(error)}'
            tell("Warning", "InspectFailed", message)
            raise StartError("ImageInspectError", message) from None

    def _pull(
        self,
        key: str,
        name: str,
        wanted: str,
        sandbox_config: Any,
        logins: Iterable[Login],
        tell: Tell,
        waiting: Callable[[], AbstractContextManager[None]],
    ) -> Image:
        left = self.backoff.left(key)
        if left:
            tell("Normal", "BackOff", f'Back-off pulling image "{name}"')
            why = self._failures.get(key, "")
            raise StartError("ImagePullBackOff", f'Back-off pulling image "{name}"{": " if why else ""}{why}', left)
        tell("Normal", "Pulling", f'Pulling image "{name}"')
        asked = time.monotonic()
        with waiting(), self._pulling:
            started = time.monotonic()
            try:
                login = self._pull_with_any(wanted, sandbox_config, matching(wanted, logins))
            except CriError as error:
                message = pull_error(error)
                tell("Warning", "Failed", f'Failed to pull image "{name}": {message}')
                self.backoff.next(key, time.time())
                self._failures[key] = f"ErrImagePull: {message}"
                # Half of the back-off later the status tells ImagePullBackOff: a learner sees both.
                raise StartError("ErrImagePull", message, self.backoff.seconds(key) / 2) from None
        took, waited = go_duration(time.monotonic() - started), go_duration(time.monotonic() - asked)
        status = self.cri.image_status(image={"image": wanted}).image
        words = f'Successfully pulled image "{name}" in {took} ({waited} including waiting). Image size: {status.size} bytes.'
        tell("Normal", "Pulled", words)
        self._failures.pop(key, None)
        image = found(status)
        if image is None:
            raise StartError("ErrImagePull", f'image "{name}" was pulled, and removed again')
        self.pulled.add(image.ref, wanted, login)
        return image

    def _pull_with_any(self, wanted: str, sandbox_config: Any, logins: list[Login]) -> Login | None:
        """Try each login that fits, else none; the one that did it. The last refusal is the one that is told."""
        request = {"image": {"image": wanted, "user_specified_image": wanted}, "sandbox_config": sandbox_config}
        refusal: CriError | None = None
        for login in logins:
            try:
                self.cri.pull_image(**request, auth=dict(login.auth))
                return login
            except CriError as error:
                refusal = error
        if refusal is not None:
            raise refusal
        self.cri.pull_image(**request)
        return None


class Pulled:
    """Which images this kubelet pulled, and with which logins (only their hashes): a Pod without credentials may not use what
    another's brought here. An image that came some other way may be used by all (NeverVerifyPreloadedImages).

    Knowledge: kubelet's images/pullmanager.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock = threading.Lock()
        try:
            self._known: dict[str, list[str]] = json.loads(file.read_text())
        except (OSError, ValueError):
            self._known = {}

    def may_use(self, ref: str, name: str, logins: Callable[[], Iterable[Login]]) -> bool:
        """Whether a Pod with these logins may use the image that is present under this name."""
        known = self._known.get(f"{registry_path(name)} {ref}")
        return known is None or ANYBODY in known or any(fingerprint(login) in known for login in logins())

    def add(self, ref: str, name: str, login: Login | None) -> None:
        """An image was pulled by this name, with a login or with none. Kept in the file."""
        with self._lock:
            known = self._known.setdefault(f"{registry_path(name)} {ref}", [])
            mark = fingerprint(login) if login else ANYBODY
            if mark not in known:
                known.append(mark)
                write_whole(self.file, json.dumps(self._known).encode(), PRIVATE)


def fingerprint(login: Login) -> str:
    return hashlib.sha256(json.dumps([login.where, sorted(login.auth.items())]).encode()).hexdigest()


def found(status: Any) -> Image | None:
    """CRI's Image, None where it is empty."""
    if not status.id:
        return None
    return Image(status.id, status.username or (status.uid.value if status.HasField("uid") else 0))


def with_tag(name: str) -> str:
    """The reference, with :latest where it has neither tag nor digest. Raises ValueError for what is no reference."""
    match = REFERENCE.fullmatch(name)
    if match is None:
        repository = _remainder(name).partition(":")[0]
        if repository != repository.lower():
            raise ValueError(f"invalid reference format: repository name ({repository}) must be lowercase")
        raise ValueError("invalid reference format")
    return name if match["tag"] or match["digest"] else f"{name}:latest"


def _remainder(name: str) -> str:
    """What follows the registry in a name (distribution's splitDockerDomain)."""
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        return rest if first != HUB or "/" in rest else f"library/{rest}"
    return name if slash else f"library/{name}"


def registry_path(name: str) -> str:
    """"busybox:1" → "docker.io/library/busybox": registry and path, without tag and digest."""
    match = REFERENCE.fullmatch(name)
    if match is None:
        return name
    domain, path = match["domain"], match["path"]
    if domain and not ("." in domain or ":" in domain or domain == "localhost"):
        domain, path = None, f"{domain}/{path}"
    if domain is None:
        domain, path = HUB, path if "/" in path else f"library/{path}"
    return f"{domain}/{path}"


def matching(name: str, logins: Iterable[Login]) -> list[Login]:
    """The logins for an image, the most specific first (longest registry and path)."""
    target = registry_path(name)
    return sorted((login for login in logins if fits(login.where, target)), key=lambda login: login.where, reverse=True)


def fits(where: str, target: str) -> bool:
    """Whether credentials for `where` ("https://registry/v1/", "*.example.com/team") are for the image `target`."""
    plain = re.sub(r"^https?://", "", where)
    plain = re.sub(r"/(v1|v2)/?$", "", plain).rstrip("/")
    if plain in ("index.docker.io", "registry-1.docker.io"):
        plain = HUB
    host, _, path = plain.partition("/")
    target_host, _, target_path = target.partition("/")
    wanted, given = host.partition(":"), target_host.partition(":")
    parts, target_parts = wanted[0].split("."), given[0].split(".")
    same_host = len(parts) == len(target_parts) and all(map(fnmatchcase, target_parts, parts)) and wanted[2] == given[2]
    return same_host and (not path or target_path == path or target_path.startswith(f"{path}/") or target_path.startswith(path))


def read_logins(secret: Mapping[str, Any]) -> list[Login]:
    """The logins of a Secret of type dockerconfigjson or dockercfg; none where it cannot be read."""
    for key in (".dockerconfigjson", ".dockercfg"):
        if key not in (secret.get("data") or {}):
            continue
        try:
            config = json.loads(base64.b64decode(secret["data"][key]))
            entries = config.get("auths", {}) if key == ".dockerconfigjson" else config
            return [Login(where, auth_config(where, entry)) for where, entry in entries.items()]
        except (ValueError, AttributeError, TypeError):
            return []
    return []


def auth_config(where: str, entry: Mapping[str, str]) -> dict[str, str]:
    """CRI's AuthConfig from one entry of a Docker config: username and password, together in `auth`, or a token."""
    user, password = entry.get("username", ""), entry.get("password", "")
    if not user and entry.get("auth"):
        user, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
    config = {"username": user, "password": password, "identity_token": entry.get("identitytoken", "")}
    return {key: value for key, value in config.items() if value}
