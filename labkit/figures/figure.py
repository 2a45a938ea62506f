"""A figure that a notebook shows as picture and a test or a screen reader reads as text."""

from __future__ import annotations

import base64
import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from labkit.figures import style, written
from labkit.util.outputs import write_whole
from labkit.util.progress import shown
from labkit.util.showable import escaped, showable, showable_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

MARGIN = 12.0
"""Room left free at each edge, px."""
PIXELS_PER_INCH = 96
ALT = 100_000
"""So many letters an alternative text has at most."""
PARAGRAPH = 4000
"""So many letters `wrap` breaks into lines."""
SHARPNESS = 1.5
"""A PNG in a notebook has this many pixels for each px shown."""
NARROW = (480.0, 300.0)
"""A notebook's figure is drawn for these widths as well, px: a window of 900 px beside JupyterLab's file list, and a phone."""
_P = ParamSpec("_P")


@dataclass(frozen=True, repr=False)
class Figure:
    """What a view returns: `alt` is its alternative text, `paint` draws it on a Canvas of `width` × `height` px.

    The text is deterministic: names, counts, order and who shares what; never a pid, an inode, a time or an address. It
    is the figure's text/plain, so nbval compares it. What does not print in it is escaped (`labkit.util.showable`).
    """

    alt: str
    paint: Callable[[Canvas], None]
    width: float
    height: float
    redraw: Callable[[float], Figure] | None = None
    """Draws the same for another width, px, with letters as large as before (see `in_any_width`)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "alt", showable_lines(self.alt, ALT))

    def __repr__(self) -> str:
        return self.alt

    def save(self, path: str | Path, theme: str = "light", width: float | None = None) -> Path:
        """Write the picture as SVG, PNG or PDF, by the ending of `path`; return the path.

        `theme`: "light", "dark", or for an SVG also "page", which holds both. `width`: px, by default as designed; the figure is
        drawn anew for it where it can be, else enlarged. Raises ValueError for another ending or theme, OSError where the file
        cannot be written; the file is then as it was before.
        """
        path = Path(path)
        kind = kind_of(path)
        if theme not in style.THEMES or (theme == "page" and kind != "svg"):
            raise ValueError(f"There is no theme {theme!r} for a {kind} file. Use 'light' or 'dark'.")
        figure = self if width is None else self.at(width)
        return write_whole(path, figure._written(figure._drawing(theme, (width or figure.width) / figure.width), kind, theme))

    def at(self, width: float) -> Figure:
        """The same figure for another width, px; itself where it cannot be drawn anew."""
        return replace(self.redraw(width), redraw=self.redraw) if self.redraw else self

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, str], dict[str, Any]]:
        """SVG for a notebook that is trusted, PNG for one that is not (JupyterLab shows no SVG then) and for code hosts.

        The SVG holds the figure for narrow pages, too, each in an <svg> that is not displayed: `written.variants`.
        """
        theme = style.theme()
        drawing = self._drawing(theme)
        narrow = [self.at(width)._svg(theme) for width in NARROW if self.redraw and width < self.width]
        data = {
            "text/plain": self.alt,
            "image/svg+xml": written.with_variants(self._written(drawing, "svg", theme).decode(), narrow),
            "image/png": base64.b64encode(self._written(drawing, "png", theme, SHARPNESS)).decode(),
        }
        # For which pages the PNG was made: JupyterLab tells its style sheets, so that one can turn the colours over on others.
        made_for = "dark" if theme == "dark" else "light"
        return data, {"image/png": {"width": round(self.width), "height": round(self.height)}, "needs_background": made_for}

    def _drawing(self, theme: str, scale: float = 1.0) -> MatplotlibFigure:
        with matplotlib_at_work():
            return Canvas(self.width, self.height, theme, scale).finish(self.paint)

    def _svg(self, theme: str) -> str:
        return self._written(self._drawing(theme), "svg", theme).decode()

    def _written(self, drawing: MatplotlibFigure, kind: str, theme: str, sharpness: float = 1.0) -> bytes:
        import matplotlib

        # Without salt and dates, two pictures of the same content would differ. Letters become paths, because an SVG that is
        # shown as an image has only the fonts of the reader's machine.
        # Hinting would make letters wider than they were measured.
        settings: Any = {"svg.hashsalt": "labkit", "svg.fonttype": "path", "path.simplify": False, "text.hinting": "none"}
        metadata: dict[str, Any] = {"svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}.get(kind, {})
        background, out = style.colour("background", theme), io.BytesIO()
        with matplotlib.rc_context(settings), matplotlib_at_work():
            drawing.savefig(out, format=kind, dpi=PIXELS_PER_INCH * sharpness, facecolor=background, metadata=metadata)
        if kind == "png":
            return written.small_png(out, self.alt)
        return written.annotated(out.getvalue().decode(), self.alt, theme).encode() if kind == "svg" else out.getvalue()


def in_any_width(view: Callable[_P, Figure]) -> Callable[_P, Figure]:
    """For a view with the keyword `width`: its figures can be drawn again for another width."""

    @wraps(view)
    def drawn(*args: _P.args, **options: _P.kwargs) -> Figure:
        def redraw(width: float) -> Figure:
            changed: Any = {**options, "width": width}
            return view(*args, **changed)

        return replace(view(*args, **options), redraw=redraw)

    return drawn


class Canvas:
    """A sheet measured in px from the top left corner, in one theme. Colours are names of the style sheet or #rrggbb."""

    def __init__(self, width: float, height: float, theme: str, scale: float = 1.0) -> None:
        self.width, self.height, self.theme, self._scale = width, height, theme, scale
        self._lines: dict[tuple[str, float], list[list[tuple[float, float]]]] = {}
        self._dots: dict[tuple[str, str, float, str, float], list[tuple[float, float]]] = {}
        self._boxes: list[tuple[float, float, float, float, str]] = []
        self._texts: list[tuple[float, float, str, dict[str, Any]]] = []

    def line(self, points: list[tuple[float, float]], colour: str = "line", width: float = 1.2) -> None:
        """A line through `points`."""
        self._lines.setdefault((colour, width), []).append(points)

    def dot(self, x: float, y: float, size: float, fill: str, edge: str = "", edge_width: float = 1.3, shape: str = "o") -> None:
        """A mark `size` px across; `shape` "o" or "s" (square)."""
        self._dots.setdefault((fill, edge, size, shape, edge_width), []).append((x, y))

    def box(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        """A filled rectangle, below all else."""
        self._boxes.append((x, y, width, height, fill))

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: float = style.BODY,
        colour: str = "text",
        bold: bool = False,
        align: str = "left",
    ) -> None:
        """One line of text, centred on the height `y`; `align` "left", "center" or "right" says which end `x` is."""
        words = drawable(words)
        options: dict[str, Any] = {"fontsize": self._points(size), "fontweight": "bold" if bold else "normal", "ha": align}
        options["family"] = [style.FONT, *sorted({family for letter in words if (family := _other_family(letter))})]
        if words.strip():
            self._texts.append((x, y, words, options | {"color": style.colour(colour, self.theme)}))

    def title(self, lines: list[str]) -> None:
        """The title, left aligned and bold, at the top; `title_height(lines)` px high."""
        for number, words in enumerate(lines):
            self.text(MARGIN, MARGIN + style.TITLE * (0.6 + 1.35 * number), words, style.TITLE, bold=True)

    def finish(self, paint: Callable[[Canvas], None]) -> MatplotlibFigure:
        """Let `paint` draw, and return the matplotlib figure (made without pyplot, which would keep it and show it again)."""
        from matplotlib.collections import LineCollection, PolyCollection
        from matplotlib.figure import Figure as MatplotlibFigure

        paint(self)
        inches = (self._points(self.width) / 72, self._points(self.height) / 72)
        drawing = MatplotlibFigure(figsize=inches, dpi=PIXELS_PER_INCH)
        axes = drawing.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set(xlim=(0, self.width), ylim=(self.height, 0))
        axes.axis("off")
        if self._boxes:
            fills = [style.colour(fill, self.theme) for *_, fill in self._boxes]
            boxes = [[(x, y), (x + wide, y), (x + wide, y + high), (x, y + high)] for x, y, wide, high, _ in self._boxes]
            axes.add_collection(PolyCollection(boxes, facecolors=fills, linewidths=0, zorder=1))
        for (colour, width), lines in self._lines.items():
            ink = style.colour(colour, self.theme)
            axes.add_collection(LineCollection(lines, colors=ink, linewidths=self._points(width), capstyle="round", zorder=2))
        for (fill, edge, size, shape, edge_width), places in self._dots.items():
            axes.plot(
                *zip(*places, strict=True),
                linestyle="none",
                marker=shape,
                markersize=self._points(size),
                markerfacecolor=style.colour(fill, self.theme),
                markeredgecolor=style.colour(edge or fill, self.theme),
                markeredgewidth=self._points(edge_width),
                clip_on=False,
                zorder=3,
            )
        for x, y, words, options in self._texts:
            axes.text(x, y, words, va="center_baseline", zorder=4, parse_math=False, **options)
        return drawing

    def _points(self, pixels: float) -> float:
        return pixels * self._scale * 72 / PIXELS_PER_INCH


