"""What the API does to a Pod of its own when one is made, or when its status changes.

Knowledge: pkg/registry/core/pod/strategy.go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labkit.apiserver.admission.pod_security_checks import APPARMOR
from labkit.apiserver.objects.strategy import timestamp
from labkit.apiserver.storage.store import Object
from labkit.podspec.container_kinds import containers
from labkit.podspec.messages.linux_resources import qos_of

OLD_APPARMOR = 'deprecated since v1.30; use the "appArmorProfile" field instead'
GATED = "Scheduling is blocked due to non-empty scheduling gates"


def prepare(pod: Object) -> Iterator[str]:
    """Complete a valid Pod that is being made; yields warnings."""
    spec, labels = pod["spec"], pod["metadata"].get("labels") or {}
    for term in _terms(spec):
        _merge(term, "matchLabelKeys", "In", labels)
        _merge(term, "mismatchLabelKeys", "NotIn", labels)
    for rule in spec.get("topologySpreadConstraints") or ():
        _merge(rule, "matchLabelKeys", "In", labels)
    if (spec.get("os") or {}).get("name") != "windows":
        yield from _apparmor(pod)
    pod["status"]["qosClass"] = qos_of(pod)
    if spec.get("schedulingGates"):
        gated = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": GATED}
        pod["status"]["conditions"] = [{**gated, "lastProbeTime": None, "lastTransitionTime": timestamp()}]


def keep_in_status(new: Object, old: Object) -> None:
    """What a change of a Pod's status leaves as it is: owners, QoS class, and the generations that the change does not name."""
    if "ownerReferences" in old["metadata"]:
        new["metadata"]["ownerReferences"] = old["metadata"]["ownerReferences"]
    else:
        new["metadata"].pop("ownerReferences", None)
    status, before = new.setdefault("status", {}), old.get("status") or {}
    for name in ("qosClass", "observedGeneration"):
        if not status.get(name) and name in before:
            status[name] = before[name]
    known = {each.get("type"): each.get("observedGeneration") for each in before.get("conditions") or ()}
    for condition in status.get("conditions") or ():
        if not condition.get("observedGeneration") and known.get(condition.get("type")):
            condition["observedGeneration"] = known[condition.get("type")]


def _terms(spec: Object) -> Iterator[Object]:
    """The terms of a Pod's affinity to other Pods."""
    for kind in ("podAffinity", "podAntiAffinity"):
        affinity = (spec.get("affinity") or {}).get(kind) or {}
        yield from (each["podAffinityTerm"] for each in affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ())
        yield from affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ()


def _merge(holder: Object, field: str, operator: str, labels: dict[str, str]) -> None:
    """Put the Pod's own values of the labels that `field` names into the selector."""
    selector: Any = holder.get("labelSelector")
    found = [{"key": key, "operator": operator, "values": [labels[key]]} for key in holder.get(field) or () if key in labels]
    if selector is not None and found:
        selector["matchExpressions"] = [*(selector.get("matchExpressions") or ()), *found]


def _apparmor(pod: Object) -> Iterator[str]:
    """Profiles that are named by annotations become fields."""
    of_pod = (pod["spec"].get("securityContext") or {}).get("appArmorProfile")
    for container in containers(pod["spec"]):
        key = APPARMOR + container["name"]
        text, own = (pod["metadata"].get("annotations") or {}).get(key), container.get("securityContext") or {}
        if text is None or own.get("appArmorProfile"):
            continue
        profile = _profile(text)
        if profile is None or profile != of_pod:
            yield f"metadata.annotations[{key}]: {OLD_APPARMOR}"
        if profile is not None and profile != of_pod:
            container["securityContext"] = {**own, "appArmorProfile": profile}


def _profile(text: str) -> dict[str, str] | None:
    kind, _, name = text.partition("/")
    if kind == "localhost" and name.strip() == name != "":
        return {"type": "Localhost", "localhostProfile": name}
    return {"unconfined": {"type": "Unconfined"}, "runtime/default": {"type": "RuntimeDefault"}}.get(text)
