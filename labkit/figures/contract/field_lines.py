"""A manifest and CRI messages as lines, one a field, and the rules that link them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.figures.contract.field_rules import COPIED, OPENED, OPENED_HERE, RULES, TRANSLATED, UNLESS
from labkit.figures.namespaces.groups import words

LONG = 7
"""So many lines of one list or map of a message are told; the rest are counted."""
MESSAGES = {"sandbox": "PodSandboxConfig", "container": "ContainerConfig"}

Link = tuple[tuple[str, str, str], int, int]
"""A rule, the manifest's line and the message's line that it joins."""


@dataclass(frozen=True)
class Line:
    """One line of a document: the path of its field, its depth, and its text."""

    path: str
    depth: int
    text: str


@dataclass(frozen=True)
class Map:
    """A manifest's lines (`left`), each message's (`right`), and the `links` between them."""

    left: Sequence[Line]
    right: Mapping[str, Sequence[Line]]
    links: Sequence[Link]

    @property
    def linked(self) -> set[int]:
        return {start for _, start, _ in self.links}

    def kept(self) -> list[str]:
        """The fields of the manifest that reach no message, the outermost of each."""
        return _kept(self.left, self.linked)

    def own(self, key: str) -> list[str]:
        """The fields of a message that the kubelet fills in itself, the outermost of each."""
        return _own(self.left, self.right[key], _ends(self.links, key), OPENED[key])


def mapped(manifest: Mapping[str, Any], sandbox_config: Mapping[str, Any], container_config: Mapping[str, Any]) -> Map:
    """What became of which field."""
    left = list(_manifest_lines(manifest, container_config.get("metadata", {}).get("name", "")))
    rules = [rule for rule in RULES if _place(left, UNLESS.get(rule[:2], "")) is None]
    wanted = {end for start, end, _ in rules if _place(left, start) is not None}
    right = {}
    for key, config in (("sandbox", sandbox_config), ("container", container_config)):
        opened = {end.partition(":")[2] for end in wanted if end.startswith(key + ":")} | {*OPENED[key]}
        right[key] = [Line(f"{key}:{line.path}", line.depth, line.text) for line in _lines(config, opened)]
    links = [
        ((*rule[:2], _how(rule[2], left[start], right[rule[1].partition(":")[0]][end])), start, end)
        for rule in rules
        for start in [_place(left, rule[0])]
        for end in [_place(right[rule[1].partition(":")[0]], rule[1])]
        if start is not None and end is not None
    ]
    return Map(left, right, links)


def _how(rule: str, start: Line, end: Line) -> str:
    """Copied or translated: where both are one value, the values say it."""
    values = [line.text.partition(": ")[2] for line in (start, end)]
    return (COPIED if values[0] == values[1] else TRANSLATED) if all(values) else rule


def _crossing(lines: Sequence[Line], linked: set[int]) -> set[int]:
    """The linked lines, those inside them, and those that lead to them."""
    return _under(lines, linked) | {n for n in range(len(lines)) if _leads(lines, n, linked)}


def _ends(links: Sequence[Link], key: str) -> set[int]:
    return {end for rule, _, end in links if rule[1].startswith(key + ":")}


def _manifest_lines(manifest: Mapping[str, Any], name: str) -> Iterable[Line]:
    """metadata and spec, without status and the other containers; the container's fields have paths from "container."."""
    opened = {start for start, _, _ in RULES} | {*OPENED_HERE}
    for part in ("metadata", "spec"):
        aside = ("containers", "initContainers", "ephemeralContainers", "managedFields")
        body = {key: value for key, value in manifest.get(part, {}).items() if key not in aside}
        if body or part == "spec":
            yield Line(part, 0, f"{part}:")
            yield from _lines(body, opened, part, 1)
    containers = manifest.get("spec", {}).get("containers", [])
    chosen = next((each for each in containers if each.get("name") == name), None)
    if chosen is not None:
        yield Line("container", 1, "containers:" if len(containers) == 1 else f"containers:  # 1 of {len(containers)}")
        yield from _lines(chosen, opened, "container", 2)


