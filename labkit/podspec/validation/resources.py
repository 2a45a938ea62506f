"""Requests and limits, of containers and of whole Pods. Knowledge: pkg/apis/core/validation (validateResourceRequirements …)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from labkit.podspec.quantity import canonical, exact
from labkit.podspec.validation import field_errors
from labkit.podspec.validation.checks import never
from labkit.podspec.validation.field_errors import (
    NOT_NEGATIVE,
    Cause,
    Causes,
    duplicate,
    each,
    forbidden,
    invalid,
    not_found,
    required,
    unsupported,
)
from labkit.podspec.validation.rules import At, Table, filled, given, inside

Manifest = Mapping[str, Any]
Names = Callable[[str, str], Causes]
OF_CONTAINERS = ("cpu", "memory", "ephemeral-storage")
OF_PODS = ("cpu", "memory")
COUNTED = ("pods", "services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps", "persistentvolumeclaims")
STANDARD = (
    *OF_CONTAINERS, *COUNTED, "storage", "services.nodeports", "services.loadbalancers", "requests.storage",
    *(f"{kind}.{name}" for kind in ("requests", "limits") for name in OF_CONTAINERS),
)


def quantity(name: str, amount: Any) -> Iterator[str]:
    """What is wrong with an amount of a resource: it is not negative, and whole where the resource is counted."""
    if exact(amount) < 0:
        yield NOT_NEGATIVE
    if (name in COUNTED or is_extended(name)) and exact(amount).denominator != 1:
        yield "must be an integer"


def resource(name: str, path: str) -> Causes:
    """What is wrong with the name of a resource."""
    if problems := list(field_errors.qualified_name(name)):
        yield from each(path, name, problems)
    elif "/" not in name and name not in STANDARD and not is_huge(name):
        yield invalid(path, name, "must be a standard resource type or fully qualified")


def container_resource(name: str, path: str) -> Causes:
    """The name of a resource that a container may ask for."""
    yield from resource(name, path)
    if "/" not in name and name not in OF_CONTAINERS and not is_huge(name):
        yield invalid(path, name, "must be a standard resource for containers")
    elif "/" in name and "kubernetes.io/" not in name and not is_extended(name):
        yield invalid(path, name, "doesn't follow extended resource name standard")


def pod_resource(name: str, path: str) -> Causes:
    """The name of a resource that a Pod as a whole may ask for."""
    causes = list(resource(name, path))
    yield from causes
    if not causes and name not in OF_PODS and not is_huge(name):
        yield unsupported(path, name, OF_PODS)


def amounts(names: Names) -> Callable[[Manifest, At], Causes]:
    """Limits, then requests, then the two compared."""

    def requirements(resources: Manifest, here: At) -> Causes:
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for kind, given_ in (("limits", limits), ("requests", requests)):
            for name, amount in given_.items():
                at, text = f"{here.path}.{kind}[{name}]", _text(amount)
                yield from names(name, at)
                yield from each(at, text, quantity(name, amount))
                yield from _of_limit(name, amount, limits, here.path) if kind == "requests" else ()
                if is_huge(name) and not _in_pages(name, amount):
                    yield invalid(at, text, f"{text} is not positive integer multiple of {name}")
        asked = {*limits, *requests}
        if any(map(is_huge, asked)) and not asked & {"cpu", "memory"}:
            yield forbidden(here.path, "HugePages require cpu or memory")

    return requirements


def _of_limit(name: str, amount: Any, limits: Manifest, path: str) -> Causes:
    overcommitted = ("/" not in name or "kubernetes.io/" in name) and not is_huge(name)
    if name not in limits:
        if not overcommitted:
            yield required(f"{path}.limits", "Limit must be set for non overcommitable resources")
        return
    fits = exact(amount) <= exact(limits[name]) if overcommitted else exact(amount) == exact(limits[name])
    if not fits:
        must_be = "less than or equal" if overcommitted else "equal"
        yield invalid(f"{path}.requests", _text(amount), f"must be {must_be} to {name} limit of {_text(limits[name])}")


def _in_pages(name: str, amount: Any) -> bool:
    try:
        size = exact(name.removeprefix("hugepages-"))
    except ValueError:
        return False
    return size > 0 and not exact(amount) % size


def claim(value: Manifest, here: At) -> Causes:
    """A container's claim: one of the Pod's, and named once."""
    name, known = value.get("name") or "", {claim["name"] for claim in here.spec["resourceClaims"] or () if claim.get("name")}
    if not name:
        yield required(here.path)
        return
    key, seen = f"{name}/{value['request']}" if value.get("request") else name, here.memory.setdefault("claims", set())
    if seen & {name, key} or (key == name and f"{name}/" in seen):
        yield duplicate(here.path, key)
    seen |= {key, f"{name}/"} if key != name else {key}
    if name not in known:
        names = f": {', '.join(sorted(known))}" if known else " which is empty"
        cause = not_found(here.path, name)
        yield Cause(here.path, cause.reason, f"{cause.message}: must be one of the names in pod.spec.resourceClaims{names}")


def of_containers_together(resources: Manifest, here: At) -> Causes:
    """A Pod's requests hold its containers' sum, its limits each container's."""
    containers = [c.get("resources") or {} for c in here.spec["containers"] or ()]
    requests = resources.get("requests") or {}
    for name in OF_PODS:
        total = sum(exact(amount) for c in containers if (amount := (c.get("requests") or {}).get(name)))
        if name in requests and total > exact(requests[name]):
            detail = f"must be greater than or equal to aggregate container requests of {canonical(f'{int(total * 1000)}m')}"
            yield invalid(f"{here.path}.requests[{name}]", _text(requests[name]), detail)
    limits = resources.get("limits") or {}
    for number, container in enumerate(containers):
        for name, limit in (container.get("limits") or {}).items():
            if name in limits and exact(limit) > exact(limits[name]):
                at = f"{here.path}.containers[{number}][{name}].limits"
                yield invalid(at, _text(limit), f"must be less than or equal to pod limits of {_text(limits[name])}")


def overhead(amounts_: Manifest, here: At) -> Causes:
    for name, amount in amounts_.items():
        at = f"{here.path}[{name}]"
        yield from container_resource(name, at)
        yield from [invalid(at, str(amount), NOT_NEGATIVE)] if exact(amount) < 0 else []


REQUIREMENTS: Table = (given("", amounts(container_resource)), inside("claims", (given("", claim),)))
POD_REQUIREMENTS: Table = (
    filled("claims", never("claims cannot be set for Resources at pod-level")),
    given("", amounts(pod_resource)),
    given("", of_containers_together),
)


def is_huge(name: str) -> bool:
    return name.startswith("hugepages-")


def is_extended(name: str) -> bool:
    """A resource of somebody else: "example.com/gpu"."""
    native = "/" not in name or "kubernetes.io/" in name
    return not native and not name.startswith("requests.") and not any(field_errors.qualified_name(f"requests.{name}"))


def _text(amount: Any) -> str:
    return canonical(str(amount))
