"""The scheduler's filters: why a Pod may not run on a node, in kube-scheduler's words.

One function a plugin, in the order in which kube-scheduler asks them; the first that says no speaks for the node. Knowledge:
pkg/scheduler/framework/plugins of Kubernetes 1.36, and events recorded of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from labkit.podspec import own_claim_name
from labkit.podspec.matching import labels, node_selected, repelled, selects, wants_node
from labkit.podspec.ports import ports_are_free
from labkit.podspec.requests import added, amounts, lacking, pod_requests

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class FilterRejection:
    """A filter's refusal; `helpless` says that removing other Pods could not help (UnschedulableAndUnresolvable)."""

    reasons: tuple[str, ...]
    helpless: bool = False


@dataclass
class NodeInfo:
    """A node and the Pods that are on it and have not ended."""

    node: Manifest
    pods: list[Manifest] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.node["metadata"]["name"])

    @cached_property
    def allocatable(self) -> Counter[str]:
        return amounts((self.node.get("status") or {}).get("allocatable"))

    @cached_property
    def requested(self) -> Counter[str]:
        return added(pod_requests(p) for p in self.pods)


@dataclass
class ClusterSnapshot:
    """What the scheduler knows: nodes with their Pods, claims by (namespace, name), volumes by name, namespaces by name."""

    nodes: Sequence[NodeInfo]
    claims: Mapping[tuple[str, str], Manifest] = field(default_factory=dict)
    volumes: Mapping[str, Manifest] = field(default_factory=dict)
    namespaces: Mapping[str, Manifest] = field(default_factory=dict)


def world(nodes: Iterable[Manifest], pods: Iterable[Manifest], claims: Iterable[Manifest] = (), volumes: Iterable[Manifest] = (),
          namespaces: Iterable[Manifest] = ()) -> ClusterSnapshot:
    """A World of plain objects as the API holds them."""
    infos = {node["metadata"]["name"]: NodeInfo(node) for node in nodes}
    for pod in pods:
        there = infos.get(pod["spec"].get("nodeName") or "")
        if there and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            there.pods.append(pod)
    return ClusterSnapshot(
        list(infos.values()),
        {(c["metadata"]["namespace"], c["metadata"]["name"]): c for c in claims},
        {v["metadata"]["name"]: v for v in volumes},
        {n["metadata"]["name"]: n for n in namespaces},
    )


def first_no(pod: Manifest, info: NodeInfo, known: ClusterSnapshot) -> FilterRejection | None:
    """The first refusal of this node, None where the Pod may run there. Raises ValueError for an amount that is none."""
    return next((no for plugin in FILTERS if (no := plugin(pod, info, known))), None)


def refused_for_all(pod: Manifest, known: ClusterSnapshot) -> str | None:
    """What speaks against every node before any is looked at: a claim that is absent, going or not bound (VolumeBinding's
    PreFilter)."""
    unbound = False
    for claim_name, claim in claims_of(pod, known):
        if claim is None and claim_name in ephemeral_claims(pod):
            return f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{claim_name}"'
        if claim is None:
            return f'persistentvolumeclaim "{claim_name}" not found'
        if (claim.get("status") or {}).get("phase") == "Lost":
            volume = claim["spec"].get("volumeName", "")
            return f'persistentvolumeclaim "{claim_name}" bound to non-existent persistentvolume "{volume}"'
        if claim["metadata"].get("deletionTimestamp"):
            return f'persistentvolumeclaim "{claim_name}" is being deleted'
        unbound |= not is_bound(claim)
    return "pod has unbound immediate PersistentVolumeClaims" if unbound else None


def claims_of(pod: Manifest, known: ClusterSnapshot) -> list[tuple[str, Manifest | None]]:
    """The claims that the Pod's volumes name, each with its object or None."""
    return [(name, known.claims.get((pod["metadata"]["namespace"], name))) for name in claim_names(pod)]


def claim_names(pod: Manifest) -> list[str]:
    """The claims that the Pod's volumes name, then those of its ephemeral volumes."""
    volumes = pod["spec"].get("volumes") or []
    return [v["persistentVolumeClaim"]["claimName"] for v in volumes if v.get("persistentVolumeClaim")] + ephemeral_claims(pod)


