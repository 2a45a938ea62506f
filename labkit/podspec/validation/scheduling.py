"""Where a Pod may go: tolerations, taints, node and Pod affinity, topology spread. Knowledge: pkg/apis/core/validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.podspec.validation import words
from labkit.podspec.validation.meta import label_selector
from labkit.podspec.validation.words import Causes, duplicate, each, forbidden, invalid, required, unsupported

Manifest = Mapping[str, Any]
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
REQUIRED, PREFERRED = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
ALL_TAINTS = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'


def tolerations(values: list[Manifest], path: str) -> Causes:
    for number, toleration in enumerate(values):
        at, key, operator = f"{path}[{number}]", toleration.get("key") or "", toleration.get("operator") or ""
        value, effect = toleration.get("value") or "", toleration.get("effect") or ""
        if key:
            yield from each(f"{at}.key", key, words.qualified_name(key))
        elif operator != "Exists":
            yield invalid(f"{at}.operator", operator, ALL_TAINTS)
        if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
            yield invalid(f"{at}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
        if operator in ("", "Equal"):
            problems = list(words.label_value(value))
            yield from [invalid(f"{at}.operator", value, ";".join(problems))] if problems else []
        elif operator != "Exists":
            yield unsupported(f"{at}.operator", operator, ("Equal", "Exists"))
        elif value:
            yield invalid(f"{at}.operator", value, "value must be empty when `operator` is 'Exists'")
        yield from words.one_of(f"{at}.effect", effect, EFFECTS)


def taints(values: list[Manifest], path: str) -> Causes:
    seen: set[tuple[str, str]] = set()
    for number, taint in enumerate(values):
        at, key, effect = f"{path}[{number}]", taint.get("key") or "", taint.get("effect") or ""
        yield from each(f"{at}.key", key, words.qualified_name(key))
        problems = list(words.label_value(taint.get("value") or ""))
        yield from [invalid(f"{at}.value", taint.get("value"), ";".join(problems))] if problems else []
        yield from words.one_of(f"{at}.effect", effect, EFFECTS, needed=True)
        if (key, effect) in seen:
            yield duplicate(at, dict(taint), "taints must be unique by key and effect pair")
        seen.add((key, effect))


def affinity(value: Manifest, path: str) -> Causes:
    nodes = value.get("nodeAffinity") or {}
    if nodes.get(REQUIRED) is not None:
        yield from node_selector(nodes[REQUIRED], f"{path}.nodeAffinity.{REQUIRED}")
    for number, term in enumerate(nodes.get(PREFERRED) or []):
        at = f"{path}.nodeAffinity.{PREFERRED}[{number}]"
        yield from _weight(term, at)
        yield from _node_term(term.get("preference") or {}, f"{at}.preference", preferred=True)
    for kind in ("podAffinity", "podAntiAffinity"):
        pods = value.get(kind) or {}
        for number, term in enumerate(pods.get(REQUIRED) or []):
            yield from _pod_term(term, f"{path}.{kind}.{REQUIRED}[{number}]")
        for number, term in enumerate(pods.get(PREFERRED) or []):
            at = f"{path}.{kind}.{PREFERRED}[{number}]"
            yield from _weight(term, at)
            yield from _pod_term(term.get("podAffinityTerm") or {}, f"{at}.podAffinityTerm")


def node_selector(selector: Manifest, path: str) -> Causes:
    terms = selector.get("nodeSelectorTerms") or []
    if not terms:
        yield required(f"{path}.nodeSelectorTerms", "must have at least one node selector term")
    for number, term in enumerate(terms):
        yield from _node_term(term, f"{path}.nodeSelectorTerms[{number}]")


def spread(constraints: list[Manifest], path: str) -> Causes:
    """`topologySpreadConstraints`."""
    seen: set[tuple[str, str]] = set()
    for number, constraint in enumerate(constraints):
        at, key, otherwise = f"{path}[{number}]", constraint.get("topologyKey") or "", constraint.get("whenUnsatisfiable") or ""
        if (constraint.get("maxSkew") or 0) <= 0:
            yield invalid(f"{at}.maxSkew", constraint.get("maxSkew") or 0, "must be greater than zero")
        if not key:
            yield required(f"{at}.topologyKey", "can not be empty")
        else:
            yield from each(f"{at}.topologyKey", key, words.qualified_name(key))
        if otherwise not in ("DoNotSchedule", "ScheduleAnyway"):
            yield unsupported(f"{at}.whenUnsatisfiable", otherwise, ("DoNotSchedule", "ScheduleAnyway"))
        if (key, otherwise) in seen:
            yield duplicate(f"{at}.{{topologyKey, whenUnsatisfiable}}", f"{{{key}, {otherwise}}}")
        seen.add((key, otherwise))
        if (domains := constraint.get("minDomains")) is not None:
            if domains <= 0:
                yield invalid(f"{at}.minDomains", domains, "must be greater than zero")
            if otherwise != "DoNotSchedule":
                said = "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway"
                yield invalid(f"{at}.minDomains", domains, said)
        for field in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            if constraint.get(field) is not None and constraint[field] not in ("Honor", "Ignore"):
                yield unsupported(f"{at}.{field}", constraint[field], ("Honor", "Ignore"))
        yield from label_selector(constraint.get("labelSelector") or {}, f"{at}.labelSelector")


def _weight(term: Manifest, path: str) -> Causes:
    if not 1 <= (term.get("weight") or 0) <= 100:
        yield invalid(f"{path}.weight", term.get("weight") or 0, "must be in the range 1-100")


def _node_term(term: Manifest, path: str, *, preferred: bool = False) -> Causes:
    for number, requirement in enumerate(term.get("matchExpressions") or []):
        yield from _node_expression(requirement, f"{path}.matchExpressions[{number}]", preferred)
    for number, requirement in enumerate(term.get("matchFields") or []):
        at, operator = f"{path}.matchFields[{number}]", requirement.get("operator") or ""
        key, values = requirement.get("key") or "", requirement.get("values") or []
        if operator not in ("In", "NotIn"):
            yield invalid(f"{at}.operator", operator, "not a valid selector operator")
        elif len(values) != 1:
            yield required(f"{at}.values", "must be only one value when `operator` is 'In' or 'NotIn' for node field selector")
        if key != "metadata.name":
            yield invalid(f"{at}.key", key, "not a valid field selector key")
            continue
        for index, value in enumerate(values):
            yield from each(f"{at}.values[{index}]", value or "", words.subdomain(value or ""))


def _node_expression(requirement: Manifest, path: str, preferred: bool) -> Causes:
    operator, values, key = requirement.get("operator") or "", requirement.get("values") or [], requirement.get("key") or ""
    if operator in ("In", "NotIn"):
        if not values:
            yield required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            yield forbidden(f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            yield required(f"{path}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")
    else:
        yield invalid(f"{path}.operator", operator, "not a valid selector operator")
    yield from each(f"{path}.key", key, words.qualified_name(key))
    for index, value in enumerate([] if preferred else values):
        yield from each(f"{path}.values[{index}]", value or "", words.label_value(value or ""))


def _pod_term(term: Manifest, path: str) -> Causes:
    yield from label_selector(term.get("labelSelector") or {}, f"{path}.labelSelector")
    yield from label_selector(term.get("namespaceSelector") or {}, f"{path}.namespaceSelector")
    for namespace in term.get("namespaces") or []:
        yield from each(f"{path}.namespace", namespace or "", words.label(namespace or ""))
    key = term.get("topologyKey") or ""
    if not key:
        yield required(f"{path}.topologyKey", "can not be empty")
    yield from each(f"{path}.topologyKey", key, words.qualified_name(key))
