"""May this Pod run on this node? What the scheduler did not look at, or could not know.

Knowledge: kubelet's lifecycle/{predicate,handlers}.go and sysctl/{allowlist,safe_sysctls}.go, kubernetes' pkg/security/apparmor,
component-helpers' nodeaffinity, scheduler's AdmissionCheck and noderesources.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from labkit.kubelet.api import ApiClient, ApiClientError
from labkit.podspec.container_kinds import containers
from labkit.podspec.matching import repelled, wants_node
from labkit.podspec.ports import ports_are_free
from labkit.podspec.requests import added, amounts, lacking, pod_requests

Manifest = Mapping[str, Any]

AFFINITY_WORDS = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
PORTS_WORDS = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
APPARMOR_WORDS = "Cannot enforce AppArmor: AppArmor is not enabled on the host"
OS_WORDS = "Failed to admit pod as the OS field doesn't match node OS"
OS_LABEL, OS_LABEL_WORDS = "kubernetes.io/os", "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"
GROUPS_WORDS = "SupplementalGroupsPolicy=Strict is not supported in this node"
TAINT_WORDS = "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"
ENDED = ("Succeeded", "Failed")
SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced": "ipc",
    **dict.fromkeys(
        ("net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
         "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time",
         "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem",
         "net.ipv4.tcp_wmem"), "net"),
}
"""Sysctls that every Pod may set, with the namespace that each belongs to."""


@dataclass(frozen=True)
class Rejection:
    """`reason` for the status and the event (OutOfcpu, NodeAffinity …), `message` in the kubelet's words."""

    reason: str
    message: str


@dataclass
class Admission:
    """The node as its API object and its kernel have it, for `admit`. `on_list` and `on_event` take what the API tells of it."""

    api: ApiClient
    name: str
    labels: Mapping[str, str]
    allocatable: Mapping[str, str]
    taints: Sequence[Manifest] = ()
    apparmor: bool = True

    def on_list(self, nodes: list[dict[str, Any]]) -> None:
        for node in nodes:
            self.on_event("ADDED", node)

    def on_event(self, type: str, node: Mapping[str, Any]) -> None:
        if type != "DELETED":
            self.labels = node["metadata"].get("labels") or {}
            self.taints = (node.get("spec") or {}).get("taints") or ()

    def rejection(self, pod: Manifest, others: Sequence[Manifest], *, strict_groups: bool) -> Rejection | None:
        """As `admit`. Where the labels do not fit, they are read again: they may have changed (predicate.go)."""
        check = partial(admit, pod, others, allocatable=self.allocatable, name=self.name, taints=self.taints,
                        apparmor=self.apparmor, strict_groups=strict_groups)
        rejection = check(labels=self.labels)
        return check(labels=self._labels_now()) if rejection and rejection.reason == "NodeAffinity" else rejection

    def _labels_now(self) -> Mapping[str, str]:
        """The node's labels as the API has them; those known where it does not answer."""
        try:
            return self.api.get(f"/api/v1/nodes/{self.name}")["metadata"].get("labels") or {}
        except (ApiClientError, OSError):
            return self.labels


def admit(pod: Manifest, others: Iterable[Manifest], labels: Mapping[str, str],
          allocatable: Mapping[str, str], *, name: str = "", taints: Sequence[Manifest] = (), apparmor: bool = True,
          strict_groups: bool = True) -> Rejection | None:
    """Why the node rejects a Pod, None if it does not: the first reason in the kubelet's order. Pure. `others`: the Pods that run
    here already. `labels`, `allocatable`, `name`, `taints`: the node's. `apparmor`: whether the node's kernel has it on;
    `strict_groups`: whether its runtime knows supplementalGroupsPolicy."""
    running = [other for other in others if (other.get("status") or {}).get("phase") not in ENDED]
    node = {"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints}}
    return next(rejections(pod, running, node, allocatable, apparmor, strict_groups), None)


def apparmor_enabled(root: Path = Path("/sys")) -> bool:
    """Whether this kernel enforces AppArmor (opencontainers/runc's libcontainer/apparmor)."""
    try:
        enabled = (root / "module/apparmor/parameters/enabled").read_text()
        return (root / "kernel/security/apparmor").exists() and enabled.startswith("Y")
    except OSError:
        return False


def rejections(pod: Manifest, running: list[Manifest], node: Manifest,
               allocatable: Mapping[str, str], apparmor: bool, strict_groups: bool) -> Iterator[Rejection]:
    """Every reason to reject a Pod, the first that the kubelet would tell first."""
    spec = pod["spec"]
    for sysctl in spec["securityContext"].get("sysctls", ()):
        if why := forbidden_sysctl(sysctl["name"].replace("/", "."), spec):
            yield Rejection("SysctlForbidden", f"forbidden sysctl: {why}")
    if (pod["metadata"].get("labels") or {}).get(OS_LABEL, "linux") != "linux":
        yield Rejection("PodOSSelectorNodeLabelDoesNotMatch", OS_LABEL_WORDS)
    if spec.get("os", {}).get("name", "linux") != "linux":
        yield Rejection("PodOSNotSupported", OS_WORDS)
    if not strict_groups and spec["securityContext"].get("supplementalGroupsPolicy") == "Strict":
        yield Rejection("SupplementalGroupsPolicyNotSupported", GROUPS_WORDS)
    yield from out_of_resources(pod, running, allocatable)
    if not wants_node(pod, node):
        yield Rejection("NodeAffinity", AFFINITY_WORDS)
    if not ports_are_free(pod, running):
        yield Rejection("NodePorts", PORTS_WORDS)
    if repelled(node, pod, ("NoExecute",)):
        yield Rejection("TaintToleration", TAINT_WORDS)
    if not apparmor and wants_apparmor(spec):
        yield Rejection("AppArmor", APPARMOR_WORDS)


def wants_apparmor(spec: Manifest) -> bool:
    """Whether a Pod, or any of its containers, names a profile of AppArmor other than none."""
    own = containers(spec, ("initContainers", "containers"))
    contexts = [spec["securityContext"], *(c.get("securityContext", {}) for c in own)]
    return any(context.get("appArmorProfile", {}).get("type", "Unconfined") != "Unconfined" for context in contexts)


def forbidden_sysctl(name: str, spec: Manifest) -> str:
    """Why a Pod may not set a sysctl, "" if it may."""
    namespace = SAFE_SYSCTLS.get(name)
    if namespace is None:
        return f'"{name}" not allowlisted'
    of_host = spec.get("hostNetwork") if namespace == "net" else spec.get("hostIPC")
    return f'"{name}" not allowed with host {namespace} enabled' if of_host else ""


def out_of_resources(pod: Manifest, running: list[Manifest], allocatable: Mapping[str, str]) -> Iterator[Rejection]:
    """What the node has too little of. A resource that is another's and that no node has is not asked for (predicate.go)."""
    if not allocatable:
        return
    there = amounts({"pods": "110", **allocatable})
    wanted = Counter({name: n for name, n in pod_requests(pod).items() if name in there or "/" not in name})
    for lack in lacking(wanted, added(map(pod_requests, running)), len(running), there):
        words = f"requested: {lack.requested}, used: {lack.used}, capacity: {lack.capacity}"
        yield Rejection(f"OutOf{lack.name}", f"Node didn't have enough resource: {lack.name}, {words}")