def ephemeral_claims(pod: Manifest) -> list[str]:
    """The names of the claims that a controller makes for the Pod's ephemeral volumes."""
    return [own_claim_name(pod, volume) for volume in pod["spec"].get("volumes") or [] if volume.get("ephemeral")]


def is_bound(claim: Manifest) -> bool:
    """Bound as the scheduler sees it: a volume's name, and the binder's mark that both sides agree."""
    return bool(claim["spec"].get("volumeName")) and (claim.get("status") or {}).get("phase") == "Bound"


def unschedulable(pod: Manifest, info: NodeInfo, known: ClusterSnapshot) -> FilterRejection | None:
    cordoned = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    if not (info.node.get("spec") or {}).get("unschedulable"):
        return None
    taint_alone = {"spec": {"taints": [cordoned]}}
    return FilterRejection(("node(s) were unschedulable",), helpless=True) if repelled(taint_alone, pod) else None


def taints(pod: Manifest, info: NodeInfo, known: ClusterSnapshot) -> FilterRejection | None:
    return FilterRejection(("node(s) had untolerated taint(s)",), helpless=True) if repelled(info.node, pod) else None


def node_affinity(pod: Manifest, info: NodeInfo, known: ClusterSnapshot) -> FilterRejection | None:
    if wants_node(pod, info.node):
        return None
    return FilterRejection(("node(s) didn't match Pod's node affinity/selector",), helpless=True)


def ports(pod: Manifest, info: NodeInfo, known: ClusterSnapshot) -> FilterRejection | None:
    if ports_are_free(pod, info.pods):
        return None
    return FilterRejection(("node(s) didn't have free ports for the requested pod ports",))


def fits(pod: Manifest, info: NodeInfo, known: ClusterSnapshot) -> FilterRejection | None:
    """Requests against what Allocatable leaves: never against what is used, and never against Capacity."""
    lacks = lacking(pod_requests(pod), info.requested, len(info.pods), info.allocatable)
    reasons = tuple("Too many pods" if lack.name == "pods" else f"Insufficient {lack.name}" for lack in lacks)
    helpless = any(lack.requested > lack.capacity for lack in lacks if lack.name != "pods")
    return FilterRejection(reasons, helpless) if reasons else None


def exclusive_claims(pod: Manifest, info: NodeInfo, known: ClusterSnapshot) -> FilterRejection | None:
    """ReadWriteOncePod: one Pod at a time."""
    own = {name for name, claim in claims_of(pod, known) if claim and "ReadWriteOncePod" in claim["spec"].get("accessModes", [])}
    others = (p for node in known.nodes for p in node.pods if p["metadata"]["namespace"] == pod["metadata"]["namespace"])
    if own and any(own & {name for name, _ in claims_of(other, known)} for other in others):
        return FilterRejection(("node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",))
    return None


def bound_volumes(pod: Manifest, info: NodeInfo, known: ClusterSnapshot) -> FilterRejection | None:
    for _, claim in claims_of(pod, known):
        volume = known.volumes.get(claim["spec"].get("volumeName", "")) if claim else None
        if volume is None:
            return FilterRejection(("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",), helpless=True)
        if not node_selected((volume["spec"].get("nodeAffinity") or {}).get("required"), info.node):
            return FilterRejection(("node(s) didn't match PersistentVolume's node affinity",), helpless=True)
    return None


def spread(pod: Manifest, info: NodeInfo, known: ClusterSnapshot) -> FilterRejection | None:
    """topologySpreadConstraints that say DoNotSchedule: skew is this domain's matching Pods against the emptiest's."""
    for rule in pod["spec"].get("topologySpreadConstraints") or []:
        if (rule.get("whenUnsatisfiable") or "DoNotSchedule") != "DoNotSchedule":
            continue
        key, words = rule["topologyKey"], "node(s) didn't match pod topology spread constraints"
        if key not in labels(info.node):
            return FilterRejection((f"{words} (missing required label)",), helpless=True)
        nodes = [n for n in known.nodes if key in labels(n.node) and counts(rule, pod, n.node)]
        counted: Counter[str] = Counter(dict.fromkeys((labels(n.node)[key] for n in nodes), 0))
        for node in nodes:
            counted[labels(node.node)[key]] += sum(
                selects(rule.get("labelSelector"), labels(p)) and p["metadata"]["namespace"] == pod["metadata"]["namespace"]
                and same_labels(rule, pod, p) and not p["metadata"].get("deletionTimestamp") for p in node.pods
            )
        itself = int(selects(rule.get("labelSelector"), labels(pod)))
        least = 0 if len(counted) < (rule.get("minDomains") or 1) else min(counted.values(), default=0)
        if counted[labels(info.node)[key]] + itself - least > rule["maxSkew"]:
            return FilterRejection((words,))
    return None


