"""Label and field selectors, as they stand in a query: "app in (a,b),!old" and "spec.nodeName=sim-worker,status.phase!=Failed".

The grammar is apimachinery's (pkg/labels, pkg/fields).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from labkit.apiserver import api_errors, api_resources
from labkit.podspec.matching import meets
from labkit.podspec.validation import field_errors

TOKEN = re.compile(r"\s*(?:(?P<op>==|!=|=|!|,|\(|\)|<|>)|(?P<word>[^\s=!,()<>]+))")
OPERATORS = {"in": "In", "notin": "NotIn", "=": "In", "==": "In", "!=": "NotIn", "<": "Lt", ">": "Gt"}
BINARY = "in, notin, =, ==, !=, gt, lt"
"""As refusals list the operators."""
NOT_INTEGER = "for 'Gt', 'Lt' operators, the value must be an integer"

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
    try:
        return tuple(_requirements(_Tokens(text)))
    except _Unparsable as error:
        raise api_errors.bad_request(str(error)) from None


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


class _Unparsable(Exception):
    """What is wrong with a selector, in the words of apimachinery's pkg/labels (selector.go)."""


class _Tokens:
    """The words and operators of a selector, and whether each is a word; ("", False) after the last."""

    def __init__(self, text: str) -> None:
        self._left = [(found["op"] or found["word"], bool(found["word"])) for found in TOKEN.finditer(text.strip())]

    def look(self) -> tuple[str, bool]:
        return self._left[0] if self._left else ("", False)

    def take(self) -> tuple[str, bool]:
        return self._left.pop(0) if self._left else ("", False)

    def word(self) -> str:
        text, is_word = self.take()
        if not is_word:
            raise _Unparsable(f"found '{text}', expected: identifier")
        return text


def _requirements(tokens: _Tokens) -> Iterator[Requirement]:
    while (first := tokens.look())[0]:
        if not _may_begin(*first):
            raise _Unparsable(f"found '{first[0]}', expected: !, identifier, or 'end of string'")
        try:
            yield _requirement(tokens)
        except _Unparsable as error:
            raise _Unparsable(f"unable to parse requirement: {error}") from None
        text, _ = tokens.take()
        if text not in ("", ","):
            raise _Unparsable(f"found '{text}', expected: ',' or 'end of string'")
        if text and not _may_begin(*tokens.look()):
            raise _Unparsable(f"found '{tokens.look()[0]}', expected: identifier after ','")


def _may_begin(text: str, is_word: bool) -> bool:
    return is_word or text == "!"


def _requirement(tokens: _Tokens) -> Requirement:
    """Take one requirement from the front of the tokens."""
    absent = tokens.look() == ("!", False)
    if absent:
        tokens.take()
    key = tokens.word()
    _check("key", key, field_errors.qualified_name(key))
    if absent or tokens.look()[0] in ("", ","):
        return Requirement(key, "DoesNotExist" if absent else "Exists")
    text, _ = tokens.take()
    if text not in OPERATORS:
        raise _Unparsable(f"found '{text}', expected: {BINARY}")
    values = sorted(_values(tokens)) if text in ("in", "notin") else [_value(tokens)]
    for number, value in enumerate(values):
        if text in "<>" and not re.fullmatch(r"[-+]?\d{1,19}", value, re.ASCII):
            _check(f"values[{number}]", value, [NOT_INTEGER])
        _check(f"values[{number}][{key}]", value, field_errors.label_value(value))
    return Requirement(key, OPERATORS[text], tuple(values))


def _value(tokens: _Tokens) -> str:
    return "" if tokens.look()[0] in ("", ",") else tokens.word()


def _values(tokens: _Tokens) -> set[str]:
    """What stands in brackets; nothing between two commas is the empty value."""
    if (text := tokens.take()[0]) != "(":
        raise _Unparsable(f"found '{text}' expected: '('")
    values: set[str] = set()
    value, after = "", "("
    while after != ")":
        text, is_word = tokens.take()
        if is_word and value:
            raise _Unparsable(f"found '{text}', expected: ',' or ')'")
        if is_word:
            value = text
        elif text in (",", ")"):
            values.add(value)
            value, after = "", text
        else:
            wanted = "',' or ')'" if value else "',', or identifier"
            raise _Unparsable(f"found '{text}', expected: {wanted}")
    return values


def _check(path: str, value: str, wrong: Iterable[str]) -> None:
    if words := "; ".join(wrong):
        raise _Unparsable(f"{path}: Invalid value: {field_errors.shown(value)}: {words}")
