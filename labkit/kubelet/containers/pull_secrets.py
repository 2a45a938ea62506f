"""The logins of Pods' imagePullSecrets: which fit an image, and who may use an image that another Pod's login brought here.

Knowledge: kubelet_pods.go (getPullSecretsForPod), credentialprovider/keyring.go, images/pullmanager.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from labkit.kubelet.api import ApiClientError
from labkit.kubelet.containers.image_names import HUB, registry_path
from labkit.kubelet.node.events import EventRecorder
from labkit.kubelet.volumes.objects import Objects
from labkit.util.outputs import PRIVATE, write_whole

ANYBODY = "anybody"


@dataclass(frozen=True)
class Login:
    """A registry's credentials as CRI's AuthConfig wants them; `where` is the pattern of registry and path they are for."""

    where: str
    auth: Mapping[str, str]


def pull_secrets(objects: Objects, recorder: EventRecorder, pod: Mapping[str, Any]) -> list[Login]:
    """The logins of a Pod's imagePullSecrets; one that is missing only makes a warning (getPullSecretsForPod)."""
    logins: list[Login] = []
    missing = []
    for name in filter(None, (reference.get("name") for reference in pod["spec"].get("imagePullSecrets", ()))):
        try:
            secret = objects.read("secrets", pod["metadata"]["namespace"], name)
        except ApiClientError:
            secret = None
        if secret is None:
            missing.append(name)
        else:
            logins += read_logins(secret)
    if missing:
        names = ", ".join(missing)
        message = f"Unable to retrieve some image pull secrets ({names}); attempting to pull the image may not succeed."
        recorder.pod_event(pod, "Warning", "FailedToRetrieveImagePullSecret", message)
    return logins


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
