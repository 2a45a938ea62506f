"""What a request's path, query and Accept header ask for."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from labkit.apiserver import api_errors, api_resources
from labkit.apiserver.api_resources import ApiResource
from labkit.apiserver.requests import bodies
from labkit.podspec.go_text import go_quote

Query = dict[str, list[str]]


@dataclass(frozen=True)
class Target:
    """A resource (name = ""), an object of it, or a subresource of that; namespace "" means all of them."""

    resource: ApiResource
    namespace: str = ""
    name: str = ""
    sub: str = ""


def split(path: str) -> tuple[str, str, list[str]] | None:
    """/api/v1/pods/NAME → ("", "v1", ["pods", "NAME"]): group, version and the steps below them; None for any other path."""
    steps = [unquote(step) for step in path.strip("/").split("/")]
    if steps[:1] == ["api"] and len(steps) > 2:
        return "", steps[1], steps[2:]
    if steps[:1] == ["apis"] and len(steps) > 3:
        return steps[1], steps[2], steps[3:]
    return None


def target(path: str) -> Target | None:
    """/api/v1/namespaces/NS/pods/NAME/log → its target; None where nothing is served."""
    parts = split(path)
    if parts is None:
        return None
    group, version, steps = parts
    namespace = ""
    if steps[0] == "namespaces" and len(steps) > 2 and not (len(steps) == 3 and steps[2] in ("status", "finalize")):
        namespace, steps = steps[1], steps[2:]
        if not namespace:
            return None
    resource = api_resources.find(group, version, steps[0])
    if resource is None or len(steps) > 3 or bool(namespace) > resource.namespaced:
        return None
    name, sub = (*steps[1:], "", "")[:2]
    if (name and resource.namespaced and not namespace) or (len(steps) > 1 and not name):
        return None
    return Target(resource, namespace, name, sub)


def one(query: Query, name: str) -> str:
    """A parameter's first value, which is the one that apimachinery reads; "" where it is not given."""
    return query.get(name, [""])[0]


def flag(query: Query, name: str) -> bool:
    """A parameter that is true or false. Anything but a false word is true, as apimachinery reads it."""
    return name in query and one(query, name).lower() not in ("false", "0")


def number(query: Query, name: str) -> int | None:
    """A parameter that is an integer. Raises ApiError (400)."""
    text = one(query, name)
    if not text:
        return None
    if not re.fullmatch(r"[-+]?\d+", text, re.ASCII):
        raise api_errors.bad_request(f"strconv.ParseInt: parsing {go_quote(text)}: invalid syntax")
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise api_errors.bad_request(f"strconv.ParseInt: parsing {go_quote(text)}: value out of range")
    return int(text)


def version(query: Query) -> int | None:
    """resourceVersion; None where it is not given. Raises ApiError (400)."""
    text = one(query, "resourceVersion")
    if text and (not text.isdecimal() or not text.isascii() or len(text) > 18):
        raise api_errors.bad_request(f'resourceVersion: Invalid value: "{text}": must be an unsigned integer')
    return int(text) if text else None


LATEST = -1
"""In a token: go on in the list as it is now."""


def put_token(rv: int, after: tuple[str, str]) -> str:
    """Where a list goes on."""
    return base64.urlsafe_b64encode(json.dumps([rv, *after]).encode()).decode().rstrip("=")


def read_token(token: str) -> tuple[int, tuple[str, str]]:
    """Raises ApiError (400)."""
    try:
        rv, namespace, name = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        if not isinstance(rv, int) or not isinstance(namespace, str) or not isinstance(name, str):
            raise ValueError(token)
    except (ValueError, TypeError, RecursionError) as error:
        raise api_errors.bad_request("continue key is not valid: it is what an earlier list answered, unchanged") from error
    return rv, (namespace, name)


@dataclass(frozen=True)
class Form:
    """How the client wants its answer: the media type, and "", Table or PartialObjectMetadata(List) as what, in which version of
    meta.k8s.io."""

    kind: str = bodies.JSON
    shape: str = ""
    version: str = "v1"

    @property
    def api_version(self) -> str:
        return f"meta.k8s.io/{self.version}"


def form(accept: str) -> Form:
    """The first form in an Accept header that is served. Raises ApiError (406)."""
    if not accept.strip():
        return Form()
    for part in accept.split(","):
        kind, *parameters = (word.strip() for word in part.split(";"))
        options: dict[str, Any] = dict(parameter.partition("=")[::2] for parameter in parameters)
        shape = options.get("as", "")
        if kind in ("*/*", "application/*"):
            return Form()
        if kind in bodies.ACCEPTED and options.get("stream", "watch") == "watch":
            if not shape:
                return Form(kind)
            known = options.get("g") == "meta.k8s.io" and options.get("v") in ("v1", "v1beta1")
            if known and shape in ("Table", "PartialObjectMetadata", "PartialObjectMetadataList"):
                return Form(kind, shape, options["v"])
    raise api_errors.not_acceptable(bodies.ACCEPTED)
