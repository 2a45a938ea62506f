"""What this API says of itself: groups, resources, version."""

from __future__ import annotations

import platform
from typing import Any

from labkit.kubeapi import absent, registry
from labkit.kubeapi.registry import ALL_VERBS, RESOURCES, Resource

SPEAKS = (1, 36)
"""The Kubernetes version whose API this is modelled on."""

NAME = f"v{SPEAKS[0]}.{SPEAKS[1]}.0-labkit"
"""A version that clients can parse, and that says who answers."""


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
    if group == registry.METRICS and version == "v1beta1":
        listed = [
            {"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["get", "list"]}
            for name, namespaced, kind in (("nodes", False, "NodeMetrics"), ("pods", True, "PodMetrics"))
        ]
    else:
        listed = [
            entry for resource in RESOURCES if (resource.group, resource.version) == (group, version)
            for entry in _entries(resource)
        ] + list(absent.resources(group, version))  # fmt: skip
    if not listed:
        return None
    named = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": named, "resources": listed}


def _groups() -> list[tuple[str, str]]:
    return [*registry.groups(), (registry.METRICS, "v1beta1"), *absent.groups()]


def _group(name: str, version: str) -> dict[str, Any]:
    served = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [served], "preferredVersion": served}


def _entries(resource: Resource) -> list[dict[str, Any]]:
    """The resource and what lies below it."""
    entry: dict[str, Any] = {
        "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced, "kind": resource.kind,
        "verbs": list(ALL_VERBS),
    }  # fmt: skip
    if resource.short:
        entry["shortNames"] = list(resource.short)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    below = [(name, registry.SUBRESOURCES[name]) for name in resource.subresources]
    return [entry] + [
        {"name": f"{resource.plural}/{name}", "singularName": "", "namespaced": resource.namespaced,
         "kind": sub.kind or resource.kind, "verbs": list(sub.verbs)}
        for name, sub in below
    ]  # fmt: skip


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
