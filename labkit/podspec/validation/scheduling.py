"""Where a Pod may go: tolerations, taints, node and Pod affinity, topology spread. Knowledge: pkg/apis/core/validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.podspec.validation import field_errors
from labkit.podspec.validation.checks import enum, first, must, never, wrong
from labkit.podspec.validation.field_errors import Causes, duplicate, invalid, required
from labkit.podspec.validation.meta import SELECTOR, operator
from labkit.podspec.validation.rules import At, Table, always, every, filled, given, inside, needed

REQUIRED, PREFERRED = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
ALL_TAINTS = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
NO_EXECUTE = "effect must be 'NoExecute' when `tolerationSeconds` is set"
ONE_VALUE = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
MIN_DOMAINS = "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway"
positive = must(lambda value: value > 0, "must be greater than zero")


def tolerated_value(toleration: Mapping[str, Any], here: At) -> Causes:
    """What the operator lets the value be. These messages name the operator's path."""
    value, path = toleration.get("value") or "", f"{here.path}.operator"
    if toleration.get("operator") == "Exists":
        yield from [invalid(path, value, "value must be empty when `operator` is 'Exists'")] if value else []
    elif problems := list(field_errors.label_value(value)):
        yield invalid(path, value, ";".join(problems))


TOLERATION: Table = (
    filled("key", field_errors.qualified_name),
    always("operator", must(lambda value: value == "Exists", ALL_TAINTS), when=lambda at: not at["key"]),
    always("effect", must(lambda value: value == "NoExecute", NO_EXECUTE), when=lambda at: at["tolerationSeconds"] is not None),
    filled("operator", enum),
    given("", tolerated_value, when=lambda at: at["operator"] in (None, "", "Equal", "Exists")),
    filled("effect", enum),
)


def unique_taint(taint: Mapping[str, Any], here: At) -> Causes:
    if not first(here.memory, "taint", (taint.get("key") or "", taint.get("effect") or "")):
        yield duplicate(here.path, dict(taint), "taints must be unique by key and effect pair")


TAINT: Table = (
    always("key", field_errors.qualified_name),
    filled("value", lambda value, here: filter(None, [";".join(field_errors.label_value(value))])),
    needed("effect", enum),
    given("", unique_taint),
)


def node_field(requirement: Mapping[str, Any], here: At) -> Causes:
    found = requirement.get("operator") or ""
    if found not in ("In", "NotIn"):
        yield invalid(f"{here.path}.operator", found, "not a valid selector operator")
    elif len(requirement.get("values") or []) != 1:
        yield required(f"{here.path}.values", ONE_VALUE)


NODE_EXPRESSION: Table = (
    given("", lambda value, here: operator(value, here, ("Gt", "Lt"))),
    always("key", field_errors.qualified_name),
)
NODE_FIELDS = inside("matchFields", (
    given("", node_field),
    always("key", must(lambda value: value == "metadata.name", "not a valid field selector key")),
    every("values", field_errors.subdomain, when=lambda at: at["key"] == "metadata.name"),
))
NODE_SELECTOR: Table = (
    needed("nodeSelectorTerms", detail="must have at least one node selector term"),
    inside("nodeSelectorTerms", (
        inside("matchExpressions", (*NODE_EXPRESSION, every("values", field_errors.label_value))), NODE_FIELDS,
    )),
)
WEIGHT = always("weight", must(lambda value: 1 <= value <= 100, "must be in the range 1-100"), absent=0)


def label_keys(field: str) -> Table:
    """Names of labels whose values, as the Pod has them, the selector is to have too."""
    no_selector = never("must not be specified when labelSelector is not set")
    return (
        filled(field, no_selector, when=lambda at: at["labelSelector"] is None),
        every(field, field_errors.qualified_name),
    )


POD_TERM: Table = (
    inside("labelSelector", SELECTOR),
    *label_keys("matchLabelKeys"),
    *label_keys("mismatchLabelKeys"),
    inside("namespaceSelector", SELECTOR),
    every("namespaces", field_errors.label, path=lambda here: f"{here.holder.path}.namespace"),
    needed("topologyKey", detail="can not be empty"),
    always("topologyKey", field_errors.qualified_name),
)
PODS: Table = (
    inside(REQUIRED, POD_TERM),
    inside(PREFERRED, (WEIGHT, inside("podAffinityTerm", POD_TERM, absent={}))),
)
AFFINITY: Table = (
    inside(f"nodeAffinity.{REQUIRED}", NODE_SELECTOR),
    inside(f"nodeAffinity.{PREFERRED}", (
        WEIGHT, inside("preference", (inside("matchExpressions", NODE_EXPRESSION), NODE_FIELDS)),
    )),
    inside("podAffinity", PODS),
    inside("podAntiAffinity", PODS),
)


def unique_spread(constraint: Mapping[str, Any], here: At) -> Causes:
    pair = tuple(constraint.get(name) or "" for name in ("topologyKey", "whenUnsatisfiable"))
    if not first(here.memory, "spread", pair):
        yield duplicate(f"{here.path}.{{topologyKey, whenUnsatisfiable}}", f"{{{', '.join(pair)}}}")


SPREAD: Table = (
    always("maxSkew", positive, absent=0),
    needed("topologyKey", field_errors.qualified_name, detail="can not be empty"),
    always("whenUnsatisfiable", enum),
    given("", unique_spread),
    given("minDomains", positive),
    given("minDomains", wrong(MIN_DOMAINS), when=lambda at: at["whenUnsatisfiable"] != "DoNotSchedule"),
    given("nodeAffinityPolicy", enum),
    given("nodeTaintsPolicy", enum),
    *label_keys("matchLabelKeys"),
    inside("labelSelector", SELECTOR),
)
"""Of `topologySpreadConstraints`."""
