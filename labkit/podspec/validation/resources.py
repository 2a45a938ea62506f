"""Requests and limits, of containers and of whole Pods. Knowledge: pkg/apis/core/validation (validateResourceRequirements …)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from labkit.podspec.quantity import canonical, exact
from labkit.podspec.validation import words
from labkit.podspec.validation.words import Causes, duplicate, each, forbidden, invalid, required, unsupported

Manifest = Mapping[str, Any]
OF_CONTAINERS = ("cpu", "memory", "ephemeral-storage")
OF_PODS = ("cpu", "memory")
STANDARD = (
    *OF_CONTAINERS, "storage", "pods", "services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps",
    "persistentvolumeclaims", "services.nodeports", "services.loadbalancers", *(f"requests.{name}" for name in OF_CONTAINERS),
    *(f"limits.{name}" for name in OF_CONTAINERS), "requests.storage",
)  # fmt: skip
COUNTED = ("pods", "services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps", "persistentvolumeclaims")


def requirements(resources: Manifest, path: str, claims: set[str]) -> Causes:
    """A container's resources. `claims`: the names in the Pod's `resourceClaims`."""
    yield from _requirements(resources, path, container_resource)
    yield from _claims(resources, f"{path}.claims", claims)


def pod_requirements(spec: Manifest, path: str) -> Causes:
    """Resources of the Pod as a whole: they are valid, hold its containers' sum, and each container's limit."""
    resources = spec["resources"]
    if resources.get("claims"):
        yield forbidden(f"{path}.claims", "claims cannot be set for Resources at pod-level")
    yield from _requirements(resources, path, _pod_resource)
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    containers = spec.get("containers") or []
    for name in OF_PODS:
        total = sum(exact(amount) for c in containers if (amount := ((c.get("resources") or {}).get("requests") or {}).get(name)))
        if name in requests and total > exact(requests[name]):
            said = f"must be greater than or equal to aggregate container requests of {canonical(_plain(total))}"
            yield invalid(f"{path}.requests[{name}]", _text(requests[name]), said)
    for number, container in enumerate(containers):
        for name, limit in ((container.get("resources") or {}).get("limits") or {}).items():
            if name in limits and exact(limit) > exact(limits[name]):
                at = f"{path}.containers[{number}][{name}].limits"
                yield invalid(at, _text(limit), f"must be less than or equal to pod limits of {_text(limits[name])}")


def quantity(name: str, amount: Any, path: str) -> Causes:
    """An amount of a resource: not negative, and whole where the resource is counted."""
    if exact(amount) < 0:
        yield invalid(path, _text(amount), words.NOT_NEGATIVE)
    if (name in COUNTED or _extended(name)) and exact(amount).denominator != 1:
        yield invalid(path, _text(amount), "must be an integer")


def container_resource(name: str, path: str) -> Causes:
    """The name of a resource that a container may ask for."""
    causes = list(_resource(name, path))
    yield from causes
    if "/" not in name and name not in OF_CONTAINERS and not _huge(name):
        yield invalid(path, name, "must be a standard resource for containers")
    elif "/" in name and "kubernetes.io/" not in name and not _extended(name):
        yield invalid(path, name, "doesn't follow extended resource name standard")


def _pod_resource(name: str, path: str) -> Causes:
    causes = list(_resource(name, path))
    yield from causes
    if not causes and name not in OF_PODS and not _huge(name):
        yield unsupported(path, name, OF_PODS)


def _resource(name: str, path: str) -> Causes:
    problems = list(each(path, name, words.qualified_name(name)))
    yield from problems
    if not problems and "/" not in name and name not in STANDARD and not _huge(name):
        yield invalid(path, name, "must be a standard resource type or fully qualified")


def _requirements(resources: Manifest, path: str, name_causes: Callable[[str, str], Causes]) -> Causes:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for name, amount in limits.items():
        yield from _amount(name, amount, f"{path}.limits[{name}]", name_causes)
    for name, amount in requests.items():
        at = f"{path}.requests[{name}]"
        yield from name_causes(name, at)
        yield from quantity(name, amount, at)
        overcommitted = ("/" not in name or "kubernetes.io/" in name) and not _huge(name)
        if name in limits and not overcommitted and exact(amount) != exact(limits[name]):
            yield invalid(f"{path}.requests", _text(amount), f"must be equal to {name} limit of {_text(limits[name])}")
        elif name in limits and exact(amount) > exact(limits[name]):
            said = f"must be less than or equal to {name} limit of {_text(limits[name])}"
            yield invalid(f"{path}.requests", _text(amount), said)
        elif name not in limits and not overcommitted:
            yield required(f"{path}.limits", "Limit must be set for non overcommitable resources")
        yield from _pages(name, amount, at)
    asked = {*limits, *requests}
    if any(map(_huge, asked)) and not asked & {"cpu", "memory"}:
        yield forbidden(path, "HugePages require cpu or memory")


def _amount(name: str, amount: Any, path: str, name_causes: Callable[[str, str], Causes]) -> Causes:
    yield from name_causes(name, path)
    yield from quantity(name, amount, path)
    yield from _pages(name, amount, path)


def _pages(name: str, amount: Any, path: str) -> Causes:
    if not _huge(name):
        return
    try:
        size = exact(name.removeprefix("hugepages-"))
    except ValueError:
        size = exact(0)
    if size <= 0 or exact(amount) % size:
        yield invalid(path, _text(amount), f"{_text(amount)} is not positive integer multiple of {name}")


def _claims(resources: Manifest, path: str, known: set[str]) -> Causes:
    seen: set[str] = set()
    for number, claim in enumerate(resources.get("claims") or []):
        at, name = f"{path}[{number}]", claim.get("name") or ""
        if not name:
            yield required(at)
            continue
        key = f"{name}/{claim['request']}" if claim.get("request") else name
        if seen & {name, key} or (key == name and any(other.startswith(f"{name}/") for other in seen)):
            yield duplicate(at, key)
        seen.add(key)
        if name not in known:
            names = f": {', '.join(sorted(known))}" if known else " which is empty"
            cause = words.not_found(at, name)
            said = f"must be one of the names in pod.spec.resourceClaims{names}"
            yield words.Cause(at, cause.reason, f"{cause.message}: {said}")


def _huge(name: str) -> bool:
    return name.startswith("hugepages-")


def _extended(name: str) -> bool:
    """A resource of somebody else: "example.com/gpu"."""
    native = "/" not in name or "kubernetes.io/" in name
    return not native and not name.startswith("requests.") and not any(words.qualified_name(f"requests.{name}"))


def _text(amount: Any) -> str:
    return canonical(str(amount))


def _plain(amount: Any) -> str:
    """A sum as text that can be read again: thousandths."""
    return f"{int(amount * 1000)}m"
