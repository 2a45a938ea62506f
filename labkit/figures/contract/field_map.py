"""What becomes of a Pod manifest's fields in the CRI messages: those that were asked for, and the rest folded."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.figures import style
from labkit.figures.contract import field_lines as fl
from labkit.figures.contract.field_lines import MESSAGES, Line, Map, mapped
from labkit.figures.figure import MARGIN, Canvas, Figure, fit, in_any_width, title_height, wrap
from labkit.figures.namespaces.groups import words

WIDTH, STACKED, ROW, SMALL_ROW, GAP = 800.0, 560.0, 18.0, 15.0, 10.0
"""px. Below STACKED a field's messages are drawn below it, else beside it."""
INSIDE = 4
"""So many lines inside a field are drawn; the rest are counted."""
STAYS = "stays with the kubelet"


@dataclass(frozen=True)
class Lit:
    """A field that was asked for: its `lines` in the manifest, and (what it became, the message and how) for each message."""

    lines: tuple[str, ...]
    ends: tuple[tuple[tuple[str, ...], str], ...]


@in_any_width
def field_map(
    manifest: Mapping[str, Any],
    sandbox_config: Mapping[str, Any],
    container_config: Mapping[str, Any],
    *,
    lit: Collection[str] = (),
    title: str | None = None,
    width: float = WIDTH,
) -> Figure:
    """Draw what became of the fields in `lit` ("image", "resources.limits.memory"); the others are named in groups.

    `manifest`: a Pod as a dict; of its containers the one is drawn whose name `container_config` carries. The messages as
    dicts with the names of api.proto (labkit.cri.to_dict). Without `lit` all fields are in groups: which reach which message,
    and which stay with the kubelet. Fields that are empty are left out. Raises ValueError for a field that the manifest lacks.
    """
    found = mapped(manifest, sandbox_config, container_config)
    asked = [_lit(found, path) for path in _paths(found, lit)]
    heading = title or fl.title(found)
    heads = wrap(heading, width - 2 * MARGIN, style.TITLE, bold=True)
    groups = _groups(found, set(_paths(found, lit)))
    sheet = _Sheet(width, title_height(heads))
    for each in asked:
        sheet.add_lit(each)
    sheet.add_groups(groups, large=not asked)

    def paint(canvas: Canvas) -> None:
        canvas.title(heads)
        for step in sheet.steps:
            getattr(canvas, step[0])(*step[1:])

    return Figure(fl.alternative_text(found, heading), paint, width, sheet.y + 4)


def _paths(found: Map, lit: Collection[str]) -> list[str]:
    there = [line.path for line in found.left]
    chosen = []
    for name in [lit] if isinstance(lit, str) else lit:
        matching = [path for path in there if path == name or path.endswith(f".{name}")]
        if not matching:
            fields = words([path for path in there if "[]" not in path], 60)
            raise ValueError(f"The manifest has no field {name!r}. It has {fields}.")
        chosen.append(min(matching, key=len))
    return chosen


def _lit(found: Map, path: str) -> Lit:
    inside = [line for line in found.left if line.path == path or line.path.startswith((path + ".", path + "["))]
    starts = {n for n, line in enumerate(found.left) if line in inside or path.startswith(line.path + ".")}
    ends = []
    for (_, rule_end, how), start, end in found.links:
        if start in starts:
            key, _, to = rule_end.partition(":")
            mine = [line for line in found.right[key] if line.path.startswith((rule_end + ".", rule_end + "["))]
            first = Line("", 0, f"{to.rpartition('.')[0]}.{found.right[key][end].text}".removeprefix("."))
            ends.append((_lines(first, mine), f"{MESSAGES[key]} · {how}"))
    name = path.rpartition(".")[0].removeprefix("container").removeprefix(".")
    return Lit(_lines(Line("", 0, f"{name}.{inside[0].text}".removeprefix(".")), inside[1:]), tuple(ends))


def _lines(first: Line, inside: Sequence[Line]) -> tuple[str, ...]:
    depth = min((line.depth for line in inside), default=0)
    shown = [f"{'  ' * (1 + line.depth - depth)}{line.text}" for line in inside]
    return (first.text, *(shown if len(shown) <= INSIDE else [*shown[: INSIDE - 1], f"  … {len(shown) - INSIDE + 1} more"]))


def _groups(found: Map, lit: set[str]) -> list[tuple[str, str, list[str]]]:
    """(heading, colour, names) of the fields that are not lit: by the message that they reach, then what stays."""
    reached: dict[str, list[str]] = {}
    for (start, end, _), _, _ in found.links:
        message = MESSAGES[end.partition(":")[0]]
        if not _in(start, lit) and message not in reached.setdefault(start, []):
            reached[start].append(message)
    groups = []
    for messages in ([*MESSAGES.values()], *([each] for each in MESSAGES.values())):
        names = [name for name, found_in in reached.items() if found_in == messages]
        groups.append((f"{_other(names, lit)}in {'both messages' if len(messages) > 1 else messages[0]}", "kubelet", names))
    names = [path for path in found.kept() if not _in(path, lit)]
    groups.append((f"{_other(names, lit)}with the kubelet alone", "host", names))
    groups += [(f"the kubelet adds to {message}", "kubelet", found.own(key)) for key, message in MESSAGES.items()]
    return [(heading, colour, names) for heading, colour, names in groups if names]