def _lines(value: Mapping[str, Any], opened: set[str], path: str = "", depth: int = 0) -> Iterable[Line]:
    """One line a field; of lists and maps only those are opened that are in `opened` or hold something that is."""
    for key, each in value.items():
        here = f"{path}.{key}" if path else str(key)
        if _empty(each):
            continue
        if isinstance(each, Mapping | list) and not any(f"{known}.".startswith(f"{here}.") for known in opened):
            yield Line(here, depth, f"{key}: {_flow(each)}")
        elif isinstance(each, Mapping) and each:
            if set(each) == {"value"}:  # a message that only wraps a number, as Int64Value does
                yield Line(here, depth, f"{key}: {_scalar(each['value'])}")
                continue
            yield Line(here, depth, f"{key}:")
            inner = list(_lines(each, opened, here, depth + 1))
            deep = any(line.depth > depth + 1 for line in inner)
            yield from inner if deep or len(inner) <= LONG else _cut(inner, here, depth + 1)
        elif isinstance(each, list) and each and isinstance(each[0], Mapping):
            yield Line(here, depth, f"{key}:")
            items = [Line(here + "[]", depth + 1, "- " + _flow(item)) for item in each]
            yield from items if len(items) <= LONG else _cut(items, here, depth + 1)
        else:
            yield Line(here, depth, f"{key}: {_flow(each)}")


def _empty(value: Any) -> bool:
    """Whether nothing stands in a field: {}, [], or a map of such."""
    return value == [] or (isinstance(value, Mapping) and all(_empty(each) for each in value.values()))


def _cut(lines: list[Line], path: str, depth: int) -> list[Line]:
    return [*lines[: LONG - 1], Line(path + "[]", depth, f"… {len(lines) - LONG + 1} more")]


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(each) for each in value) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    return {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else str(value)


def _place(lines: Sequence[Line], path: str) -> int | None:
    return next((number for number, line in enumerate(lines) if line.path == path), None)


def _under(lines: Sequence[Line], places: set[int]) -> set[int]:
    """`places` and the lines inside those fields."""
    roots = [lines[place].path for place in places]
    return {n for n, line in enumerate(lines) if any(line.path == r or line.path.startswith((r + ".", r + "[")) for r in roots)}


def _added(left: Sequence[Line], right: Sequence[Line]) -> set[int]:
    """Lines in the maps of a message which the kubelet added: labels and annotations that the manifest does not have."""
    given = {line.text for line in left}
    maps = ("labels.", "annotations.")
    return {n for n, line in enumerate(right) if line.path.partition(":")[2].startswith(maps) and line.text not in given}


def title(found: Map) -> str:
    """How many fields reach the runtime, and how many stay."""
    linked, stay = found.linked, len(found.kept())
    text = f"{len(linked)} fields of the manifest reach the runtime in two messages"
    return text + (f"; {stay} stay{'s' if stay == 1 else ''} with the kubelet" if stay else "")


def _kept(left: Sequence[Line], linked: set[int]) -> list[str]:
    """The fields of the manifest without a line, the outermost of each."""
    crossing = _crossing(left, linked)
    paths = [line.path for n, line in enumerate(left) if n not in crossing and not line.path.endswith("[]")]
    return [path for path in paths if path.rpartition(".")[0] not in paths and path not in ("metadata", "spec", "container")]


def alternative_text(found: Map, title: str) -> str:
    """Every field: what it became, or that it stays; and what the kubelet adds."""
    links = found.links
    lines = [f"Field map: {title}."]
    for kind in (COPIED, TRANSLATED):
        mine = [f"{start} → {' '.join(_named(end))}" for (start, end, how), _, _ in links if how == kind]
        lines += [f"{kind.capitalize()}: {'; '.join(mine)}."] if mine else []
    if kept := found.kept():
        lines.append(f"Without a line, so kept by the kubelet: {words(kept, 30)}.")
    for key, message in MESSAGES.items():
        if own := found.own(key):
            lines.append(f"The kubelet's own in {message}: {words(own, 30)}.")
    return "\n".join(lines)


def _own(left: Sequence[Line], members: Sequence[Line], ends: set[int], opened: Sequence[str]) -> list[str]:
    """The fields of a message without a line, the outermost of each, and what the kubelet put into maps of the manifest's. How a
    machine's size shapes `linux` is not told: it differs between machines."""
    crossing, added = _crossing(members, ends), _added(left, members) - ends
    paths = {n: line.path.partition(":")[2] for n, line in enumerate(members)}
    outside = [path for n, path in paths.items() if n not in crossing and (members[n].depth == 0 or path in opened)]
    inside = [paths[n] for n in sorted(added) if not any(paths[n].startswith(path + ".") for path in outside)]
    return outside + inside


def _leads(lines: Sequence[Line], place: int, ends: set[int]) -> bool:
    return any(lines[end].path.startswith(lines[place].path + ".") for end in ends)


def _named(path: str) -> tuple[str, str]:
    key, _, rest = path.partition(":")
    return MESSAGES[key], rest
