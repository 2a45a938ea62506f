"""A figure as SVG with text, written without matplotlib: for what is drawn again whenever a Pod changes, in a few milliseconds.

It is part of a page, so it takes the page's theme: `theme_rules` turns each light colour into its dark partner. Letters keep the
width that they were measured with, whichever font the browser has.
"""

from __future__ import annotations

from html import escape

from labkit.figures import style
from labkit.figures.figure import Canvas, Figure, drawable, text_width

FONTS = "'DejaVu Sans', Verdana, sans-serif"


def markup(figure: Figure) -> str:
    """The figure as one <svg> element, in the colours of a light page. Its alternative text is `figure.alt`, on the element."""
    sheet = Sheet(figure.width, figure.height, "light")
    figure.paint(sheet)
    wide, high = number(figure.width), number(figure.height)
    alt = escape(figure.alt).replace("\n", "&#10;")
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{alt}" viewBox="0 0 {wide} {high}"'
    return f'{head} width="{wide}" height="{high}" font-family="{FONTS}">{"".join(sheet.parts())}</svg>'


def theme_rules(dark: str) -> str:
    """CSS that gives figures below the selector `dark` the colours of a dark page."""
    return "".join(
        f"{dark} [{kind}='{light}']{{{kind}:{partner}}}"
        for light, partner, _ in style.COLOURS.values()
        if light != partner
        for kind in ("fill", "stroke")
    )


class Sheet(Canvas):
    """A Canvas whose marks become elements as they are drawn: boxes below lines, lines below dots, text above all."""

    def __init__(self, width: float, height: float, theme: str) -> None:
        super().__init__(width, height, theme)
        self.fills: list[str] = []
        self.strokes: list[str] = []
        self.marks: list[str] = []
        self.words: list[str] = []

    def parts(self) -> list[str]:
        return [*self.fills, *self.strokes, *self.marks, *self.words]

    def line(self, points: list[tuple[float, float]], colour: str = "line", width: float = 1.2) -> None:
        path = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        ink = style.colour(colour, self.theme)
        self.strokes.append(
            f'<polyline points="{path}" fill="none" stroke="{ink}" stroke-width="{width:g}" stroke-linecap="round"/>'
        )

    def dot(self, x: float, y: float, size: float, fill: str, edge: str = "", edge_width: float = 1.3, shape: str = "o") -> None:
        inks = f'fill="{style.colour(fill, self.theme)}" stroke="{style.colour(edge or fill, self.theme)}"'
        inks += f' stroke-width="{edge_width:g}"'
        half = size / 2
        corners = {
            "s": ((-1, -1), (1, -1), (1, 1), (-1, 1)),
            "D": ((0, -1.414), (1.414, 0), (0, 1.414), (-1.414, 0)),
            ">": ((-1, -1), (1, 0), (-1, 1)),
        }
        if shape == "o":
            self.marks.append(f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(half)}" {inks}/>')
        else:
            path = " ".join(f"{number(x + half * right)},{number(y + half * down)}" for right, down in corners[shape])
            self.marks.append(f'<polygon points="{path}" {inks}/>')

    def box(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        ink = style.colour(fill, self.theme)
        self.fills.append(
            f'<rect x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}" fill="{ink}"/>'
        )

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
        words = drawable(words)
        if not words.strip():
            return
        anchor = {"left": "start", "center": "middle", "right": "end"}[align]
        weight = ' font-weight="bold"' if bold else ""
        self.words.append(
            f'<text x="{number(x)}" y="{number(y + 0.36 * size)}" font-size="{size:g}"{weight} text-anchor="{anchor}"'
            f' fill="{style.colour(colour, self.theme)}" textLength="{number(text_width(words, size, bold))}"'
            f' lengthAdjust="spacingAndGlyphs">{escape(words)}</text>'
        )


def number(value: float) -> str:
    """A length in px, to a hundredth."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
