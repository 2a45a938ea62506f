"""The cgroups of a node's Pods: QoS classes, Pods, containers, with their limits and what is used of them."""

from __future__ import annotations

from collections.abc import Sequence

from labkit.figures import style
from labkit.figures.figure import MARGIN, Canvas, Figure, fit, in_any_width, text_width, title_height, wrap
from labkit.figures.pods.cluster_model import CgroupLine, size

WIDTH, STACKED, ROW, LINE, STEP = 760.0, 480.0, 24.0, 16.0, 20.0
"""px. Below STACKED the numbers of a cgroup are below its name, else beside it, in columns."""
COLOURS = {"kubepods": "host", "qos": "host", "pod": "pod", "pause": "pause", "container": "application"}
HEADS = ("cgroup", "weight", "cpu limit", "memory: used of limit")


@in_any_width
def cgroup_tree(lines: Sequence[CgroupLine], *, title: str | None = None, width: float = WIDTH) -> Figure:
    """Draw the tree of cgroups below kubepods, as `node.cgroups.tree()` gives it.

    Each line has the cgroup's cpu weight, its cpu limit and its memory: a bar for what is used of the limit; without a limit the
    number alone. The alternative text tells limits and who is below whom; what is used, and weights, which
    cgroup v1 and v2 count otherwise, are in the picture alone.
    """
    heading = title or "Requests and limits are numbers in the kernel's cgroup files"
    heads = wrap(heading, width - 2 * MARGIN, style.TITLE, bold=True)
    top = title_height(heads) + 8
    names = MARGIN + max([text_width(line.name, bold=True) + STEP * line.depth for line in lines], default=80) + 34
    first = min(names, width * 0.46)
    step = min(84, (width - first) * 0.24)
    columns = (MARGIN, first, first + step, first + 1.9 * step)
    if width < STACKED:
        return _stacked(lines, heading, heads, width)

    def paint(canvas: Canvas) -> None:
        canvas.title(heads)
        for x, end, words in zip(columns, (*columns[1:], width - MARGIN), HEADS, strict=True):
            canvas.text(x, top, fit(words, end - x - 4, style.SMALL), style.SMALL, "muted")
        for number in range(len(lines)):
            _paint_line(canvas, lines, number, top + ROW * (number + 1), columns, width)

    return Figure(_alternative_text(lines, heading), paint, width, top + ROW * (len(lines) + 1))


def _stacked(lines: Sequence[CgroupLine], heading: str, heads: list[str], width: float) -> Figure:
    top, high = title_height(heads), ROW + LINE

    def paint(canvas: Canvas) -> None:
        canvas.title(heads)
        for number, line in enumerate(lines):
            y = top + high * number + ROW / 2
            x = _paint_name(canvas, lines, number, y, high, width - MARGIN)
            weight = f"weight {line.cpu_weight}" if line.cpu_weight is not None else ""
            limit = f"cpu {line.cpu_limit}m" if line.cpu_limit is not None else ""
            facts = " · ".join(filter(None, [weight, limit, _memory(line)]))
            canvas.text(x, y + LINE + 2, fit(facts, width - MARGIN - x, style.SMALL), style.SMALL, "muted")

    return Figure(_alternative_text(lines, heading), paint, width, top + high * len(lines) + MARGIN)


def _memory(line: CgroupLine) -> str:
    used = size(line.memory_used) if line.memory_used is not None else "–"
    return f"{used}, no limit" if line.memory_limit is None else f"{used} of {size(line.memory_limit)}"


def _paint_name(canvas: Canvas, lines: Sequence[CgroupLine], number: int, y: float, high: float, right: float) -> float:
    """The cgroup's mark and name, joined to the one above it; where the name begins."""
    line = lines[number]
    x = MARGIN + STEP * line.depth + 6
    above = next((n for n in range(number - 1, -1, -1) if lines[n].depth < line.depth), None)
    if above is not None:
        canvas.line([(x - STEP, y - high * (number - above) + 6), (x - STEP, y), (x - 6, y)], "line")
    canvas.dot(x, y, 10, COLOURS.get(line.role, "other"), shape="o" if line.role in ("pause", "container") else "s")
    bold = line.role == "pod"
    canvas.text(x + 12, y, fit(line.name, right - x - 12, bold=bold), bold=bold)
    return x + 12


def _paint_line(
    canvas: Canvas, lines: Sequence[CgroupLine], number: int, y: float, columns: tuple[float, ...], width: float
) -> None:
    line = lines[number]
    if number % 2:
        canvas.box(MARGIN - 4, y - ROW / 2, width - 2 * MARGIN + 8, ROW, "band")
    _paint_name(canvas, lines, number, y, ROW, columns[1] - 6)
    canvas.text(columns[1], y, "–" if line.cpu_weight is None else str(line.cpu_weight), style.SMALL)
    canvas.text(columns[2], y, "none" if line.cpu_limit is None else f"{line.cpu_limit}m", style.SMALL)
    _paint_memory(canvas, line, columns[3], y, width - MARGIN)


def _paint_memory(canvas: Canvas, line: CgroupLine, left: float, y: float, right: float) -> None:
    text = _memory(line)
    if line.memory_limit is None:
        canvas.text(left, y, fit(text, right - left, style.SMALL), style.SMALL)
        return
    if text_width(text, style.SMALL) > right - left:
        text = text.replace(" ", "")
    bar = min(right - left - text_width(text, style.SMALL) - 10, 160)
    if bar >= 24:
        part = min((line.memory_used or 0) / max(line.memory_limit, 1), 1.0)
        canvas.box(left, y - 6, bar, 12, "faint")
        canvas.box(left + 1, y - 5, bar - 2, 10, "background")
        canvas.box(left, y - 6, max(bar * part, 1), 12, COLOURS.get(line.role, "other"))
        left += bar + 8
    canvas.text(left, y, fit(text, right - left, style.SMALL), style.SMALL)


def _alternative_text(lines: Sequence[CgroupLine], title: str) -> str:
    text_lines = [f"Cgroups of Pods: {title}."]
    for line in lines:
        facts = [
            f"cpu limit {line.cpu_limit}m" if line.cpu_limit is not None else "",
            f"memory limit {size(line.memory_limit)}" if line.memory_limit is not None and line.role != "kubepods" else "",
        ]
        known = ", ".join(fact for fact in facts if fact)
        text_lines.append(f"{'  ' * line.depth}{line.name}{': ' + known if known else ''}")
    return "\n".join(text_lines)
