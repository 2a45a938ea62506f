"""The catalogue of CRI's RPCs: which there are, which this runtime answers, which a recording used."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from labkit.figures import style
from labkit.figures.figure import MARGIN, Canvas, Figure, fit, in_any_width, text_width, title_height, wrap
from labkit.figures.namespaces.groups import words

if TYPE_CHECKING:
    from labkit.cri import Rpc

WIDTH, ROW, HEAD, MARK, GAP = 760.0, 20.0, 26.0, 10.0, 26.0
MARKS = {
    "used": "used in the recording", "answered": "answered", "unanswered": "not answered", "untried": "not tried",
    "unused": "not used",
}


@in_any_width
def rpc_catalogue(
    services: Sequence[Rpc],
    answered: Mapping[str, bool],
    used: Collection[str] = (),
    *,
    title: str | None = None,
    width: float = WIDTH,
) -> Figure:
    """Draw every RPC of `services` (labkit.cri.services()) under its service, in the order of api.proto.

    `answered`: the RPC's name in api.proto → whether the runtime answers it (False: UNIMPLEMENTED); what is missing was not
    tried. With nothing in it the question is only what was used. `used`: names of the RPCs that a recording has; what was used
    counts as answered unless `answered` says no.
    """
    states = {each.rpc: _state(each.rpc, answered, used) for each in services}
    heads = wrap(title or _title(services, states), width - 2 * MARGIN, style.TITLE, bold=True)
    grouped = {name: [each for each in services if each.service == name] for name in dict.fromkeys(s.service for s in services)}
    widest = max((text_width(_name(each), style.BODY, bold=True) for each in services), default=0.0) + MARK + 8
    columns = max(1, int((width - 2 * MARGIN + GAP) // (widest + GAP)))
    keys = _key(width, [state for state in MARKS if state in states.values()])
    top = title_height(heads) + 6 + 18 * (1 + max((line for *_, line in keys), default=0))
    places: list[tuple[str, list[Rpc], float, int]] = []
    y = top
    for name, members in grouped.items():
        deep = math.ceil(len(members) / columns)
        places.append((name, members, y, deep))
        y += HEAD + deep * ROW + 10

    def paint(canvas: Canvas) -> None:
        canvas.title(heads)
        for state, x, number in keys:
            at = title_height(heads) + 8 + 18 * number
            _paint_mark(canvas, x + MARK / 2, at, state)
            canvas.text(x + MARK + 6, at, MARKS[state], style.SMALL, "muted")
        for name, members, head, deep in places:
            canvas.box(MARGIN, head, width - 2 * MARGIN, HEAD - 5, "band")
            canvas.text(MARGIN + 6, head + (HEAD - 5) / 2, f"{name}: {len(members)} RPCs", style.BODY, bold=True)
            step = (width - 2 * MARGIN + GAP) / columns
            for number, each in enumerate(members):
                x, line = MARGIN + 6 + step * (number // deep), head + HEAD + ROW * (number % deep + 0.5)
                state = states[each.rpc]
                _paint_mark(canvas, x + MARK / 2, line, state)
                room = step - GAP - MARK - 8 if columns > 1 else width - x - MARK - 8 - MARGIN
                shown = fit(_name(each), room + 12, style.BODY, bold=state == "used")
                ink = "text" if state in ("used", "answered") else "muted"
                canvas.text(x + MARK + 8, line, shown, style.BODY, ink, bold=state == "used")

    return Figure(_alternative_text(grouped, states, title or _title(services, states)), paint, width, y + 2)


def _state(name: str, answered: Mapping[str, bool], used: Collection[str]) -> str:
    if answered.get(name) is False:
        return "unanswered"
    if name in used:
        return "used"
    return "answered" if answered.get(name) else "untried" if answered else "unused"


def _name(rpc: Rpc) -> str:
    return rpc.rpc + (" (stream)" if rpc.streaming else "")


def _paint_mark(canvas: Canvas, x: float, y: float, state: str) -> None:
    if state == "used":
        canvas.dot(x, y, MARK, "containerd")
    elif state == "answered":
        canvas.dot(x, y, MARK - 1, "background", "containerd", 1.6)
    elif state == "unanswered":
        canvas.line([(x - 3.5, y - 3.5), (x + 3.5, y + 3.5)], "muted", 1.8)
        canvas.line([(x - 3.5, y + 3.5), (x + 3.5, y - 3.5)], "muted", 1.8)
    else:
        canvas.dot(x, y, 3.5, "faint")


def _key(width: float, states: Sequence[str]) -> list[tuple[str, float, int]]:
    """(state, x, line) of each mark in the key."""
    found: list[tuple[str, float, int]] = []
    x, line = float(MARGIN + 6), 0
    for state in states:
        wide = MARK + 6 + text_width(MARKS[state], style.SMALL)
        if x + wide > width - MARGIN and x > MARGIN + 6:
            x, line = MARGIN + 6, line + 1
        found.append((state, x, line))
        x += wide + 18
    return found


def _title(services: Sequence[Rpc], states: Mapping[str, str]) -> str:
    kinds = len({each.service for each in services})
    counts = {state: sum(s == state for s in states.values()) for state in MARKS}
    answers = counts["used"] + counts["answered"]
    text = f"CRI has {len(services)} RPCs in {'two services' if kinds == 2 else f'{kinds} service(s)'}"
    text += "".join(f" ({contract})" for contract in dict.fromkeys(each.contract for each in services))
    if not counts["unused"]:
        text += f"; this runtime answers {answers if counts['unanswered'] or counts['untried'] else 'all'}"
    return f"{text}, the recording used {counts['used'] or 'none'}"


def _alternative_text(grouped: Mapping[str, Sequence[Rpc]], states: Mapping[str, str], title: str) -> str:
    lines = [f"RPC catalogue: {title}."]
    for name, members in grouped.items():
        lines.append(f"{name}, {len(members)} RPCs: {words([_name(each) for each in members], 60)}.")
    for state in ("used", "unanswered", "untried", "unused"):
        if names := [name for name, its in states.items() if its == state]:
            lines.append(f"{MARKS[state].capitalize()}: {words(names, 60)}.")
    return "\n".join(lines)
