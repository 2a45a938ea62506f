"""What of a Pod may change. Knowledge: pkg/apis/core/validation (ValidatePodUpdate, ValidatePodStatusUpdate)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from labkit.podspec.container_kinds import containers
from labkit.podspec.validation import field_errors
from labkit.podspec.validation.field_errors import IMMUTABLE, Causes, each, forbidden, invalid, shown
from labkit.podspec.validation.meta import metadata, metadata_update
from labkit.podspec.validation.pod import metadata_and_spec
from labkit.podspec.validation.rules import At, check

Manifest = Mapping[str, Any]
UPDATABLE = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
STATUS_KINDS = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
ABSENT = object()


def pod_update(new: Manifest, old: Manifest) -> Causes:
    """A Pod that replaces another of its name: by an update, a patch, or its status."""
    yield from metadata_update(new.get("metadata") or {}, old.get("metadata") or {})
    yield from _status(new, old)
    if new.get("spec") == old.get("spec"):
        yield from check((metadata(field_errors.subdomain, namespaced=True),), At(new, kind="Pod"))
        return
    yield from metadata_and_spec(new)
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    for kind in ("containers", "initContainers"):
        if len(spec.get(kind) or []) != len(before.get(kind) or []):
            yield forbidden(f"spec.{kind}", "pod updates may not add or remove containers")
            return
    yield from _deadline(spec.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds"))
    yield from _only_added(spec.get("tolerations") or [], before.get("tolerations") or [])
    gates = {gate.get("name") for gate in before.get("schedulingGates") or []}
    for number, gate in enumerate(spec.get("schedulingGates") or []):
        if gate.get("name") not in gates:
            detail = f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'"
            yield forbidden(f"spec.schedulingGates[{number}].name", detail)
    munged = _munged(spec, before)
    if munged != before:
        detail = f"pod updates may not change fields other than {UPDATABLE}\n{difference('core.PodSpec', before, munged)}"
        yield forbidden("spec", detail)


def ephemeral_update(new: Manifest, old: Manifest) -> Causes:
    """A Pod that gets ephemeral containers: those that it has stay as they are (ValidatePodEphemeralContainersUpdate)."""
    yield from metadata_and_spec(new)
    path = "spec.ephemeralContainers"
    named = {each.get("name"): each for each in new["spec"].get("ephemeralContainers") or []}
    for was in old["spec"].get("ephemeralContainers") or []:
        name = was["name"]
        if name not in named:
            yield forbidden(path, f'existing ephemeral containers "{name}" may not be removed\n')
        elif named[name] != was:
            changes = difference("core.EphemeralContainer", was, named[name])
            yield forbidden(path, f'existing ephemeral containers "{name}" may not be changed\n{changes}')


def _deadline(new: int | None, old: int | None) -> Causes:
    if new is None and old is not None:
        yield invalid("spec.activeDeadlineSeconds", None, "must not update from a positive integer to nil value")
    elif new is not None and old is not None and new > old:
        yield invalid("spec.activeDeadlineSeconds", new, "must be less than or equal to previous value")


def _only_added(new: list[Manifest], old: list[Manifest]) -> Causes:
    def bare(toleration: Manifest) -> dict[str, Any]:
        return {key: value for key, value in toleration.items() if key != "tolerationSeconds"}

    kept = [bare(toleration) for toleration in new]
    if any(bare(toleration) not in kept for toleration in old):
        yield forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")


def _munged(spec: Manifest, before: Manifest) -> dict[str, Any]:
    """The new spec with everything that may change put back as it was."""
    munged = copy.deepcopy(dict(spec))
    for kind in ("containers", "initContainers"):
        for container, was in zip(munged.get(kind) or [], before.get(kind) or [], strict=False):
            container["image"] = was.get("image")
    back = ["activeDeadlineSeconds", "tolerations", "schedulingGates"]
    if (before.get("terminationGracePeriodSeconds") or 0) < 0 and munged.get("terminationGracePeriodSeconds") == 1:
        back.append("terminationGracePeriodSeconds")
    gated = before.get("schedulingGates")
    if gated and (before.get("nodeSelector") or {}).items() <= (munged.get("nodeSelector") or {}).items():
        back.append("nodeSelector")
    for field in back:
        munged.pop(field, None)
        munged |= {field: before[field]} if field in before else {}
    return munged


def _status(new: Manifest, old: Manifest) -> Causes:
    status, before, spec = new.get("status") or {}, old.get("status") or {}, old.get("spec") or {}
    if status == before:
        return
    if before.get("qosClass") and status.get("qosClass") != before["qosClass"]:
        yield invalid("status.qosClass", status.get("qosClass") or "", IMMUTABLE)
    own = {c.get("name") for c in containers(spec, ("containers", "initContainers")) if c.get("restartPolicy")}
    for kind in STATUS_KINDS:
        policy = "Never" if kind == "ephemeralContainerStatuses" else spec.get("restartPolicy")
        if policy != "Always":
            retried = policy == "OnFailure"
            yield from _transitions(status.get(kind) or [], before.get(kind) or [], own, retried, f"status.{kind}")
    for number, address in enumerate(status.get("podIPs") or []):
        yield from each(f"status.podIPs[{number}]", address.get("ip") or "", field_errors.address(address.get("ip") or ""))
    hosts = status.get("hostIPs") or []
    if hosts and status.get("hostIP") != hosts[0].get("ip"):
        yield invalid("status.hostIPs[0].ip", hosts[0].get("ip") or "", "must be equal to `hostIP`")


def _transitions(new: list[Manifest], old: list[Manifest], own: set[Any], retried: bool, path: str) -> Causes:
    """A container that has ended for good does not come back. own: names of those with a restart policy of their own; retried:
    whether one that has failed starts again."""
    for number, was in enumerate(old):
        ended = (was.get("state") or {}).get("terminated")
        name = was.get("name")
        if ended is None or name in own or (retried and ended.get("exitCode")):
            continue
        if any(now.get("name") == name and (now.get("state") or {}).get("terminated") is None for now in new):
            yield forbidden(f"{path}[{number}].state", "may not be transitioned to non-terminated state")


def difference(kind: str, old: Any, new: Any) -> str:
    """Lines that name each field that differs, with a `-` before the old value and a `+` before the new, in the layout that
    Kubernetes prints below its refusal (Go's cmp.Diff)."""
    return "\n".join([f"  {kind}{{", *_lines(old, new, ""), "  }", ""])


def _lines(old: Any, new: Any, path: str) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _lines(old.get(key, ABSENT), new.get(key, ABSENT), f"{path}.{key}" if path else key)
    elif isinstance(old, list) and isinstance(new, list):
        for number in range(max(len(old), len(new))):
            before, now = (items[number] if number < len(items) else ABSENT for items in (old, new))
            yield from _lines(before, now, f"{path}[{number}]")
    else:
        yield from (f"{sign} \t{path}: {shown(value)}," for sign, value in (("-", old), ("+", new)) if value is not ABSENT)
