"""From image layers to a container's root: what the overlay mount puts together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.figures import style
from labkit.figures.figure import MARGIN, Canvas, Figure, fit, in_any_width, title_height, wrap
from labkit.figures.namespaces.groups import words

if TYPE_CHECKING:
    from labkit.kernel import Mount

WIDTH, STACKED, HIGH, GAP = 760.0, 560.0, 46.0, 8.0
"""px. Below STACKED the container's / is below its layers, else beside them."""
LIMIT = 12
"""So many layers are drawn one by one."""


@dataclass(frozen=True)
class Layer:
    """One layer of an image, the lowest first. `size`: bytes, compressed, as the manifest says; None: not told.

    `holds`: some of the paths in it. `digest`: "sha256:…", not in the alternative text where `name` says it better.
    """

    name: str
    size: int | None = None
    holds: tuple[str, ...] = ()
    digest: str = ""


@in_any_width
def layers(
    image: str,
    stack: Sequence[Layer],
    mount: Mount,
    *,
    written: Sequence[str] = (),
    title: str | None = None,
    width: float = WIDTH,
) -> Figure:
    """Draw the layers of `image`, the overlay mount that stacks them, and the container's /.

    `mount`: the container's root, of type overlay, as /proc/PID/mountinfo has it: its options lowerdir (uppermost first),
    upperdir and workdir are read. `written`: paths that the container itself wrote (they lie in upperdir). Raises ValueError
    when the mount is no overlay.
    """
    options = _options(mount)
    if mount.fs_type != "overlay" or "lowerdir" not in options:
        raise ValueError(f"The mount at {mount.mount_point} is {mount.fs_type}, no overlay. Give that of the container's /.")
    lower = options["lowerdir"].split(":")
    writable = "upperdir" in options
    heading = title or _title(image, stack, writable)
    heads = wrap(heading, width - 2 * MARGIN, style.TITLE, bold=True)
    top = title_height(heads)
    shown = list(stack) if len(stack) <= LIMIT else [*stack[: LIMIT - 1]]
    rows = len(shown) + (len(stack) > len(shown))
    stacked = width < STACKED
    column = width - 2 * MARGIN if stacked else (width - 2 * MARGIN) * 0.58
    root = MARGIN if stacked else MARGIN + column + 64
    first = top + 22
    bottom = first + (rows + 1) * (HIGH + GAP) + (96 if stacked else 0)

    def paint(canvas: Canvas) -> None:
        canvas.title(heads)
        canvas.text(MARGIN, top + 6, fit(f"overlay mount: {_directories(lower)}", column, style.SMALL), style.SMALL, "muted")
        y = first
        name = "upperdir: the container's own, writable" if writable else "no upperdir: read-only"
        inside = words(written, 6) if written else "nothing written yet"
        _paint_box(canvas, y, column, "application" if writable else "faint", name, inside)
        y += HIGH + GAP
        if len(stack) > len(shown):
            _paint_box(canvas, y, column, "other", f"{len(stack) - len(shown)} more layers", "above those below")
            y += HIGH + GAP
        for number, layer in reversed(list(enumerate(shown, 1))):
            size = f" · {_bytes(layer.size)}" if layer.size is not None else ""
            inside = words(layer.holds, 6) or layer.digest[:19]
            _paint_box(canvas, y, column, "ImageService", f"layer {number}: {layer.name}{size}", inside)
            y += HIGH + GAP
        middle = y + 62 if stacked else (first + y - GAP) / 2
        _paint_arrow(canvas, (MARGIN + column, root), (first, y - GAP), middle, stacked)
        room = width - MARGIN - root
        canvas.box(root, middle - 34, room, 68, "band")
        mount_text = f"{mount.fs_type}, {mount.options[0] if mount.options else ''}"
        canvas.text(root + room / 2, middle - 12, fit("the container's /", room - 8, bold=True), bold=True, align="center")
        canvas.text(root + room / 2, middle + 10, fit(mount_text, room - 8), align="center")

    return Figure(_alternative_text(image, stack, lower, writable, written, heading), paint, width, bottom + 4)


def _paint_arrow(
    canvas: Canvas, xs: tuple[float, float], ys: tuple[float, float], middle: float, stacked: bool
) -> None:
    """From all layers to the container's /: down to it, or over to it with a bracket."""
    if stacked:
        x, low, end = (MARGIN + xs[0]) / 2, ys[1] + 4, middle - 38
        canvas.line([(x, low), (x, end)], "muted", 1.4)
        canvas.line([(x - 5, end - 6), (x, end), (x + 5, end - 6)], "muted", 1.4)
        return
    x, root = xs[0] + 8, xs[1]
    canvas.line([(x, ys[0]), (x + 8, ys[0]), (x + 8, ys[1]), (x, ys[1])], "muted", 1.4)
    canvas.line([(x + 8, middle), (root - 8, middle)], "muted", 1.4)
    canvas.line([(root - 14, middle - 5), (root - 7, middle), (root - 14, middle + 5)], "muted", 1.4)


def _options(mount: Mount) -> Mapping[str, str]:
    return dict(option.partition("=")[::2] for option in mount.options if "=" in option)


def _directories(lower: Sequence[str]) -> str:
    return "one lowerdir" if len(lower) == 1 else f"{len(lower)} lowerdirs"


def _paint_box(canvas: Canvas, y: float, width: float, role: str, name: str, text: str) -> None:
    canvas.box(MARGIN, y, width, HIGH, "band")
    canvas.box(MARGIN, y, 6, HIGH, role)
    canvas.text(MARGIN + 16, y + 15, fit(name, width - 24, bold=True), bold=True)
    canvas.text(MARGIN + 16, y + 33, fit(text, width - 24, style.SMALL), style.SMALL, "muted")


def _bytes(size: int) -> str:
    for power, unit in ((9, "GB"), (6, "MB"), (3, "kB")):
        if size >= 10**power:
            return f"{size / 10**power:.3g} {unit}"
    return f"{size} bytes"


def _title(image: str, stack: Sequence[Layer], writable: bool) -> str:
    many = "one layer" if len(stack) == 1 else f"{len(stack)} layers"
    return f"The container's / is {many} of {image}" + (" below one of its own" if writable else ", read-only")


def _alternative_text(
    image: str, stack: Sequence[Layer], lower: Sequence[str], writable: bool, written: Sequence[str], title: str
) -> str:
    lines = [f"Image layers: {title}."]
    for number, layer in enumerate(stack, 1):
        place = " (lowest)" if number == 1 and len(stack) > 1 else ""
        lines.append(f"Layer {number}{place}: {layer.name}{', holds ' + words(layer.holds) if layer.holds else ''}.")
    upper = "an upperdir, which the container may write" if writable else "no upperdir"
    lines.append(f"The overlay mount has {_directories(lower)} and {upper}.")
    if written:
        lines.append(f"The container wrote {words(written)}: in the upperdir, not in the image.")
    return "\n".join(lines)
