"""How labkit's background programs write their logs: one line for each record, whatever text of a Pod's is in it.

Else a container's output could write lines of its own there, which `labkit status` and people would take for the program's.
"""

from __future__ import annotations

import logging
from typing import TextIO

from labkit.util.showable import showable

LONGEST = 4000
FORMAT = "%(asctime)s %(levelname)s %(message)s"


class OneLine(logging.Formatter):
    """A record's words as one line; a traceback follows, of which no line begins as a record does: with a digit."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = showable(record.message, LONGEST)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:
        lines = (showable(line, LONGEST) for line in super().formatException(ei).split("\n"))  # type: ignore[arg-type]
        return "\n".join(f" {line}" if line[:1].isdigit() else line for line in lines)


def start(stream: TextIO | None = None, format: str = FORMAT) -> None:
    """Log to `stream`, standard error where it is None."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLine(format))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
