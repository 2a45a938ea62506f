"""Labels, taints and their selectors, as the scheduler reads them.

Knowledge: component-helpers' nodeaffinity and scheduling/corev1 packages, apimachinery's labels package.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

Manifest = Mapping[str, Any]
CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"


def labels(thing: Manifest) -> Mapping[str, str]:
    return thing["metadata"].get("labels") or {}


def class_of(obj: Manifest) -> str:
    """The storage class of a volume or claim (component-helpers' storage/volume: the old annotation comes first)."""
    annotated = ((obj.get("metadata") or {}).get("annotations") or {}).get(CLASS_ANNOTATION)
    return annotated if annotated is not None else (obj.get("spec") or {}).get("storageClassName") or ""


def selects(selector: Manifest | None, of: Mapping[str, str]) -> bool:
    """A LabelSelector (matchLabels, matchExpressions) against labels. None selects nothing, {} everything."""
    if selector is None:
        return False
    wanted = selector.get("matchLabels") or {}
    return all(of.get(k) == v for k, v in wanted.items()) and all(
        meets(rule, of) for rule in selector.get("matchExpressions") or []
    )


def meets(rule: Manifest, of: Mapping[str, str]) -> bool:
    """One requirement: key, operator (In, NotIn, Exists, DoesNotExist, Gt, Lt), values. A missing label is NotIn anything."""
    key, values = rule["key"], rule.get("values") or []
    match rule["operator"]:
        case "In":
            return key in of and of[key] in values
        case "NotIn":
            return of.get(key) not in values
        case "Exists":
            return key in of
        case "DoesNotExist":
            return key not in of
        case "Gt" | "Lt" as operator:
            there, bound = number(of.get(key)), number(values[0] if len(values) == 1 else None)
            return there is not None and bound is not None and (there > bound if operator == "Gt" else there < bound)
    return False


def number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[+-]?[0-9]{1,19}", text) else None


def node_selected(selector: Manifest | None, node: Manifest) -> bool:
    """A NodeSelector: any of its terms, each with all of its matchExpressions and matchFields. An empty term matches nothing."""
    if selector is None:
        return True
    fields = {"metadata.name": node["metadata"]["name"]}
    return any(
        (term.get("matchExpressions") or term.get("matchFields"))
        and all(meets(rule, labels(node)) for rule in term.get("matchExpressions") or [])
        and all(meets(rule, fields) for rule in term.get("matchFields") or [])
        for term in selector.get("nodeSelectorTerms") or []
    )


def required_node_affinity(pod: Manifest) -> Manifest | None:
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    found: Manifest | None = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return found


def wants_node(pod: Manifest, node: Manifest) -> bool:
    """nodeSelector and the required node affinity."""
    chosen = pod["spec"].get("nodeSelector") or {}
    return all(labels(node).get(k) == v for k, v in chosen.items()) and node_selected(required_node_affinity(pod), node)


def named_nodes(pod: Manifest) -> set[str] | None:
    """The only nodes that the required affinity names (matchFields metadata.name In), None where it names none."""
    terms = (required_node_affinity(pod) or {}).get("nodeSelectorTerms") or []
    names: set[str] = set()
    for term in terms:
        rules = [r for r in term.get("matchFields") or [] if r["key"] == "metadata.name" and r["operator"] == "In"]
        if not rules:
            return None
        names |= set.intersection(*(set(r.get("values") or []) for r in rules))
    return names if terms else None


def tolerated(taint: Manifest, tolerations: Iterable[Manifest]) -> bool:
    return any(tolerates(toleration, taint) for toleration in tolerations)


def tolerates(toleration: Manifest, taint: Manifest) -> bool:
    """An empty key with Exists tolerates every taint; an empty effect every effect."""
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if toleration.get("key") not in (None, "", taint["key"]):
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    if operator == "Equal":
        return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")
    return meets({"key": "taint", "operator": operator, "values": [toleration.get("value")]}, {"taint": taint.get("value") or ""})


def repelled(node: Manifest, pod: Manifest, effects: tuple[str, ...] = ("NoSchedule", "NoExecute")) -> Manifest | None:
    """The first taint of the node that the Pod does not tolerate."""
    tolerations = pod["spec"].get("tolerations") or []
    taints = (node.get("spec") or {}).get("taints") or []
    return next((t for t in taints if t.get("effect") in effects and not tolerated(t, tolerations)), None)