def title_height(lines: list[str]) -> float:
    """Height of a title with the space above and below it, px."""
    return MARGIN + 1.35 * style.TITLE * len(lines) + 8


@lru_cache(maxsize=4096)
def drawable(words: str) -> str:
    """`words` as they are drawn: on one line, and what does not print, or is in no font of this machine, as its escape."""
    return showable("".join(letter if _has(letter) else escaped(letter) for letter in showable(words)))


@lru_cache(maxsize=4096)
def text_width(words: str, size: float = style.BODY, bold: bool = False) -> float:
    """Width of a line of text as it will be drawn, px."""
    return sum(_advance(letter, bold) for letter in drawable(words)) * size


def wrap(words: str, width: float, size: float = style.BODY, bold: bool = False) -> list[str]:
    """`words` broken between words into lines at most `width` px wide; a word that is wider is broken, too."""
    lines = [""]
    for word in (piece for each in showable(words, PARAGRAPH).split() for piece in _pieces(each, width, size, bold)):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size, bold) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _pieces(word: str, width: float, size: float, bold: bool) -> list[str]:
    """A word that is too wide in pieces: after a / or the like where there is one in the piece's second half, else anywhere."""
    pieces, rest = [], word
    while text_width(rest, size, bold) > width and len(rest) > 1:
        end = max(next(n for n in range(1, len(rest) + 1) if text_width(rest[: n + 1], size, bold) > width), 1)
        mark = max(rest.rfind(each, 0, end) for each in "/._-:,") + 1
        end = mark if mark > end / 2 else end
        pieces.append(rest[:end])
        rest = rest[end:]
    return [*pieces, rest]