def _other(names: Sequence[str], lit: set[str]) -> str:
    return "" if not lit else "other " if len(names) == 1 else "others "


def _in(path: str, lit: set[str]) -> bool:
    return any(path == each or path.startswith((each + ".", each + "[")) for each in lit)


class _Sheet:
    """What is to be painted, from top to bottom: `steps` are a Canvas's methods with what they are given."""

    def __init__(self, width: float, top: float) -> None:
        self.width, self.y, self.stacked = width, top, width < STACKED
        self.steps: list[tuple[Any, ...]] = []
        if not self.stacked:
            self.left_wide = (width - 2 * MARGIN) * 0.38
            self.right = MARGIN + self.left_wide + 56
        else:
            self.left_wide, self.right = width - 2 * MARGIN, MARGIN + 30
        self.right_wide = width - MARGIN - self.right

    def add_lit(self, field: Lit) -> None:
        """A field in its own colour, an arrow to each thing that was made of it."""
        top = self.y
        lines = self._wrapped(field.lines, self.left_wide - 20)
        high = ROW * len(lines) + 10
        self._band(MARGIN, top, self.left_wide, high, "kubelet" if field.ends else "host", lines)
        below = top + high + 6 if self.stacked else top
        y = below
        for shown, how in field.ends:
            lines = self._wrapped(shown, self.right_wide - 20)
            tall = SMALL_ROW + ROW * len(lines) + 10
            self._band(self.right, y, self.right_wide, tall, "kubelet", lines, how)
            self._arrow(top + 14 if not self.stacked else top + high, y + 14)
            y += tall + 6
        if not field.ends:
            at = top + 14 if not self.stacked else below + 6
            x = MARGIN + self.left_wide + 4 if not self.stacked else MARGIN + 10
            self.steps.append(("line", [(x, at), (x + 24, at)], "host", 2.0))
            self.steps.append(("line", [(x + 24, at - 7), (x + 24, at + 7)], "host", 2.0))
            self.steps.append(("text", x + 34, at, STAYS, style.BODY, "text", True))
            y = at + 14
        self.y = max(top + high, y - 6) + GAP

    def _wrapped(self, lines: Sequence[str], room: float) -> list[tuple[str, bool]]:
        """The lines as they are drawn, each with whether it is bold: the first is, with what is left of it."""
        parts = []
        for number, line in enumerate(lines):
            indent = len(line) - len(line.lstrip())
            parts += [(" " * indent + part, number == 0) for part in wrap(line, room - 5 * indent, bold=number == 0)[:3]]
        return parts

    def _band(
        self, x: float, y: float, wide: float, high: float, colour: str, lines: Sequence[tuple[str, bool]], how: str = ""
    ) -> None:
        self.steps.append(("box", x, y, wide, high, "band"))
        self.steps.append(("box", x, y, 5, high, colour))
        at = y + 5
        if how:
            self.steps.append(("text", x + 14, at + SMALL_ROW / 2, fit(how, wide - 20, style.SMALL), style.SMALL, "muted"))
            at += SMALL_ROW
        for number, (line, bold) in enumerate(lines):
            indent = 5.0 * (len(line) - len(line.lstrip()))
            shown = fit(line.strip(), wide - 18 - indent, bold=bold)
            self.steps.append(("text", x + 14 + indent, at + ROW * (number + 0.5), shown, style.BODY, "text", bold))

    def _arrow(self, start: float, end: float) -> None:
        x = MARGIN + self.left_wide + 4 if not self.stacked else MARGIN + 10
        bend = x + 20 if not self.stacked else x
        self.steps.append(("line", [(x, start), (bend, start), (bend, end), (self.right - 5, end)], "kubelet", 1.6))
        tip = self.right - 5
        self.steps.append(("line", [(tip - 5, end - 4), (tip, end), (tip - 5, end + 4)], "kubelet", 1.6))

    def add_groups(self, groups: Sequence[tuple[str, str, list[str]]], large: bool) -> None:
        """The other fields, by name; those of the manifest `large` where there is nothing else."""
        for heading, colour, names in groups:
            folded = not large or heading.startswith("the kubelet adds")
            size, head_size = (style.SMALL, style.SMALL) if folded else (style.BODY, style.TITLE)
            step, pad = (SMALL_ROW, 2) if folded else (ROW, 10)
            head = heading if heading.startswith("the") else f"{len(names)} {heading}"
            lines = wrap(", ".join(name.removeprefix("container.") for name in names), self.width - 2 * MARGIN - 20, size)
            high = ROW + step * len(lines) + pad
            if not folded:
                self.steps.append(("box", MARGIN, self.y, self.width - 2 * MARGIN, high, "band"))
            self.steps.append(("box", MARGIN, self.y, 5, high, colour))
            shown = fit(head, self.width - 40, head_size, bold=True)
            self.steps.append(("text", MARGIN + 14, self.y + 10, shown, head_size, "text", True))
            for number, line in enumerate(lines):
                at = self.y + ROW + 4 + step * (number + 0.5)
                self.steps.append(("text", MARGIN + 14, at, line, size, "muted" if folded else "text"))
            self.y += high + GAP
