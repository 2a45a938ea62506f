"""How the kubelet came to speak CRI: what was built in and what speaks the contract, since 2014."""

from __future__ import annotations

from dataclasses import dataclass

from labkit.figures import style
from labkit.figures.figure import MARGIN, Canvas, Figure, in_any_width, text_width, title_height, wrap

WIDTH, STACKED, LANE, LINE = 760.0, 640.0, 26.0, 16.0
"""px. Below STACKED names are above their bars, and what happened is below its date."""
FIRST, LAST = 2014.0, 2026.0


@dataclass(frozen=True)
class Milestone:
    """`at`: years, with the month as a fraction."""

    at: float
    when: str
    what: str
    source: str


@dataclass(frozen=True)
class Era:
    """A thing that was there from `begin` to `end` (years; None: to this day), in the colour of `role`."""

    begin: float
    end: float | None
    name: str
    role: str


def _month(year: int, month: int) -> float:
    return year + (month - 1) / 12


MILESTONES = (
    Milestone(
        _month(2014, 6),
        "June 2014",
        "Kubernetes is published. Its kubelet calls Docker directly.",
        "kubernetes.io/blog, 6 June 2024, “10 Years of Kubernetes”",
    ),
    Milestone(
        _month(2016, 7),
        "July 2016",
        "Kubernetes 1.3 knows a second runtime, rkt: it, too, is built into the kubelet.",
        "kubernetes.io/blog, July 2016, “rktnetes brings rkt container engine to Kubernetes”",
    ),
    Milestone(
        _month(2016, 12),
        "December 2016",
        "Kubernetes 1.5 brings CRI as alpha. The kubelet's Docker code moves behind it, as dockershim: the default from 1.6 on.",
        "kubernetes.io/blog, 19 December 2016, “Introducing Container Runtime Interface (CRI) in Kubernetes”",
    ),
    Milestone(
        _month(2017, 10),
        "October 2017",
        "CRI-O 1.0: a runtime made for CRI and nothing else.",
        "medium.com/cri-o, 16 October 2017, “CRI-O 1.0 is here”",
    ),
    Milestone(
        _month(2018, 5),
        "May 2018",
        "containerd 1.1 has CRI built in: the kubelet speaks to containerd without Docker.",
        "kubernetes.io/blog, 24 May 2018, “Kubernetes Containerd Integration Goes GA”",
    ),
    Milestone(
        _month(2021, 12),
        "December 2021",
        "Kubernetes 1.23: CRI v1 is the default, v1alpha2 the fallback.",
        "kubernetes.io/blog, 7 December 2021, “Kubernetes 1.23: The Next Frontier”",
    ),
    Milestone(
        _month(2022, 5),
        "May 2022",
        "Kubernetes 1.24 removes dockershim, which it had deprecated in 1.20.",
        "kubernetes/enhancements, KEP-2221; the deprecation: kubernetes/kubernetes, pull request 94624",
    ),
    Milestone(
        _month(2022, 12),
        "December 2022",
        "Kubernetes 1.26 speaks CRI v1 only.",
        "kubernetes.io/blog, 9 December 2022; kubernetes/kubernetes, pull request 110618",
    ),
    Milestone(
        _month(2024, 11),
        "November 2024",
        "containerd 2.0 answers v1 only.",
        "containerd, RELEASES.md, “Support Horizon” and “Kubernetes Support”",
    ),
)

ERAS = (
    Era(_month(2014, 6), _month(2016, 12), "Docker code in the kubelet", "kubelet"),
    Era(_month(2016, 12), _month(2022, 5), "dockershim, in the kubelet, behind CRI", "kubelet"),
    Era(_month(2016, 12), _month(2022, 12), "CRI in its alpha versions", "RuntimeService"),
    Era(_month(2021, 12), None, "CRI v1", "RuntimeService"),
    Era(_month(2017, 10), None, "CRI-O", "containerd"),
    Era(_month(2018, 5), None, "containerd speaks CRI itself", "containerd"),
)


