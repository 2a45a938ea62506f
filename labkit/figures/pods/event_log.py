"""Events of Pods, as `kubectl describe pod` lists them, with the message large that says why."""

from __future__ import annotations

import re
from collections.abc import Sequence

from labkit.figures import style
from labkit.figures.figure import MARGIN, Canvas, Figure, in_any_width, text_width, title_height, wrap
from labkit.figures.pods.cluster_model import EventLine

WIDTH, STACKED, GAP = 860.0, 560.0, 9.0
"""px. Below STACKED a message is drawn below its reason, else beside it."""
LINE, LARGE_LINE = 15.0, 22.0
COLOURS = {"default-scheduler": "host", "kubelet": "kubelet"}
LONG_ID = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{20,}\b")
"""An id of a sandbox or container, of which the beginning is enough."""
LIMIT = 40
"""So many lines are drawn; of more, the last ones."""


@in_any_width
def event_log(events: Sequence[EventLine], *, title: str | None = None, width: float = WIDTH) -> Figure:
    """Draw events from the oldest to the newest: a mark (hollow for Warning), reason, source, message. One message is large: the
    fullest of the Warnings that have the newest Warning's reason.

    `events`: as `Node.events()` gives them. The alternative text has types, reasons, sources and messages without addresses, ids
    and times, each once, sorted by Pod: their order within a second is chance.
    """
    shown = sorted(events, key=lambda e: e.at)[-LIMIT:]
    many = len({e.pod for e in shown}) > 1
    warnings = [e.reason for e in shown if e.type == "Warning"]
    heading = title or (f"Events say why: {', '.join(dict.fromkeys(warnings))}" if warnings else "Events: nothing went wrong")
    heads = wrap(heading, width - 2 * MARGIN, style.TITLE, bold=True)
    top = title_height(heads) + 4
    first = MARGIN + 20
    reasons = max([max(text_width(_reason(e), bold=True), text_width(e.source, style.SMALL)) for e in shown], default=60)
    stacked = width < STACKED
    second = first if stacked else min(first + reasons + 16, width * 0.42)
    decisive = deciding(shown)
    sizes = [(style.LARGE, LARGE_LINE) if e is decisive else (style.SMALL, LINE) for e in shown]
    messages = [wrap(_message(e, many), width - MARGIN - second, size) for e, (size, _) in zip(shown, sizes, strict=True)]
    below = 2 * LINE if stacked else 0.0
    heights = [max(len(m) * line + below, 2 * LINE) + GAP for m, (_, line) in zip(messages, sizes, strict=True)]

    def paint(canvas: Canvas) -> None:
        canvas.title(heads)
        y = top
        for event, message, (size, line), high in zip(shown, messages, sizes, heights, strict=True):
            colour = COLOURS.get(event.source, "other")
            warning = event.type == "Warning"
            if event is decisive:
                canvas.box(MARGIN / 2, y - GAP / 2, width - MARGIN, high, "band")
                canvas.box(MARGIN / 2, y - GAP / 2, 4, high, "failed")
            fill = "band" if event is decisive else "background"
            canvas.dot(MARGIN + 7, y + 8, 11, fill if warning else colour, "failed" if warning else colour, 2.4)
            for number, words in enumerate(wrap(_reason(event), (width if stacked else second) - first - 8, bold=True)[:1]):
                canvas.text(first, y + 8 + number * LINE, words, bold=True)
            canvas.text(first, y + 8 + LINE, event.source, style.SMALL, "muted")
            for number, words in enumerate(message):
                canvas.text(second, y + below + line / 2 + number * line, words, size)
            y += high
            canvas.line([(MARGIN, y - GAP / 2), (width - MARGIN, y - GAP / 2)], "band", 1)

    return Figure(_alternative_text(shown, heading), paint, width, top + sum(heights) + 4)


def deciding(events: Sequence[EventLine]) -> EventLine | None:
    """The event that says most of why: of the Warnings with the newest one's reason that with the longest message."""
    warnings = [event for event in events if event.type == "Warning"]
    return max((e for e in warnings if e.reason == warnings[-1].reason), key=lambda e: len(e.message), default=None)


def _reason(event: EventLine) -> str:
    return event.reason + (f" ×{event.count}" if event.count > 1 else "")


def _message(event: EventLine, many: bool) -> str:
    about = [event.pod] if many else []
    about += [event.container] if event.container else []
    message = LONG_ID.sub(r"\1…", event.message)
    return f"{' / '.join(about)}: {message}" if about else message


def _alternative_text(events: Sequence[EventLine], title: str) -> str:
    lines = {
        f"{e.pod}: {e.type} {e.reason} from {e.source}{f' about {e.container}' if e.container else ''}": None
        for e in sorted(events, key=lambda e: (e.pod, e.type, e.reason, e.container or ""))
    }
    return "\n".join([f"{title}." if title.startswith("Events") else f"Events: {title}.", *lines])