def fit(words: str, width: float, size: float = style.BODY, bold: bool = False) -> str:
    """`words` as they are drawn, their end replaced by … where they would be wider than `width` px."""
    words = drawable(words)
    if text_width(words, size, bold) <= width:
        return words
    while words and text_width(words + "…", size, bold) > width:
        words = words[:-1]
    return words.rstrip() + "…"


def kind_of(path: str | Path) -> str:
    """ "svg", "png" or "pdf", by the ending. Raises ValueError for another."""
    kind = Path(path).suffix.lower().lstrip(".")
    if kind not in ("svg", "png", "pdf"):
        name = showable(Path(path).name)
        raise ValueError(f"A figure cannot be written as {name!r}. Use a name that ends in .svg, .png or .pdf.")
    return kind


@lru_cache(maxsize=1024)
def _advance(letter: str, bold: bool) -> float:
    """Advance width of one letter at size 1."""
    family = _other_family(letter)
    font = _font(bold, family or style.FONT)
    font.set_size(100, 72)
    return font.load_char(ord(letter), flags=_no_hinting()).linearHoriAdvance / 65536 / 100


def _has(letter: str) -> bool:
    return letter in _letters(style.FONT) or _other_family(letter) != ""


@lru_cache(maxsize=1024)
def _other_family(letter: str) -> str:
    """The family, of those that are installed, by which a letter is drawn that the style's font lacks; "" where none has it."""
    if letter in _letters(style.FONT):
        return ""
    return next((family for family in _families() if letter in _letters(family)), "")


@lru_cache(maxsize=512)
def _letters(family: str) -> frozenset[str]:
    """What a family can draw, in both weights; nothing where its files cannot be read, or hold pictures, as an emoji font's."""
    with contextlib.suppress(Exception):  # FreeType and matplotlib raise several kinds, and another font will do
        fonts = [_font(bold, family) for bold in (False, True)]
        if all(font.scalable for font in fonts):
            return frozenset(map(chr, set(fonts[0].get_charmap()).intersection(*(font.get_charmap() for font in fonts))))
    return frozenset()


@lru_cache(maxsize=1)
def _families() -> tuple[str, ...]:
    from matplotlib.font_manager import fontManager

    names = {each.name for each in fontManager.ttflist} - {style.FONT}
    return tuple(sorted(name for name in names if not name.startswith("Last Resort")))  # has a box for every letter


@lru_cache(maxsize=128)
def _font(bold: bool, family: str = style.FONT) -> Any:
    with matplotlib_at_work():
        from matplotlib.font_manager import FontProperties, findfont, get_font

        return get_font(findfont(FontProperties(family=family, weight="bold" if bold else "normal")))


@contextlib.contextmanager
def matplotlib_at_work() -> Iterator[None]:
    """While matplotlib is imported, measures and draws. What it logs about this machine (a family that lacks a weight, a
    directory that it cannot write) is no output of a cell. That it looks through all fonts, which can take long the first
    time, is shown as progress."""
    with shown() as show:

        def keep(record: logging.LogRecord) -> bool:
            if "font cache" in record.getMessage():
                show(record.getMessage())
            return record.levelno >= logging.ERROR

        logs = [logging.getLogger(name) for name in ("matplotlib", "matplotlib.font_manager")]
        for log in logs:
            log.addFilter(keep)
        try:
            yield
        finally:
            for log in logs:
                log.removeFilter(keep)


def _no_hinting() -> Any:
    from matplotlib.ft2font import LoadFlags

    return LoadFlags.NO_HINTING
