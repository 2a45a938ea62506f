"""Rules as rows: where a value is, when it is looked at, what must hold of it.

A table is a tuple of rows for one kind of object, in the order in which Kubernetes checks. A row names a field below that object.
Its checks get the value and its `At`, and yield what is wrong: a text for an invalid value, or a whole Cause. A row stops at the
first check that finds something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from labkit.podspec import schema
from labkit.podspec.validation.field_errors import Cause, Causes, invalid, required


@dataclass(slots=True)
class At:
    """A value and where it is. `kind`: the schema's type of an object, or of a list's items; `memory`: shared by the items of a
    list."""

    value: Any
    path: str = ""
    name: str = ""
    kind: str = ""
    parent: At | None = None
    memory: dict[Any, Any] = field(default_factory=dict)

    def __getitem__(self, path: str) -> Any:
        """What is at a dotted path below an object; None where nothing is."""
        value = self.value
        for step in path.split("."):
            if not value:
                return None
            value = value.get(step)
        return value

    @property
    def holder(self) -> At:
        """The object that has this field; of an item, the object that has the list."""
        assert self.parent is not None
        return self.parent

    @property
    def spec(self) -> At:
        """The spec that this is in."""
        at = self
        while at.parent is not None and at.name != "spec":
            at = at.parent
        return at

    def below(self, name: str, value: Any) -> At:
        """A field of this object."""
        found = schema.field(self.kind, name) if self.kind else None
        kind = (found.items.ref if found.items else found.ref) if found else ""
        return At(value, f"{self.path}.{name}" if self.path else name, name, kind, self)

    @property
    def enum(self) -> tuple[str, ...]:
        """The values that the served schema lists for this field, or for the items of its list."""
        found = schema.field(self.holder.kind, self.name)
        return found.enum if found else ()

    def items(self) -> Iterator[At]:
        """Each item of this list."""
        memory: dict[Any, Any] = {}
        for number, value in enumerate(self.value or ()):
            yield At(value, f"{self.path}[{number}]", self.name, self.kind, self.parent, memory)


Check = Callable[[Any, At], Iterable["str | Cause"]]
When = Callable[[At], Any]
Path = Callable[[At], str]
Table = tuple["Rule", ...]


@dataclass(frozen=True)
class Rule:
    """when: of the object; path: another one than the field's own, for the messages; absent: what counts in place of None; skips:
    whether a value is not looked at; needed: an empty one is refused, with this detail."""

    where: str
    checks: tuple[Check, ...]
    when: When | None = None
    path: Path | None = None
    absent: Any = None
    skips: Callable[[Any], bool] = lambda value: value is None
    needed: str | None = None

    def causes(self, at: At) -> Causes:
        value = at[self.where] if self.where else at.value
        value = self.absent if value is None else value
        if (self.needed is None and self.skips(value)) or (self.when is not None and not self.when(at)):
            return
        here = at
        for step in self.where.split(".") if self.where else ():
            here = here.below(step, here[step])
        here.value = value
        if self.path:
            here = At(value, self.path(here), here.name, here.kind, here.parent, here.memory)
        if self.needed is not None and not value:
            yield required(here.path, self.needed)
        else:
            yield from run(self.checks, here)


def check(table: Table, at: At) -> Causes:
    """What a table finds wrong with the object at a place."""
    for row in table:
        yield from row.causes(at)


def run(checks: Iterable[Check], here: At) -> Causes:
    """What the first of these checks that finds something finds."""
    for each in checks:
        found = [invalid(here.path, here.value, wrong) if isinstance(wrong, str) else wrong for wrong in each(here.value, here)]
        yield from found
        if found:
            return


def given(where: str, *checks: Check, when: When | None = None, path: Path | None = None) -> Rule:
    """Looked at wherever it is given, be it empty."""
    return Rule(where, checks, when, path)


def filled(where: str, *checks: Check, when: When | None = None, path: Path | None = None) -> Rule:
    """Looked at unless it is empty, as Go's zero value is."""
    return Rule(where, checks, when, path, skips=lambda value: not value)


def always(where: str, *checks: Check, absent: Any = "", when: When | None = None, path: Path | None = None) -> Rule:
    """Looked at even if it is absent."""
    return Rule(where, checks, when, path, absent, lambda value: False)


def needed(where: str, *checks: Check, detail: str = "", when: When | None = None, path: Path | None = None) -> Rule:
    """Must not be empty."""
    return Rule(where, checks, when, path, needed=detail)


def inside(where: str, table: Table, *, when: When | None = None, path: Path | None = None, absent: Any = None) -> Rule:
    """The object there, or each object of the list there, by a table of its own."""

    def each(value: Any, here: At) -> Causes:
        for item in here.items() if isinstance(value, list) else (here,):
            yield from check(table, item)

    return Rule(where, (each,), when, path, absent)


def every(where: str, *checks: Check, absent: Any = "", when: When | None = None, path: Path | None = None) -> Rule:
    """Each value of the list there; `absent` in place of null."""
    row = Rule("", checks, path=path, absent=absent)
    return Rule(where, (lambda value, here: (cause for item in here.items() for cause in row.causes(item)),), when)


def of_items(here: At) -> str:
    """The path of the list that this is an item of."""
    return here.path.rpartition("[")[0]


def of_holder(here: At) -> str:
    """The path of the object that has the field."""
    return here.holder.path


def of_list(here: At) -> str:
    """The path of the list that has the object that has the field."""
    return of_items(here.holder)


def below_list(here: At) -> str:
    """The field, as if the list had it."""
    return f"{of_list(here)}.{here.name}"
