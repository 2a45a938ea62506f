"""Pod Security: what a namespace's labels pod-security.kubernetes.io/… let its Pods do.

Knowledge: k8s.io/pod-security-admission (admission/admission.go, api/helpers.go, policy/check_*.go).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from labkit.apiserver import api_errors
from labkit.apiserver.admission.pod_security_checks import CHECKS, LATEST
from labkit.apiserver.storage.store import Object, Store
from labkit.podspec.container_kinds import KINDS, containers
from labkit.podspec.matching import labels
from labkit.podspec.validation.field_errors import Causes, invalid

Manifest = Mapping[str, Any]
PREFIX = "pod-security.kubernetes.io/"
LEVELS = ("privileged", "baseline", "restricted")
VERSION = re.compile(r"v1\.(0|[1-9][0-9]*)")
AUDIT = f"{PREFIX}audit"
NO_AUDIT = "The lab's API keeps no audit log, so this label has no effect."


@dataclass(frozen=True)
class Policy:
    """A level and the minor version of Kubernetes whose standards count."""

    level: str = "privileged"
    version: str = "latest"

    def __str__(self) -> str:
        return f"{self.level}:{self.version}"

    def violations(self, pod: Manifest) -> Iterator[tuple[str, str]]:
        """(reason, detail) of each control that the Pod fails."""
        minor = LATEST if self.version == "latest" else int(self.version[3:])
        for check in CHECKS[self.level]:
            if check.since <= minor and (detail := check.detail(pod, minor)):
                plural = detail.startswith("*")  # the reason is in the plural, too
                yield check.reason + "s" * plural, detail.removeprefix("*")

    def words(self, pod: Manifest) -> str:
        return ", ".join(f"{reason} ({detail})" for reason, detail in self.violations(pod))


def of_namespace(store: Store, new: Object, old: Object | None) -> Iterator[str]:
    """Warnings about a namespace that is made or changed: its Pods that would not be let in any more, labels without effect.
    Raises ApiError (422) for a label that says no policy."""
    name, values, before = new["metadata"]["name"], labels(new), labels(old) if old else {}
    wrong = list(_unknown(values))
    if wrong and wrong != list(_unknown(before)):
        raise api_errors.invalid("Namespace", name, wrong)
    if AUDIT in values and AUDIT not in before:
        yield f"metadata.labels[{AUDIT}]: {NO_AUDIT}"
    policy, was = policy_of(values, "enforce"), policy_of(before, "enforce")
    if old is None or (policy.version == was.version and LEVELS.index(policy.level) <= LEVELS.index(was.level)):
        return
    found: dict[str, list[str]] = {}
    for (_, pod), entry in sorted(store.list("pods", name), key=lambda item: item[0]):
        if reasons := ", ".join(reason for reason, _ in policy.violations(entry.obj)):
            found.setdefault(reasons, []).append(pod)
    if found:
        yield f'existing pods in namespace "{name}" violate the new PodSecurity enforce level "{policy}"'
    others = {1: "", 2: " (and 1 other pod)"}
    yield from sorted(
        f"{pods[0]}{others.get(len(pods), f' (and {len(pods) - 1} other pods)')}: {why}" for why, pods in found.items()
    )


def admit(store: Store, pod: Object, old: Object | None) -> Iterator[str]:
    """The warnings of the namespace's policy about a Pod that is made or whose images change. Raises ApiError (403)."""
    if old is not None and not _significant(pod, old):
        return
    entry = store.get("namespaces", "", pod["metadata"]["namespace"])
    values = labels(entry.obj) if entry else {}
    enforced, warned = policy_of(values, "enforce"), policy_of(values, "warn")
    if words := enforced.words(pod):
        raise api_errors.forbidden("pods", pod["metadata"].get("name", ""), f'violates PodSecurity "{enforced}": {words}')
    if words := warned.words(pod):
        yield f'would violate PodSecurity "{warned}": {words}'


def policy_of(values: Mapping[str, str], mode: str) -> Policy:
    level, version = values.get(f"{PREFIX}{mode}", "privileged"), values.get(f"{PREFIX}{mode}-version", "latest")
    return Policy(level if level in LEVELS else "restricted", version if _is_version(version) else "latest")


def _unknown(values: Mapping[str, str]) -> Causes:
    """Labels that name no level or version."""
    for mode in ("enforce", "audit", "warn"):
        level, version = f"{PREFIX}{mode}", f"{PREFIX}{mode}-version"
        if values.get(level, "privileged") not in LEVELS:
            yield invalid(f"metadata.labels[{level}]", values[level], f"must be one of {', '.join(LEVELS)}")
        if not _is_version(values.get(version, "latest")):
            yield invalid(f"metadata.labels[{version}]", values[version], 'must be "latest" or "v1.x"')


def _is_version(text: str) -> bool:
    return text == "latest" or VERSION.fullmatch(text) is not None


def _significant(new: Manifest, old: Manifest) -> bool:
    """Whether an update changes something that a policy is about."""
    images = (
        [(kind, c["name"], c.get("image")) for kind in KINDS for c in containers(pod["spec"], (kind,))] for pod in (new, old)
    )
    return next(images) != next(images)