def counts(rule: Manifest, pod: Manifest, node: Manifest) -> bool:
    """Whether a constraint takes a node into account: by default unless the Pod's affinity excludes it, whatever its taints."""
    affine = rule.get("nodeAffinityPolicy") == "Ignore" or wants_node(pod, node)
    return affine and not (rule.get("nodeTaintsPolicy") == "Honor" and repelled(node, pod))


def same_labels(rule: Manifest, pod: Manifest, other: Manifest) -> bool:
    """Whether another Pod has the Pod's own values of the labels that matchLabelKeys names, and none of mismatchLabelKeys."""
    own, theirs = labels(pod), labels(other)
    alike = all(theirs.get(key) == own[key] for key in rule.get("matchLabelKeys") or [] if key in own)
    return alike and all(theirs.get(key) != own[key] for key in rule.get("mismatchLabelKeys") or [] if key in own)


def neighbours(pod: Manifest, info: NodeInfo, known: ClusterSnapshot) -> FilterRejection | None:
    """Required Pod affinity and anti-affinity, the Pod's own and that of those which run."""
    for term in pod_terms(pod, "podAffinity"):
        key = term["topologyKey"]
        alike = [n for n in known.nodes if any(chosen(term, pod, other, known) for other in n.pods)]
        first_of_its_kind = not alike and chosen(term, pod, pod, known) and key in labels(info.node)
        if not first_of_its_kind and not any(same_domain(n, info, key) for n in alike):
            return FilterRejection(("node(s) didn't match pod affinity rules",), helpless=True)
    for term in pod_terms(pod, "podAntiAffinity"):
        near = (p for n in known.nodes if same_domain(n, info, term["topologyKey"]) for p in n.pods)
        if any(chosen(term, pod, other, known) for other in near):
            return FilterRejection(("node(s) didn't match pod anti-affinity rules",))
    for node in known.nodes:
        for other in node.pods:
            for term in pod_terms(other, "podAntiAffinity"):
                if same_domain(node, info, term["topologyKey"]) and chosen(term, other, pod, known):
                    return FilterRejection(("node(s) didn't satisfy existing pods anti-affinity rules",))
    return None


def pod_terms(pod: Manifest, kind: str) -> list[Manifest]:
    return ((pod["spec"].get("affinity") or {}).get(kind) or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or []


def chosen(term: Manifest, owner: Manifest, other: Manifest, known: ClusterSnapshot) -> bool:
    """Whether an affinity term of `owner` means the Pod `other`: its namespace and its labels."""
    namespace, by_labels = other["metadata"]["namespace"], term.get("namespaceSelector")
    names = term.get("namespaces") or ([] if by_labels is not None else [owner["metadata"]["namespace"]])
    of_namespace = labels(known.namespaces.get(namespace, {"metadata": {}}))
    inside = namespace in names or (by_labels is not None and selects(by_labels, of_namespace))
    return inside and selects(term.get("labelSelector"), labels(other)) and same_labels(term, owner, other)


def same_domain(one: NodeInfo, other: NodeInfo, key: str) -> bool:
    return key in labels(one.node) and labels(one.node)[key] == labels(other.node).get(key)


FILTERS: tuple[Callable[[Manifest, NodeInfo, ClusterSnapshot], FilterRejection | None], ...] = (
    unschedulable, taints, node_affinity, ports, fits, exclusive_claims, bound_volumes, spread, neighbours,
)
"""kube-scheduler's default order. What only a cloud or a driver knows (zones, attach limits, devices) is not asked."""
