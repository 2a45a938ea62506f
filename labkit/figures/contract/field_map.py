"""A Pod manifest beside the CRI messages made of it, field by field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.figures import style
from labkit.figures.contract.field_rules import COPIED, OPENED, OPENED_HERE, RULES, TRANSLATED, UNLESS
from labkit.figures.figure import MARGIN, Canvas, Figure, fit, text_width, title_height, wrap
from labkit.figures.namespaces.groups import words

WIDTH, ROW, INDENT, HEAD = 800.0, 17.0, 10.0, 24.0
LONG = 7
"""So many lines of one list or map of a message are drawn; the rest are counted."""
STAYS = ("grey: stays with the kubelet", "grey: stays")
ADDED = ("grey: the kubelet's own", "grey: added")
"""What grey means in a document, in full and short."""

Link = tuple[tuple[str, str, str], int, int]
"""A rule, the manifest's line and the message's line that it joins."""


@dataclass(frozen=True)
class Line:
    """One line of a document: the path of its field, its depth, and its text."""

    path: str
    depth: int
    text: str


def field_map(
    manifest: Mapping[str, Any],
    sandbox_config: Mapping[str, Any],
    container_config: Mapping[str, Any],
    *,
    title: str | None = None,
    width: float = WIDTH,
) -> Figure:
    """Draw the manifest on the left and both messages on the right, a line from each field to the one made of it.

    `manifest`: a Pod as a dict; of its containers the one is drawn whose name `container_config` carries. The messages as
    dicts with the names of api.proto (labkit.cri.text.to_dict). Fields of the manifest without a line stay with the kubelet;
    fields of the messages without one are the kubelet's own. Fields that are empty are left out.
    """
    name = container_config.get("metadata", {}).get("name", "")
    left = list(_manifest_lines(manifest, name))
    messages = [("sandbox", "PodSandboxConfig", sandbox_config), ("container", "ContainerConfig", container_config)]
    rules = [rule for rule in RULES if _place(left, UNLESS.get(rule[:2], "")) is None]
    wanted = {end for start, end, _ in rules if _place(left, start) is not None}
    right = {}
    for key, _, config in messages:
        opened = {end.partition(":")[2] for end in wanted if end.startswith(key + ":")} | {*OPENED[key]}
        right[key] = [Line(f"{key}:{line.path}", line.depth, line.text) for line in _lines(config, opened)]
    links = [
        ((*rule[:2], _how(rule[2], left[start], right[rule[1].partition(":")[0]][end])), start, end)
        for rule in rules
        for start in [_place(left, rule[0])]
        for end in [_place(right[rule[1].partition(":")[0]], rule[1])]
        if start is not None and end is not None
    ]
    told = title or _title(left, links)
    heads = wrap(told, width - 2 * MARGIN, style.TITLE, bold=True)
    top = title_height(heads)
    column = (width - 2 * MARGIN) * 0.43
    far = width - MARGIN - column
    heights = HEAD + ROW * len(left), sum(HEAD + ROW * len(lines) + 12 for lines in right.values())
    starts, y = {}, top
    for key, _, _ in messages:
        starts[key] = y
        y += HEAD + ROW * len(right[key]) + 12
    bottom = top + max(heights) + 4

    def paint(canvas: Canvas) -> None:
        canvas.title(heads)
        crossing = _crossing(left, {start for _, start, _ in links})
        _paint_document(canvas, MARGIN, top, column, ("Pod manifest", STAYS), left, crossing)
        for key, message, _ in messages:
            marked = _crossing(right[key], _ends(links, key)) - (_added(left, right[key]) - _ends(links, key))
            _paint_document(canvas, far, starts[key], column, (message, ADDED), right[key], marked)
        for rule, start, end in links:
            begin = (MARGIN + column + 3, top + HEAD + ROW * (start + 0.5))
            finish = (far - 3, starts[rule[1].partition(":")[0]] + HEAD + ROW * (end + 0.5))
            canvas.line(_curve(begin, finish), "kubelet" if rule[2] == COPIED else "exec", 1.4)
            canvas.dot(*begin, 4, "kubelet" if rule[2] == COPIED else "exec")
            canvas.dot(*finish, 4, "kubelet" if rule[2] == COPIED else "exec")
        _paint_key(canvas, bottom + 10, {rule[2] for rule, _, _ in links})

    return Figure(_alternative_text(left, links, right, told), paint, width, bottom + 24)


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


def _paint_document(
    canvas: Canvas,
    x: float,
    y: float,
    width: float,
    heading: tuple[str, tuple[str, str]],
    lines: Sequence[Line],
    marked: set[int],
) -> None:
    """`heading`: what the document is, and what it means that a line is not `marked`."""
    canvas.box(x, y, width, HEAD + ROW * len(lines) + 4, "band")
    canvas.text(x + 8, y + HEAD / 2, heading[0], style.BODY, bold=True)
    if len(marked) < len(lines):
        room = width - 28 - text_width(heading[0], style.BODY, bold=True)
        note = next((words for words in heading[1] if text_width(words, style.SMALL) < room), "")
        canvas.text(x + width - 8, y + HEAD / 2, note, style.SMALL, "muted", align="right")
    for number, line in enumerate(lines):
        left = x + 8 + INDENT * line.depth
        shown = fit(line.text, x + width - 8 - left, style.SMALL)
        canvas.text(left, y + HEAD + ROW * (number + 0.5), shown, style.SMALL, "text" if number in marked else "muted")


def _curve(begin: tuple[float, float], end: tuple[float, float]) -> list[tuple[float, float]]:
    """A line that leaves and arrives level."""
    steps = [n / 24 for n in range(25)]
    return [(begin[0] + (end[0] - begin[0]) * t, begin[1] + (end[1] - begin[1]) * t * t * (3 - 2 * t)) for t in steps]


def _paint_key(canvas: Canvas, y: float, kinds: set[str]) -> None:
    x = MARGIN
    for kind, role, told in ((COPIED, "kubelet", "copied"), (TRANSLATED, "exec", "translated by the kubelet")):
        if kind in kinds:
            canvas.line([(x, y), (x + 18, y)], role, 1.8)
            canvas.text(x + 24, y, told, style.SMALL, "muted")
            x += 24 + text_width(told, style.SMALL) + 20


def _title(left: Sequence[Line], links: Sequence[Link]) -> str:
    linked = {start for _, start, _ in links}
    stay = len(_kept(left, linked))
    told = f"{len(linked)} fields of the manifest reach the runtime in two messages"
    return told + (f"; {stay} stay{'s' if stay == 1 else ''} with the kubelet" if stay else "")


def _kept(left: Sequence[Line], linked: set[int]) -> list[str]:
    """The fields of the manifest without a line, the outermost of each."""
    crossing = _crossing(left, linked)
    paths = [line.path for n, line in enumerate(left) if n not in crossing and not line.path.endswith("[]")]
    return [path for path in paths if path.rpartition(".")[0] not in paths and path not in ("metadata", "spec", "container")]


def _alternative_text(left: Sequence[Line], links: Sequence[Link], right: Mapping[str, Sequence[Line]], title: str) -> str:
    lines = [f"Field map: {title}."]
    for kind in (COPIED, TRANSLATED):
        mine = [f"{start} → {' '.join(_named(end))}" for (start, end, how), _, _ in links if how == kind]
        lines += [f"{kind.capitalize()}: {'; '.join(mine)}."] if mine else []
    if kept := _kept(left, {start for _, start, _ in links}):
        lines.append(f"Without a line, so kept by the kubelet: {words(kept, 30)}.")
    for key, members in right.items():
        if own := _own(left, members, _ends(links, key), OPENED[key]):
            lines.append(f"The kubelet's own in {_named(key + ':')[0]}: {words(own, 30)}.")
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
    return {"sandbox": "PodSandboxConfig", "container": "ContainerConfig"}[key], rest
