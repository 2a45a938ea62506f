"""What this API says of itself: groups, resources, version."""

from __future__ import annotations

import platform
from typing import Any

from labkit.apiserver import api_resources
from labkit.apiserver.api_resources import ALL_VERBS, METRICS, RESOURCES, ApiResource, Named
from labkit.apiserver.discovery.absent import ABSENT

SPEAKS = (1, 36)
"""The Kubernetes version whose API this is modelled on."""

NAME = f"v{SPEAKS[0]}.{SPEAKS[1]}.0-labkit"
"""A version that clients can parse, and that says who answers."""

ALL: tuple[Named, ...] = (*RESOURCES, *METRICS, *ABSENT)


def version() -> dict[str, str]:
    return {
        "major": str(SPEAKS[0]),
        "minor": str(SPEAKS[1]),
        "gitVersion": NAME,
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "",
        "goVersion": "none: labkit's stand-in for kube-apiserver",
        "compiler": f"Python {platform.python_version()}",
        "platform": f"{platform.system().lower()}/{_architecture()}",
    }


def core(address: str) -> dict[str, Any]:
    """The answer to /api."""
    served = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": served}


def groups() -> dict[str, Any]:
    """The answer to /apis."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(*pair) for pair in _groups()]}


def group(name: str) -> dict[str, Any] | None:
    """The answer to /apis/GROUP."""
    found = next((pair for pair in _groups() if pair[0] == name), None)
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(*found)} if found else None


def resources(group: str, version: str) -> dict[str, Any] | None:
    """The answer to /api/v1 and /apis/GROUP/VERSION."""
    listed = [entry for resource in ALL if resource.is_at(group, version) for entry in _entries(resource)]
    if not listed:
        return None
    named = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": named, "resources": listed}


def _groups() -> list[tuple[str, str]]:
    """Each named group with its version."""
    return list(dict.fromkeys((resource.group, resource.version) for resource in ALL if resource.group))


def _group(name: str, version: str) -> dict[str, Any]:
    served = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [served], "preferredVersion": served}


def _entries(resource: Named) -> list[dict[str, Any]]:
    """The resource and what lies below it."""
    singular = "" if resource in METRICS else resource.singular
    entry = _entry(resource, resource.plural, singular, resource.kind, _verbs(resource))
    if resource.short:
        entry["shortNames"] = list(resource.short)
    if not isinstance(resource, ApiResource):
        return [entry]
    if resource.categories:
        entry["categories"] = list(resource.categories)
    below = [(name, api_resources.SUBRESOURCES[name]) for name in resource.subresources]
    return [entry] + [
        _entry(resource, f"{resource.plural}/{name}", "", sub.kind or resource.kind, sub.verbs) for name, sub in below
    ]


def _entry(resource: Named, name: str, singular: str, kind: str, verbs: tuple[str, ...]) -> dict[str, Any]:
    return {"name": name, "singularName": singular, "namespaced": resource.namespaced, "kind": kind, "verbs": list(verbs)}


def _verbs(resource: Named) -> tuple[str, ...]:
    return ALL_VERBS if isinstance(resource, ApiResource) else ("get", "list") if resource in METRICS else ()


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
