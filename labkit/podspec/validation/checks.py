"""What rows (`rules`) can ask of a value; the formats of names are in `words`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from labkit.podspec.validation.field_errors import Cause, Causes, duplicate, forbidden, invalid, required, unsupported
from labkit.podspec.validation.rules import At, Check, Table, check


def must(holds: Callable[[Any], Any], detail: str) -> Check:
    """Invalid unless it holds of the value."""
    return lambda value, here: () if holds(value) else (detail,)


def between(low: int, high: int) -> Check:
    return must(lambda value: low <= value <= high, f"must be between {low} and {high}, inclusive")


def wrong(detail: str, *shown: Any) -> Check:
    """Invalid, whatever it is: the row says when. `shown`: in place of the value."""
    return lambda value, here: (invalid(here.path, shown[0] if shown else value, detail),)


def never(detail: str) -> Check:
    """Forbidden: the row says when."""
    return lambda value, here: (forbidden(here.path, detail),)


def missing(detail: str) -> Check:
    """Something below it is required: the row says when."""
    return lambda value, here: (required(here.path, detail),)


def enum(value: str, here: At) -> Iterator[Cause]:
    """One of the values that the served schema lists for the field."""
    if value not in here.enum:
        yield unsupported(here.path, value, here.enum)


def unique(value: Any, here: At) -> Iterator[Cause]:
    """No earlier item of the list has the same value in this field."""
    if not first(here.holder.memory, here.name, value):
        yield duplicate(here.path, value)


def once(value: Any, here: At) -> Iterator[str]:
    """The same, said otherwise."""
    if not first(here.holder.memory, here.name, value):
        yield "must be unique"


def first(memory: dict[Any, Any], what: str, value: Any) -> bool:
    """Whether no earlier item of a list with this memory had the value."""
    seen = memory.setdefault(what, set())
    known = value in seen
    seen.add(value)
    return not known


def kinds_of(value: Mapping[str, Any], kinds: Iterable[str]) -> list[str]:
    """Which of these fields are given."""
    return [kind for kind in kinds if value.get(kind) is not None]


def one_of(kinds: Iterable[str], none: Check | None = None, more: Check | None = None) -> Check:
    """One of these fields is given, and only one."""

    def counted(value: Any, here: At) -> Iterable[str | Cause]:
        found = kinds_of(value, kinds)
        failed = more if len(found) > 1 else None if found else none
        return failed(value, here) if failed else ()

    return counted


def one_kind(tables: Mapping[str, Table], none: str, more: str, *, more_first: bool = False) -> Check:
    """The same, and that one is checked by its table. Each further one is forbidden."""

    def union(value: Mapping[str, Any], here: At) -> Causes:
        kinds = kinds_of(value, tables)
        extra = [forbidden(f"{here.path}.{kind}", more) for kind in kinds[1:]]
        yield from extra if more_first else ()
        yield from check(tables[kinds[0]], here.below(kinds[0], value[kinds[0]])) if kinds else [required(here.path, none)]
        yield from () if more_first else extra

    return union
