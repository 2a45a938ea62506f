"""YAML of clients, within bounds: it is composed and constructed in Python, slowly, and can make much of few bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

MAX_EVENTS = 200_000
"""A value is one event, a list or map two. Of a ConfigMap's 1 MiB, short keys and values make as many."""

FASTEST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
FASTEST_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
MERGE = "tag:yaml.org,2002:merge"
BASE_TEN = {
    "tag:yaml.org,2002:int": re.compile(r"[-+]?(0b[01_]+|0[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)\Z"),
    "tag:yaml.org,2002:float": re.compile(
        r"([-+]?[0-9][0-9_]*\.[0-9_]*([eE][-+][0-9]+)?|\.[0-9][0-9_]*([eE][-+][0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z"
    ),
}
"""PyYAML's patterns without those for base 60: with many digits it needs a time that grows with their square."""


def read(text: str, depth: int, values: int) -> Any:
    """The value of a document of at most `depth` levels, in which at most so many `values` are merged. Raises ValueError."""
    try:
        _check_events(yaml.parse(text, FASTEST), depth)
        loader = _Loader(text)
        loader.left = values
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def written(value: Any) -> bytes:
    """The value as a YAML document."""
    text = yaml.dump(value, Dumper=FASTEST_DUMPER, allow_unicode=True, sort_keys=False, encoding="utf-8")
    assert isinstance(text, bytes)
    return text


def _check_events(events: Iterator[Any], most: int) -> None:
    """Refuse deep nesting and many values before the document is put together: libyaml's composer would overflow the stack, and
    composing takes ten times as long as reading."""
    depth = 0
    for number, event in enumerate(events):
        name = type(event).__name__
        depth += name.endswith("StartEvent") - name.endswith("EndEvent")
        if depth > most:
            raise ValueError("the document is nested too deeply")
        if number > MAX_EVENTS:
            raise ValueError("the document has too many values for YAML: send it as JSON")


class _Loader(FASTEST):  # type: ignore[misc, valid-type]
    """Reads what JSON can say. Moments stay text, and numbers of base 60 too, as for Kubernetes (sigs.k8s.io/yaml)."""

    left = 0

    def flatten_mapping(self, node: Any) -> None:
        """Merge what `<<` names, within bounds: merged mappings that are merged again grow as a power."""
        for key, value in node.value:
            if key.tag == MERGE:
                for each in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if isinstance(each, yaml.MappingNode):
                        self.flatten_mapping(each)
                        self.left -= len(each.value)
                    if self.left < 0:
                        raise ValueError("the document has too many values")
        super().flatten_mapping(node)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, BASE_TEN.get(tag, pattern)) for tag, pattern in pairs if not tag.endswith(":timestamp")]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
