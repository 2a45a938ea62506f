"""Objects for kubeapi's tests: small ones by hand, wild ones by chance and ones that have a kind's shape."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from labkit.podspec import schema

TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["", "a", "Always", "x" * 254, "../..", "/etc", "1Gi", "-1", "0.5", "1e999", "2026-01-02T03:04:05Z", "é😀", "\ud800"]
    ),
)
NUMBERS = st.one_of(st.integers(), st.sampled_from([0, 1, -1, 65536, 2**31, 2**63, 10**400]), st.floats())
WILD = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=20,
)
RIGHT = {
    "string": TEXTS,
    "boolean": st.booleans(),
    "integer": st.one_of(st.integers(-3, 70000), st.sampled_from([2**31 - 1, -(2**31)])),
    "bytes": st.sampled_from(["", "eA==", "e30=", "W10="]),
    "quantity": st.sampled_from(["1", "0", "-1", "100m", "1Gi", "1e3", 2, 0.5, "1n"]),
    "int-or-string": st.one_of(st.integers(-1, 70000), TEXTS),
    "time": st.sampled_from(["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.678+02:00"]),
    "microtime": st.just("2026-01-02T03:04:05.678901Z"),
    "any": WILD,
}


def pod(*containers: dict[str, Any], meta: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A Pod of these containers, or of one that is in order."""
    named = {"name": "web", "namespace": "default"} | (meta or {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": named,
        "spec": {"containers": list(containers or (container(),)), **spec},
    }


def container(**fields: Any) -> dict[str, Any]:
    return {"name": "app", "image": "registry.lab/busybox:1", **fields}


@st.composite
def shaped(draw: st.DrawFn, kind: str, depth: int = 6) -> dict[str, Any]:
    """An object with some of a kind's fields, each of the right type, its value anything."""
    fields = schema.fields(kind)
    names = sorted(name for name, field in fields.items() if depth > 0 or field.type in RIGHT)
    chosen = draw(st.lists(st.sampled_from(names), max_size=5, unique=True)) if names else []
    chosen += [name for name in ("metadata", "spec", "containers") if name in fields and name not in chosen]
    return {name: draw(_value(fields[name], depth)) for name in chosen if depth > 0 or fields[name].type in RIGHT}


def _value(field: schema.Field, depth: int) -> st.SearchStrategy[Any]:
    if field.type == "object":
        return shaped(field.ref, depth - 1)
    if field.type == "array":
        return st.lists(_value(field.items, depth), max_size=2)
    if field.type == "map":
        return st.dictionaries(TEXTS, _value(field.items, depth), max_size=2)
    return RIGHT[field.type]
