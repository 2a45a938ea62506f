"""Pods: when they are made, and what of them may change. Knowledge: pkg/apis/core/validation (ValidatePodSpec and its like)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from labkit.podspec.quantity import exact
from labkit.podspec.validation import words
from labkit.podspec.validation.container import (
    containers,
    ephemeral_containers,
    host_network_ports,
    images_trimmed,
    init_containers,
)
from labkit.podspec.validation.difference import difference
from labkit.podspec.validation.meta import labels, metadata, metadata_update
from labkit.podspec.validation.resources import container_resource, pod_requirements
from labkit.podspec.validation.scheduling import affinity, spread, tolerations
from labkit.podspec.validation.security import pod_security, user_namespace
from labkit.podspec.validation.volumes import volumes
from labkit.podspec.validation.words import IMMUTABLE, MAX_INT32, Causes, duplicate, each, forbidden, invalid, required

Manifest = Mapping[str, Any]
DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
RESTART_POLICIES = ("Always", "OnFailure", "Never")
UPDATABLE = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
MIRROR = "kubernetes.io/config.mirror"
STATUS_KINDS = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")


def pod(new: Manifest) -> Causes:
    """A Pod at its creation, with its defaults filled in."""
    spec = new.get("spec") or {}
    yield from metadata_and_spec(new)
    if spec.get("ephemeralContainers"):
        yield forbidden("spec.ephemeralContainers", "cannot be set on create")
    if spec.get("nodeName") and spec.get("schedulingGates"):
        yield forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared")


def pod_update(new: Manifest, old: Manifest) -> Causes:
    """A Pod that replaces another of its name: by an update, a patch, or its status."""
    yield from metadata_update(new.get("metadata") or {}, old.get("metadata") or {})
    yield from _status(new, old)
    if new.get("spec") == old.get("spec"):
        yield from metadata(new.get("metadata") or {}, words.subdomain, namespaced=True)
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
            said = f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'"
            yield forbidden(f"spec.schedulingGates[{number}].name", said)
    munged = _munged(spec, before)
    if munged != before:
        words_of_it = f"pod updates may not change fields other than {UPDATABLE}\n{difference('core.PodSpec', before, munged)}"
        yield forbidden("spec", words_of_it)


def metadata_and_spec(new: Manifest) -> Causes:
    """What holds for every Pod, stored or about to be."""
    meta, spec = new.get("metadata") or {}, new.get("spec") or {}
    yield from metadata(meta, words.subdomain, namespaced=True)
    if MIRROR in (meta.get("annotations") or {}) and not spec.get("nodeName"):
        mirrored = meta["annotations"][MIRROR]
        yield invalid(f"metadata.annotations[{MIRROR}]", mirrored, "must set spec.nodeName if mirror pod annotation is set")
    yield from _spec(spec, meta.get("name") or "")
    for number, volume in enumerate([] if spec.get("serviceAccountName") else spec.get("volumes") or []):
        for index, source in enumerate((volume.get("projected") or {}).get("sources") or []):
            if source.get("serviceAccountToken") is not None:
                at = f"spec.volumes[{number}].projected.sources[{index}].serviceAccountToken"
                yield forbidden(at, "must not be specified when serviceAccountName is not set")
    yield from images_trimmed(spec)


def _spec(spec: Manifest, name: str) -> Causes:
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is None:
        yield required("spec.terminationGracePeriodSeconds")
    wrong, mountable = volumes(spec, name)
    yield from wrong
    yield from _resource_claims(spec.get("resourceClaims") or [])
    yield from containers(spec, mountable)
    yield from init_containers(spec, mountable)
    yield from ephemeral_containers(spec, mountable)
    if spec.get("resources"):
        yield from pod_requirements(spec, "spec.resources")
    yield from host_network_ports(spec)
    yield from words.one_of("spec.restartPolicy", spec.get("restartPolicy"), RESTART_POLICIES, needed=True)
    yield from words.one_of("spec.dnsPolicy", spec.get("dnsPolicy"), DNS_POLICIES, needed=True)
    yield from labels(spec.get("nodeSelector") or {}, "spec.nodeSelector")
    yield from pod_security(spec, "spec.securityContext")
    yield from affinity(spec.get("affinity") or {}, "spec.affinity")
    yield from _dns(spec)
    for number, gate in enumerate(spec.get("readinessGates") or []):
        kind = gate.get("conditionType") or ""
        yield from each(f"spec.readinessGates[{number}].conditionType", kind, words.qualified_name(kind))
    yield from _scheduling_gates(spec.get("schedulingGates") or [])
    yield from spread(spec.get("topologySpreadConstraints") or [], "spec.topologySpreadConstraints")
    yield from user_namespace(spec, "spec")
    yield from _names(spec)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= MAX_INT32:
        yield invalid("spec.activeDeadlineSeconds", deadline, words.in_range(1, MAX_INT32))
    yield from tolerations(spec.get("tolerations") or [], "spec.tolerations")
    yield from _host_aliases(spec.get("hostAliases") or [])
    policy = spec.get("preemptionPolicy")
    yield from words.one_of("spec.preemptionPolicy", policy, ("PreemptLowerPriority", "Never"))
    for resource, amount in (spec.get("overhead") or {}).items():
        yield from container_resource(resource, f"spec.overhead[{resource}]")
        if exact(amount) < 0:
            yield invalid(f"spec.overhead[{resource}]", str(amount), words.NOT_NEGATIVE)
    system = spec.get("os")
    if system is not None:
        yield from words.one_of("spec.os.name", system.get("name"), ("linux", "windows"), needed=True)


def _names(spec: Manifest) -> Causes:
    for field, check in (
        ("serviceAccountName", words.subdomain),
        ("nodeName", words.subdomain),
        ("hostname", words.label),
        ("subdomain", words.label),
        ("priorityClassName", words.subdomain),
        ("runtimeClassName", words.subdomain),
    ):
        if value := spec.get(field):
            yield from each(f"spec.{field}", value, check(value))


def _resource_claims(claims: list[Manifest]) -> Causes:
    seen: set[str] = set()
    for number, claim in enumerate(claims):
        at, name = f"spec.resourceClaims[{number}]", claim.get("name") or ""
        if not name:
            yield required(f"{at}.name")
        elif name in seen:
            yield duplicate(f"{at}.name", name)
        else:
            yield from each(f"{at}.name", name, words.label(name))
        seen.add(name)
        given = [field for field in ("resourceClaimName", "resourceClaimTemplateName") if claim.get(field) is not None]
        if len(given) == 2:
            yield invalid(at, dict(claim), "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified")
        elif not given:
            yield invalid(at, dict(claim), "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`")
        for field in given:
            yield from each(f"{at}.{field}", claim[field], words.subdomain(claim[field]))


def _scheduling_gates(gates: list[Manifest]) -> Causes:
    seen: set[str] = set()
    for number, gate in enumerate(gates):
        at, name = f"spec.schedulingGates[{number}]", gate.get("name") or ""
        yield from each(at, name, words.qualified_name(name))
        if name in seen:
            yield duplicate(at, name)
        seen.add(name)


def _dns(spec: Manifest) -> Causes:
    config, path = spec.get("dnsConfig"), "spec.dnsConfig"
    if spec.get("dnsPolicy") == "None":
        if config is None:
            yield required(path, "must provide `dnsConfig` when `dnsPolicy` is None")
        elif not config.get("nameservers"):
            yield required(f"{path}.nameservers", "must provide at least one DNS nameserver when `dnsPolicy` is None")
            return
    if config is None:
        return
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    if len(servers) > 3:
        yield invalid(f"{path}.nameservers", servers, "must not have more than 3 nameservers")
    for number, server in enumerate(servers):
        yield from each(f"{path}.nameservers[{number}]", server, words.address(server))
    if len(searches) > 32:
        yield invalid(f"{path}.searches", searches, "must not have more than 32 search paths")
    if len(" ".join(searches)) > 2048:
        said = "must not have more than 2048 characters (including spaces) in the search list"
        yield invalid(f"{path}.searches", searches, said)
    for number, search in enumerate(searches):
        bare = search.removesuffix(".")
        if search != ".":
            yield from each(f"{path}.searches[{number}]", bare, words.search_domain(bare))
    for number, option in enumerate(config.get("options") or []):
        if not option.get("name"):
            yield required(f"{path}.options[{number}]", "must not be empty")


def _host_aliases(aliases: list[Manifest]) -> Causes:
    for number, alias in enumerate(aliases):
        at, address = f"spec.hostAliases[{number}]", alias.get("ip") or ""
        yield from each(f"{at}.ip", address, words.address(address))
        for index, name in enumerate(alias.get("hostnames") or []):
            yield from each(f"{at}.hostnames[{index}]", name, words.subdomain(name))


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
    sidecars = {c.get("name") for c in spec.get("initContainers") or [] if c.get("restartPolicy") == "Always"}
    for kind in STATUS_KINDS:
        policy = "Never" if kind == "ephemeralContainerStatuses" else spec.get("restartPolicy")
        yield from _transitions(status.get(kind) or [], before.get(kind) or [], policy, sidecars, f"status.{kind}", spec)
    for number, address in enumerate(status.get("podIPs") or []):
        yield from each(f"status.podIPs[{number}]", address.get("ip") or "", words.address(address.get("ip") or ""))
    hosts = status.get("hostIPs") or []
    if hosts and status.get("hostIP") != hosts[0].get("ip"):
        yield invalid("status.hostIPs[0].ip", hosts[0].get("ip") or "", "must be equal to `hostIP`")


def _transitions(
    new: list[Manifest], old: list[Manifest], policy: str | None, sidecars: set[Any], path: str, spec: Manifest
) -> Causes:
    """A container that has ended for good does not come back."""
    own = {c.get("name") for kind in ("containers", "initContainers") for c in spec.get(kind) or [] if c.get("restartPolicy")}
    if policy == "Always":
        return
    for number, was in enumerate(old):
        ended = (was.get("state") or {}).get("terminated")
        name = was.get("name")
        if ended is None or name in sidecars or name in own or (ended.get("exitCode") and policy == "OnFailure"):
            continue
        if any(now.get("name") == name and (now.get("state") or {}).get("terminated") is None for now in new):
            yield forbidden(f"{path}[{number}].state", "may not be transitioned to non-terminated state")
