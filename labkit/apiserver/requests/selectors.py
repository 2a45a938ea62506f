"""Label and field selectors, as they stand in a query: "app in (a,b),!old" and "spec.nodeName=sim-worker,status.phase!=Failed".

The grammar is apimachinery's (pkg/labels, pkg/fields).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from labkit.apiserver import api_errors, api_resources
from labkit.podspec.matching import meets

TOKEN = re.compile(r"\s*(?:(?P<op>==|!=|=|!|,|\(|\)|<|>)|(?P<word>[^\s=!,()<>]+))")
KEY = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9.]{0,251}[A-Za-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")
VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?\Z")

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Requirement:
    """One condition on a label: the operator is a LabelSelector's."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def met(self, labels: Labels) -> bool:
        return meets({"key": self.key, "operator": self.operator, "values": self.values}, labels)


def labels(text: str) -> tuple[Requirement, ...]:
    """Parse a label selector; () selects everything. Raises ApiError (400)."""
    tokens, place = [], 0
    text = text.strip()
    while place < len(text):
        found = TOKEN.match(text, place)
        if not found:
            raise _unparsable(text, "found an unexpected character")
        tokens.append(found["op"] or found["word"])
        place = found.end()
    requirements = []
    while tokens:
        requirements.append(_requirement(tokens, text))
        if tokens and (tokens.pop(0) != "," or not tokens):
            raise _unparsable(text, "found garbage at its end")
    return tuple(requirements)


def fields(resource: api_resources.ApiResource, text: str) -> tuple[tuple[str, bool, str], ...]:
    """Parse a field selector into (path, equal, value). Raises ApiError (400), also for a field that nobody may select by."""
    terms = []
    for term in (t for t in re.split(r"(?<!\\),", text) if t):
        found = re.match(r"([^=!]*)(==|!=|=)(.*)\Z", term, re.DOTALL)
        if not found:
            raise api_errors.bad_request(f"invalid selector: '{term}'; can't understand '{term}'")
        path, operator, value = found.groups()
        if path not in ("metadata.name", "metadata.namespace", *resource.fields):
            raise api_errors.bad_request(
                f"field label not supported: {path}" if resource.fields
                else f'"{path}" is not a known field selector: only "metadata.name", "metadata.namespace"'
            )
        terms.append((path, operator != "!=", re.sub(r"\\([\\,=])", r"\1", value)))
    return tuple(terms)


def matcher(
    resource: api_resources.ApiResource, label_selector: str, field_selector: str
) -> Callable[[dict[str, Any]], bool] | None:
    """The condition that both selectors make; None when there is none."""
    requirements, terms = labels(label_selector), fields(resource, field_selector)
    if not requirements and not terms:
        return None

    def selected(obj: dict[str, Any]) -> bool:
        of = obj["metadata"].get("labels") or {}
        return all(requirement.met(of) for requirement in requirements) and all(
            (api_resources.field(resource, obj, path) == value) == equal for path, equal, value in terms
        )

    return selected


def _requirement(tokens: list[str], text: str) -> Requirement:
    """Take one requirement from the front of the tokens."""
    key = tokens.pop(0)
    if key == "!":
        return Requirement(_checked(KEY, tokens.pop(0) if tokens else "", text, "a label's key"), "DoesNotExist")
    _checked(KEY, key, text, "a label's key")
    if not tokens or tokens[0] == ",":
        return Requirement(key, "Exists")
    operator = tokens.pop(0)
    if operator in ("=", "==", "!="):
        value = tokens.pop(0) if tokens and tokens[0] != "," else ""
        _checked(VALUE, value, text, "a label's value")
        return Requirement(key, "NotIn" if operator == "!=" else "In", (value,))
    if operator in ("<", ">"):
        value = tokens.pop(0) if tokens else ""
        if not re.fullmatch(r"-?\d{1,19}", value):
            raise _unparsable(text, f"for {operator} the value must be an integer")
        return Requirement(key, "Lt" if operator == "<" else "Gt", (value,))
    if operator in ("in", "notin"):
        return Requirement(key, "In" if operator == "in" else "NotIn", _values(tokens, text))
    raise _unparsable(text, f"found '{operator}', expected: in, notin, =, ==, !=, <, >")


def _values(tokens: list[str], text: str) -> tuple[str, ...]:
    if not tokens or tokens.pop(0) != "(":
        raise _unparsable(text, "expected: '('")
    values, value = set(), ""
    while tokens:
        token = tokens.pop(0)
        if token in (",", ")"):
            values.add(_checked(VALUE, value, text, "a label's value"))
            value = ""
            if token == ")":
                return tuple(values)
        elif value:
            break
        else:
            value = token
    raise _unparsable(text, "expected: ',' or ')'")


def _checked(pattern: re.Pattern[str], word: str, text: str, what: str) -> str:
    if not pattern.match(word):
        raise _unparsable(text, f"'{word}' is not {what}")
    return word


def _unparsable(text: str, why: str) -> api_errors.ApiError:
    return api_errors.bad_request(f"unable to parse requirement: '{text}': {why}")
