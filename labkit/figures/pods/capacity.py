"""What a node has, what of it Pods may have, and the Pod that does not fit."""

from __future__ import annotations

from collections.abc import Sequence

from labkit.figures import style
from labkit.figures.figure import MARGIN, Canvas, Figure, fit, in_any_width, text_width, title_height, wrap
from labkit.figures.namespaces.groups import words
from labkit.figures.pods.cluster_model import PodRequest, Resource, amount

WIDTH, BAR, ROW, GAP = 760.0, 30.0, 22.0, 26.0
KINDS = ("cpu", "memory")


@in_any_width
def capacity(resources: Sequence[Resource], *, node: str = "the node", title: str | None = None, width: float = WIDTH) -> Figure:
    """Draw each resource as one bar, as wide as its Capacity: reserved, requested Pod by Pod, free.

    `resources`: as `Node.capacity()` gives them. A Pod that waits is drawn below the bar, from where the free part begins: it
    fits when it ends before Allocatable does. Shows cpu and memory, and others where a Pod that waits asks for too much of them.
    """
    shown = [r for r in resources if r.name in KINDS or any(not fits(r, w) for w in r.waiting)]
    heading = title or _title(shown, node)
    heads = wrap(heading, width - 2 * MARGIN, style.TITLE, bold=True)
    top = title_height(heads) + 6
    heights = [18 + BAR + 20 + ROW * len(r.waiting) + GAP for r in shown]

    def paint(canvas: Canvas) -> None:
        canvas.title(heads)
        y = top
        for resource, high in zip(shown, heights, strict=True):
            _paint_resource(canvas, resource, y, width - 2 * MARGIN)
            y += high

    return Figure(_alternative_text(shown, node, heading), paint, width, top + sum(heights))


def fits(resource: Resource, request: PodRequest) -> bool:
    return request.amount <= resource.free


def _title(resources: Sequence[Resource], node: str) -> str:
    refused = {w.pod: r.name for r in resources for w in r.waiting if not fits(r, w)}
    if not refused:
        return f"What {node} has, and what of it its Pods have requested"
    names = words(sorted(refused), 3)
    verb = "does" if len(refused) == 1 else "do"
    return f"{names} {verb} not fit on {node}: more {' and '.join(dict.fromkeys(refused.values()))} requested than is free"


def _paint_resource(canvas: Canvas, resource: Resource, y: float, width: float) -> None:
    whole = max(resource.capacity, 1)

    def x(value: float) -> float:
        return MARGIN + min(max(value, 0) / whole, 1.0) * width

    label = f"{resource.name} · Capacity {amount(resource.name, resource.capacity)}"
    canvas.text(MARGIN, y + 7, label, bold=True)
    bar = y + 18
    canvas.box(MARGIN, bar, width, BAR, "band")
    used = 0
    for request in resource.requests:
        left, right = x(used), x(used + request.amount)
        canvas.box(left, bar, max(right - left - 1, 1), BAR, "pod")
        with_amount = f"{request.pod} {amount(resource.name, request.amount)}"
        label = with_amount if text_width(with_amount, style.SMALL) <= right - left - 8 else request.pod
        _inside(canvas, label, left, right, bar + BAR / 2, "pod")
        used += request.amount
    free, edge = x(used), x(resource.allocatable)
    _inside(canvas, f"free {amount(resource.name, resource.free)}", free, edge, bar + BAR / 2, "band")
    canvas.box(edge, bar, MARGIN + width - edge, BAR, "host")
    reserved = f"reserved {amount(resource.name, resource.capacity - resource.allocatable)}"
    if text_width(reserved, style.SMALL) + 12 <= MARGIN + width - edge:
        _inside(canvas, reserved, edge, MARGIN + width, bar + BAR / 2, "host")
        reserved = ""
    canvas.line([(edge, bar - 4), (edge, bar + BAR + 5)], "text", 1.6)
    note = f"Allocatable {amount(resource.name, resource.allocatable)}" + (f" · {reserved}" if reserved else "")
    wide = text_width(note, style.SMALL)
    canvas.text(min(max(edge - wide / 2, MARGIN), MARGIN + width - wide), bar + BAR + 13, note, style.SMALL, "muted")
    y = bar + BAR + 22
    for request in resource.waiting:
        _paint_waiting(canvas, resource, request, y, free, x(used + request.amount), edge, width)
        y += ROW


def _paint_waiting(
    canvas: Canvas, resource: Resource, request: PodRequest, y: float, left: float, right: float, edge: float, width: float
) -> None:
    """The Pod that waits, as if it stood next in the bar: what reaches beyond Allocatable is hatched by strokes."""
    middle = y + ROW / 2
    canvas.box(left, middle - 5, max(min(right, edge) - left, 1), 10, "pod")
    if not fits(resource, request):
        beyond = MARGIN + width if used_beyond(resource, request) else right
        at = max(edge, left) + 2
        while at < beyond:
            canvas.line([(at, middle + 5), (min(at + 5, beyond), middle - 5)], "failed", 1.6)
            at += 6
    label = (
        f"{request.pod} asks for {amount(resource.name, request.amount)}: {'fits' if fits(resource, request) else 'does not fit'}"
    )
    wide = text_width(label, style.SMALL)
    if left - MARGIN >= wide + 8:
        canvas.text(left - 8, middle, label, style.SMALL, align="right")
    elif right + 8 + wide <= MARGIN + width:
        canvas.text(right + 8, middle, label, style.SMALL)
    else:
        canvas.text(MARGIN + width, middle + 13, label, style.SMALL, align="right")


def used_beyond(resource: Resource, request: PodRequest) -> bool:
    """Whether the Pod would reach beyond the machine itself."""
    return resource.allocatable - resource.free + request.amount > resource.capacity


def _inside(canvas: Canvas, label: str, left: float, right: float, y: float, fill: str) -> None:
    """A label within a part of the bar, left out where there is no room for three letters of it."""
    room = right - left - 8
    cut = fit(label, room, style.SMALL)
    if len(cut) >= min(4, len(label)):
        ink = f"on {fill}" if fill != "band" else "muted"
        canvas.text((left + right) / 2, y, cut, style.SMALL, ink, align="center")


def _alternative_text(resources: Sequence[Resource], node: str, title: str) -> str:
    lines = [f"Capacity of {node}: {title}."]
    for resource in resources:
        reserved = "a part of its Capacity is reserved" if resource.allocatable < resource.capacity else "nothing is reserved"
        by = words([r.pod for r in resource.requests if r.amount], 12)
        lines.append(f"{resource.name}: {reserved}; of Allocatable, {f'requested by {by}' if by else 'nothing is requested'}.")
        for request in resource.waiting:
            if request.amount:
                lines.append(f"{request.pod} waits: its request {'fits' if fits(resource, request) else 'does not fit'}.")
    return "\n".join(lines)