@in_any_width
def history(*, title: str | None = None, width: float = WIDTH) -> Figure:
    """Draw the eras on an axis of years and, below it, what ended or began them, each with its source."""
    heading = title or "Until 2016 each runtime was code in the kubelet; since 2022 the kubelet holds none"
    heads = wrap(heading, width - 2 * MARGIN, style.TITLE, bold=True)
    top = title_height(heads)
    left, right = MARGIN + 4, width - MARGIN - 14
    stacked = width < STACKED
    lanes = list(range(len(ERAS))) if stacked else _lanes(left, right)
    lane_high = LANE + LINE if stacked else LANE
    axis = top + lane_high * (1 + max(lanes)) + 8
    date = MARGIN + 24 if stacked else max(text_width(each.when, style.BODY, bold=True) for each in MILESTONES) + 42
    entries, y = [], axis + 56
    for each in MILESTONES:
        what = wrap(each.what, width - MARGIN - date, style.BODY)
        source = wrap(each.source, width - MARGIN - date, style.SMALL)
        entries.append((each, y, what, source))
        y += 18 * (len(what) + stacked) + LINE * len(source) + 9

    def paint(canvas: Canvas) -> None:
        canvas.title(heads)
        canvas.line([(left, axis), (right + 10, axis)], "muted", 1.2)
        for year in range(int(FIRST), int(LAST) + 1, 2):
            align = "center" if year > FIRST else "left"
            canvas.text(_x(year, left, right), axis + 26, str(year), style.SMALL, "muted", align=align)
        for number, (each, line, what, source) in enumerate(entries, 1):
            x = _x(each.at, left, right)
            for lane in range(0 if stacked else 1 + max(lanes)):
                if not any(n == lane and _beside(era, x, left, right) for era, n in zip(ERAS, lanes, strict=True)):
                    canvas.box(x - 0.5, top + LANE * lane, 1, LANE, "faint")
            canvas.box(x - 0.5, axis - 8, 1, 8, "faint")
            _paint_number(canvas, _spread(number, left, right), axis + 9, number)
            _paint_number(canvas, MARGIN + 9, line, number)
            canvas.text(MARGIN + 24, line, each.when, style.BODY, bold=True)
            line += 18 * stacked
            for index, words in enumerate(what):
                canvas.text(date, line + 18 * index, words)
            for index, words in enumerate(source):
                canvas.text(date, line + 18 * len(what) + LINE * index - 1, words, style.SMALL, "muted")
        for era, lane in zip(ERAS, lanes, strict=True):
            if stacked:
                _paint_named_above(canvas, era, top + lane_high * lane, left, right)
            else:
                _paint_era(canvas, era, top + LANE * (lane + 0.5), left, right)

    alt = [f"History of CRI: {heading}.", *(f"{each.when}: {each.what} Source: {each.source}." for each in MILESTONES)]
    return Figure("\n".join(alt), paint, width, y + 2)


def _x(year: float, left: float, right: float) -> float:
    return left + (year - FIRST) / (LAST - FIRST) * (right - left)


def _beside(era: Era, x: float, left: float, right: float) -> bool:
    """Whether the name of `era` stands outside its bar, across `x`."""
    begin, end = _x(era.begin, left, right), _x(era.end or LAST, left, right)
    words = text_width(era.name, style.SMALL)
    if words + 12 <= end - begin:
        return False
    start = begin - 6 - words if begin - words - 8 > left else end + 6
    return start - 3 <= x <= start + words + 3


def _spread(number: int, left: float, right: float) -> float:
    """The place of a milestone's number on the axis, moved right where the one before it is too near."""
    x = -20.0
    for each in MILESTONES[:number]:
        x = max(_x(each.at, left, right), x + 18)
    return x


def _lanes(left: float, right: float) -> list[int]:
    """The lane of each era: an era starts below those that are still there or whose name stands beside them."""
    ends: list[float] = []
    lanes = []
    for era in ERAS:
        begin, end = _x(era.begin, left, right), _x(era.end or LAST, left, right)
        words = text_width(era.name, style.SMALL)
        inside = words + 12 <= end - begin
        reach = end if inside or begin - words - 8 > left else end + words + 10
        start = begin if inside or reach > end else begin - words - 8
        lane = next((n for n, taken in enumerate(ends) if taken + 4 <= start), len(ends))
        ends[lane : lane + 1] = [reach]
        lanes.append(lane)
    return lanes


def _paint_era(canvas: Canvas, era: Era, y: float, left: float, right: float) -> None:
    begin, end = _x(era.begin, left, right), _x(era.end or LAST, left, right)
    canvas.box(begin, y - 9, end - begin, 18, era.role)
    if era.end is None:
        canvas.dot(end + 4, y, 16, era.role, shape=">")
    words = text_width(era.name, style.SMALL)
    if words + 12 <= end - begin:
        canvas.text(begin + 6, y, era.name, style.SMALL, f"on {era.role}")
    elif begin - words - 8 > left:
        canvas.text(begin - 6, y, era.name, style.SMALL, align="right")
    else:
        canvas.text(end + 6, y, era.name, style.SMALL)


def _paint_named_above(canvas: Canvas, era: Era, top: float, left: float, right: float) -> None:
    begin, end = _x(era.begin, left, right), _x(era.end or LAST, left, right)
    canvas.text(min(begin, right - text_width(era.name, style.SMALL)), top + LINE / 2, era.name, style.SMALL)
    canvas.box(begin, top + LINE, end - begin, 12, era.role)
    if era.end is None:
        canvas.dot(end + 4, top + LINE + 6, 11, era.role, shape=">")


def _paint_number(canvas: Canvas, x: float, y: float, number: int) -> None:
    canvas.dot(x, y, 16, "background", "muted", 1.3)
    canvas.text(x, y, str(number), style.SMALL, bold=True, align="center")
