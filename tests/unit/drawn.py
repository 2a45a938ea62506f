"""An SVG that a figure wrote, walked: what lies beneath each text, and how large it is."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from labkit.figures.style import contrast

SVG, LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
RULE = re.compile(r'\[style\*="(\w+): (#\w+)"\]\{\w+:(#\w+)!important\}')
Point = tuple[float, float]


@dataclass(frozen=True)
class Text:
    """One line of text: its words, its size (px, as designed), its worst contrast to what is beneath."""

    words: str
    size: float
    contrast: float


@dataclass(frozen=True)
class Shape:
    covers: Callable[[Point], bool]
    colour: str


def texts(svg: str, dark_page: bool = False) -> list[Text]:
    """The texts in an SVG. `dark_page`: as it looks where the page prefers dark (CSS prefers-color-scheme)."""
    root = ET.fromstring(svg)
    partners = {(kind, light): dark for kind, light, dark in RULE.findall(svg)} if dark_page else {}
    found: list[Text] = []
    beneath: list[Shape] = []
    for group in root.iter(f"{SVG}g"):
        name = group.get("id", "")
        if name.startswith("text_"):
            words = _words(svg, name)
            lettering = [each for each in group.iter(f"{SVG}g") if "fill" in each.get("style", "")]
            found += [_text(words, letters, beneath, partners) for letters in lettering]
        elif name.startswith(("patch_", "PolyCollection_", "LineCollection_", "line2d_")):
            beneath += _shapes(group, partners)
    return found


def _words(svg: str, name: str) -> str:
    """matplotlib writes a text's words as a comment before its paths."""
    return re.search(rf'<g id="{name}">\s*<!-- (.*?) -->', svg, re.DOTALL)[1]


def _text(words: str, group: ET.Element, beneath: list[Shape], partners: Mapping[tuple[str, str], str]) -> Text:
    x, y = _numbers(group.get("transform", ""), "translate")
    scale = _numbers(group.get("transform", ""), "scale")[0]
    ink = _colour(group, "fill", partners)
    points = []
    for letter in group.iter(f"{SVG}use"):
        at = _numbers(letter.get("transform", "translate(0 0)"), "translate")[0]
        points += [(x + scale * (at + part), y - scale * 30) for part in (5, 30, 55)]
    seen = [next((s.colour for s in reversed(beneath) if s.covers(point)), "#ffffff") for point in points]
    return Text(words, scale * 100 * 96 / 72, min((contrast(ink, fill) for fill in seen), default=21.0))


def _shapes(group: ET.Element, partners: Mapping[tuple[str, str], str]) -> Iterable[Shape]:
    marks = {path.get("id"): path for defs in group.iter(f"{SVG}defs") for path in defs.iter(f"{SVG}path")}
    for element in group.iter():
        if element.tag == f"{SVG}path" and element not in marks.values():
            points = _points(element)
            if (fill := _colour(element, "fill", partners)) != "none":
                yield Shape(_inside(points), fill)
            elif (width := _width(element)) >= 3:
                yield Shape(_near(points, width / 2), _colour(element, "stroke", partners))
        elif element.tag == f"{SVG}use":
            mark = _points(marks[element.get(LINK, "")[1:]])
            x, y = float(element.get("x", 0)), float(element.get("y", 0))
            radius = max(abs(px) for px, _ in mark)
            yield Shape(_within((x, y), radius), _colour(element, "fill", partners))


def _inside(points: list[Point]) -> Callable[[Point], bool]:
    xs, ys = zip(*points, strict=True)
    return lambda p: min(xs) <= p[0] <= max(xs) and min(ys) <= p[1] <= max(ys)


def _within(centre: Point, radius: float) -> Callable[[Point], bool]:
    return lambda p: math.dist(p, centre) <= radius


def _near(points: list[Point], half: float) -> Callable[[Point], bool]:
    (ax, ay), (bx, by) = points[0], points[-1]
    length = max(math.dist((ax, ay), (bx, by)), 1e-9)

    def covers(p: Point) -> bool:
        part = min(max(((p[0] - ax) * (bx - ax) + (p[1] - ay) * (by - ay)) / length**2, 0), 1)
        return math.dist(p, (ax + part * (bx - ax), ay + part * (by - ay))) <= half

    return covers


def _points(path: ET.Element) -> list[Point]:
    numbers = [float(each) for each in NUMBER.findall(path.get("d", ""))]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _numbers(transform: str, name: str) -> list[float]:
    found = re.search(rf"{name}\(([^)]*)\)", transform)
    return [float(each) for each in NUMBER.findall(found[1])] if found else [1.0, 1.0]


def _width(element: ET.Element) -> float:
    found = re.search(r"stroke-width: ([\d.]+)", element.get("style", ""))
    return float(found[1]) if found else 1.0


def _colour(element: ET.Element, kind: str, partners: Mapping[tuple[str, str], str]) -> str:
    found = re.search(rf"(?:^|; ){kind}: (#\w+|none)", element.get("style", ""))
    colour = found[1] if found else "#000000"
    return partners.get((kind, colour), colour)
