"""Events of Pods, as `kubectl describe pod` lists them, with what repeats drawn as what repeats."""

from __future__ import annotations

from collections.abc import Sequence

from labkit.figures import style
from labkit.figures.figure import MARGIN, Canvas, Figure, text_width, title_height, wrap
from labkit.figures.pods.model import EventLine

WIDTH, LINE, GAP = 860.0, 15.0, 9.0
COLOURS = {"default-scheduler": "host", "kubelet": "kubelet"}
LIMIT = 40
"""So many lines are drawn; of more, the last ones."""


def event_log(events: Sequence[EventLine], *, title: str | None = None, width: float = WIDTH) -> Figure:
    """Draw events from the oldest to the newest: a mark (hollow for Warning), reason, source, and the whole message.

    `events`: as `Node.events()` gives them. The alternative text has types, reasons, sources and messages without addresses, ids
    and times, each once, sorted by Pod: their order within a second is chance.
    """
    shown = sorted(events, key=lambda e: e.at)[-LIMIT:]
    many = len({e.pod for e in shown}) > 1
    warnings = [e.reason for e in shown if e.type == "Warning"]
    told = title or (f"Events say why: {', '.join(dict.fromkeys(warnings))}" if warnings else "Events: nothing went wrong")
    heads = wrap(told, width - 2 * MARGIN, style.TITLE, bold=True)
    top = title_height(heads) + 4
    first = MARGIN + 20
    reasons = max([max(text_width(_reason(e), bold=True), text_width(e.source, style.SMALL)) for e in shown], default=60)
    second = min(first + reasons + 16, width * 0.42)
    messages = [wrap(_message(e, many), width - MARGIN - second, style.SMALL) for e in shown]
    heights = [max(len(m), 2) * LINE + GAP for m in messages]

    def paint(canvas: Canvas) -> None:
        canvas.title(heads)
        y = top
        for event, message, high in zip(shown, messages, heights, strict=True):
            colour = COLOURS.get(event.source, "other")
            warning = event.type == "Warning"
            canvas.dot(MARGIN + 6, y + 8, 11, "background" if warning else colour, "application" if warning else colour, 2.4)
            canvas.text(first, y + 8, _reason(event), bold=True)
            canvas.text(first, y + 8 + LINE, event.source, style.SMALL, "muted")
            for number, line in enumerate(message):
                canvas.text(second, y + 8 + number * LINE, line, style.SMALL)
            y += high
            canvas.line([(MARGIN, y - GAP / 2), (width - MARGIN, y - GAP / 2)], "band", 1)

    return Figure(_alternative_text(shown, told), paint, width, top + sum(heights) + 4)


def _reason(event: EventLine) -> str:
    return event.reason + (f" ×{event.count}" if event.count > 1 else "")


def _message(event: EventLine, many: bool) -> str:
    about = [event.pod] if many else []
    about += [event.container] if event.container else []
    return f"{' / '.join(about)}: {event.message}" if about else event.message


def _alternative_text(events: Sequence[EventLine], title: str) -> str:
    lines = {
        f"{e.pod}: {e.type} {e.reason} from {e.source}{f' about {e.container}' if e.container else ''}": None
        for e in sorted(events, key=lambda e: (e.pod, e.type, e.reason, e.container or ""))
    }
    return "\n".join([f"{title}." if title.startswith("Events") else f"Events: {title}.", *lines])
