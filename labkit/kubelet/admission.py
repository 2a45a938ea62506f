"""May this Pod run on this node? What the scheduler did not look at, or could not know. Pure.

Knowledge: kubelet's lifecycle/{predicate,handlers}.go and sysctl/{allowlist,safe_sysctls}.go, kubernetes' pkg/security/apparmor,
component-helpers' nodeaffinity, scheduler's AdmissionCheck and noderesources.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.cri.quantity import milli, whole
from labkit.cri.resources import pod_requests

AFFINITY_WORDS = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
PORTS_WORDS = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
APPARMOR_WORDS = "Cannot enforce AppArmor: AppArmor is not enabled on the host"
OS_WORDS = "Failed to admit pod as the OS field doesn't match node OS"
ENDED = ("Succeeded", "Failed")
RESOURCES = (("cpu", milli), ("memory", whole), ("ephemeral-storage", whole))
SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced": "ipc",
    **dict.fromkeys(
        ("net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
         "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time",
         "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem",
         "net.ipv4.tcp_wmem"), "net"),
}  # fmt: skip
"""Sysctls that every Pod may set, with the namespace that each belongs to."""


@dataclass(frozen=True)
class Rejection:
    """`reason` for the status and the event (OutOfcpu, NodeAffinity …), `message` in the kubelet's words."""

    reason: str
    message: str


def admit(pod: Mapping[str, Any], others: Iterable[Mapping[str, Any]], labels: Mapping[str, str],
          allocatable: Mapping[str, str], *, apparmor: bool = True) -> Rejection | None:  # fmt: skip
    """Why the node rejects a Pod, None if it does not: the first reason in the kubelet's order. `others`: the Pods that run here
    already. `apparmor`: whether the node's kernel has it on."""
    running = [other for other in others if (other.get("status") or {}).get("phase") not in ENDED]
    return next(rejections(pod, running, labels, allocatable, apparmor), None)


def apparmor_enabled(root: Path = Path("/sys")) -> bool:
    """Whether this kernel enforces AppArmor (opencontainers/runc's libcontainer/apparmor)."""
    try:
        said = (root / "module/apparmor/parameters/enabled").read_text()
        return (root / "kernel/security/apparmor").exists() and said.startswith("Y")
    except OSError:
        return False


def rejections(pod: Mapping[str, Any], running: list[Mapping[str, Any]], labels: Mapping[str, str],
               allocatable: Mapping[str, str], apparmor: bool) -> Iterator[Rejection]:  # fmt: skip
    """Every reason to reject a Pod, the first that the kubelet would tell first."""
    spec = pod["spec"]
    for sysctl in spec["securityContext"].get("sysctls", ()):
        if why := forbidden_sysctl(sysctl["name"].replace("/", "."), spec):
            yield Rejection("SysctlForbidden", f"forbidden sysctl: {why}")
    if spec.get("os", {}).get("name", "linux") != "linux":
        yield Rejection("PodOSNotSupported", OS_WORDS)
    yield from lacking(pod, running, allocatable)
    if not wants_node(spec, labels):
        yield Rejection("NodeAffinity", AFFINITY_WORDS)
    if host_ports(pod) & set().union(*map(host_ports, running)):
        yield Rejection("NodePorts", PORTS_WORDS)
    if not apparmor and wants_apparmor(spec):
        yield Rejection("AppArmor", APPARMOR_WORDS)


def wants_apparmor(spec: Mapping[str, Any]) -> bool:
    """Whether a Pod, or any of its containers, names a profile of AppArmor other than none."""
    containers = (c for kind in ("initContainers", "containers") for c in spec.get(kind, ()))
    contexts = [spec["securityContext"], *(c.get("securityContext", {}) for c in containers)]
    return any(context.get("appArmorProfile", {}).get("type", "Unconfined") != "Unconfined" for context in contexts)


def forbidden_sysctl(name: str, spec: Mapping[str, Any]) -> str:
    """Why a Pod may not set a sysctl, "" if it may."""
    namespace = SAFE_SYSCTLS.get(name)
    if namespace is None:
        return f'"{name}" not allowlisted'
    of_host = spec.get("hostNetwork") if namespace == "net" else spec.get("hostIPC")
    return f'"{name}" not allowed with host {namespace} enabled' if of_host else ""


def lacking(pod: Mapping[str, Any], running: list[Mapping[str, Any]], allocatable: Mapping[str, str]) -> Iterator[Rejection]:
    """What the node has too little of."""
    if not allocatable:
        return
    pods = int(allocatable.get("pods", 110))
    if len(running) + 1 > pods:
        yield out_of("pods", 1, len(running), pods)
    asked = pod_requests(pod)
    used = [pod_requests(other) for other in running] if asked else []
    for name, read in RESOURCES:
        if name not in allocatable or not asked.get(name):
            continue
        taken, capacity = sum(one.get(name, 0) for one in used), read(allocatable[name])
        if taken + asked[name] > capacity:
            yield out_of(name, asked[name], taken, capacity)


def out_of(name: str, asked: int, used: int, capacity: int) -> Rejection:
    words = f"Node didn't have enough resource: {name}, requested: {asked}, used: {used}, capacity: {capacity}"
    return Rejection(f"OutOf{name}", words)


def wants_node(spec: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether nodeSelector and the required node affinity allow a node with these labels."""
    if any(labels.get(key) != value for key, value in spec.get("nodeSelector", {}).items()):
        return False
    required = spec.get("affinity", {}).get("nodeAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or any(term_allows(term, labels) for term in required["nodeSelectorTerms"])


def term_allows(term: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether all of a term's expressions match; a term without any matches nothing. Its fields know only the node's name."""
    expressions = term.get("matchExpressions", ())
    return bool(expressions or term.get("matchFields")) and all(matches(one, labels) for one in expressions)


def matches(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """One expression of a node selector."""
    value, values, operator = labels.get(expression["key"]), expression.get("values", ()), expression["operator"]
    if operator in ("Exists", "DoesNotExist"):
        return (value is not None) is (operator == "Exists")
    if operator == "NotIn":
        return value not in values
    if value is None:
        return False
    if operator == "In":
        return value in values
    try:
        return int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])
    except (ValueError, IndexError):
        return False


def host_ports(pod: Mapping[str, Any]) -> set[tuple[str, int]]:
    """(protocol, port) of the node that a Pod takes."""
    containers = pod["spec"]["containers"]
    return {(p.get("protocol", "TCP"), p["hostPort"]) for c in containers for p in c.get("ports", ()) if p.get("hostPort")}
