"""What the parameters of a write say, and what is wrong with them.

Knowledge: apimachinery's pkg/apis/meta/v1/validation (ValidateCreateOptions and its like).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from labkit.apiserver import api_errors
from labkit.apiserver.requests.paths import Query, one
from labkit.podspec.validation.field_errors import Cause, forbidden, invalid, required, too_long, unsupported

KINDS = {"POST": "CreateOptions", "PUT": "UpdateOptions", "PATCH": "PatchOptions", "DELETE": "DeleteOptions"}
MANAGER_MAX = 128
VALIDATIONS = ("", "Ignore", "Strict", "Warn")
NO_MANAGER, NO_FORCE = "is required for apply patch", "may not be specified for non-apply patch"


def check(method: str, query: Query, *, apply: bool = False) -> None:
    """Refuse the parameters of a creation, update or patch that make no sense. `apply`: it is a server-side apply. Raises
    ApiError (422)."""
    refuse(method, _of_write(query, apply, method == "PATCH"))


def refuse(method: str, causes: Iterable[Cause]) -> None:
    """Raises ApiError (422) where there is a cause."""
    if found := list(causes):
        raise api_errors.invalid(KINDS[method], "", found, "meta.k8s.io")


def dry_run(values: Sequence[str]) -> Iterator[Cause]:
    """What is wrong with the values of dryRun."""
    if any(value != "All" for value in values):
        yield unsupported("dryRun", list(values), ("All",))


def _of_write(query: Query, apply: bool, is_patch: bool) -> Iterator[Cause]:
    manager, checked = one(query, "fieldManager"), one(query, "fieldValidation")
    if apply and not manager:
        yield required("fieldManager", NO_MANAGER)
    if is_patch and not apply and "force" in query:
        yield forbidden("force", NO_FORCE)
    if len(manager.encode()) > MANAGER_MAX:
        yield too_long("fieldManager", MANAGER_MAX)
    for place, character in enumerate(manager):
        if not character.isprintable():
            yield invalid("fieldManager", manager, f"invalid character U+{ord(character):04X} (at position {place})")
    yield from dry_run(query.get("dryRun", []))
    if checked not in VALIDATIONS:
        yield unsupported("fieldValidation", checked, VALIDATIONS)
