"""What is written of a drawn figure: an SVG with its text and its variants for narrow pages, a small PNG."""

from __future__ import annotations

import io
import re
from xml.sax.saxutils import escape

from labkit.figures import style

SHADES = 128
"""So many colours a PNG has: enough for smooth letters, and a third of the size."""
LONG_NUMBER = re.compile(r"(?<![\w.#-])-?\d+\.\d{3,}")
VARIANT = re.compile(r'<svg display="none".*?</svg>', re.DOTALL)


def annotated(svg: str, alt: str, theme: str) -> str:
    """The SVG with its alternative text, and for the theme "page" with the rules of both themes."""
    svg = LONG_NUMBER.sub(_rounded, svg)
    start = svg.index("<svg ")
    head = svg.index(">", start) + 1
    described = f'{svg[:start]}<svg role="img" {svg[start + 5 : head]}\n<desc>{escape(alt)}</desc>\n{svg[head:]}'
    return for_both_themes(described) if theme == "page" else described


def for_both_themes(svg: str) -> str:
    """A light figure's SVG with the rules that turn each light colour into its dark partner where the page is dark.

    The rules look at the colours as matplotlib writes them, so a viewer without CSS still sees the light picture.
    """
    pairs = [pair for pair in style.COLOURS.values() if pair.light in svg]
    rules = "".join(
        f'[style*="{kind}: {light}"]{{{kind}:{dark}!important}}' for light, dark, _ in pairs for kind in ("fill", "stroke")
    )
    head = svg.index("</desc>\n") + len("</desc>\n")
    return f"{svg[:head]}<style>@media (prefers-color-scheme: dark){{{rules}}}</style>\n{svg[head:]}"


def _rounded(number: re.Match[str]) -> str:
    """A hundredth of a point is not seen; scales, which are below 1, keep all their digits."""
    value = float(number[0])
    return number[0] if abs(value) < 1 else f"{value:.2f}".rstrip("0").rstrip(".")


def with_variants(svg: str, narrow: list[str]) -> str:
    """`svg` with the figure's other widths in it, not displayed. They keep no text of their own: it is the same."""
    bodies = [re.sub(r"<desc>.*?</desc>", "", each[each.index("<svg ") :], flags=re.DOTALL) for each in narrow]
    hidden = [body.strip().replace("<svg ", '<svg display="none" ', 1) + "\n" for body in bodies]
    end = svg.rindex("</svg>")
    return svg[:end] + "".join(hidden) + svg[end:]


def variants(svg: str) -> list[str]:
    """What `image/svg+xml` of a notebook's output holds, each a whole SVG: the figure, then those for narrower pages."""
    wide = VARIANT.sub("", svg)
    text = re.search(r"<desc>.*?</desc>", svg, re.DOTALL)
    described = text[0] if text else ""
    narrow = [each.replace(' display="none"', "", 1).replace(">", f">\n{described}", 1) for each in VARIANT.findall(svg)]
    return [wide, *narrow]


def small_png(out: io.BytesIO, alt: str) -> bytes:
    """A PNG with few colours and with its alternative text, in the place that the format has for it (Description)."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    text, small = PngInfo(), io.BytesIO()
    text.add_itxt("Description", alt)
    with Image.open(out) as picture:
        few = picture.convert("RGB").quantize(SHADES, dither=Image.Dither.NONE)
        few.save(small, "png", pnginfo=text, optimize=True)
    return small.getvalue()
