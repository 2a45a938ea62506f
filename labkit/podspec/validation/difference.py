"""What differs between two specs, in the layout that Kubernetes prints below its refusal (Go's cmp.Diff)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labkit.podspec.validation.words import shown

ABSENT = object()


def difference(kind: str, old: Any, new: Any) -> str:
    """Lines that name each field that differs, with a `-` before the old value and a `+` before the new."""
    return "\n".join([f"  {kind}{{", *_lines(old, new, ""), "  }", ""])


def _lines(old: Any, new: Any, path: str) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _lines(old.get(key, ABSENT), new.get(key, ABSENT), f"{path}.{key}" if path else key)
    elif isinstance(old, list) and isinstance(new, list):
        for number in range(max(len(old), len(new))):
            before, now = (items[number] if number < len(items) else ABSENT for items in (old, new))
            yield from _lines(before, now, f"{path}[{number}]")
    else:
        yield from (f"{sign} \t{path}: {shown(value)}," for sign, value in (("-", old), ("+", new)) if value is not ABSENT)
