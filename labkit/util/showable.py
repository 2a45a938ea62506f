"""Text from processes, users and runtimes made fit to be shown: in a figure, a terminal, a table, a log or a sentence.

A command line, a file's name or a runtime's message may hold any byte: escape sequences that recolour a terminal, marks that turn
the direction of writing, NUL, half a letter. Data (JSON, a Flight, a message) keeps them; what people read goes through here.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from typing import ClassVar, TextIO

LONGEST = 400
"""So many letters of one text are shown."""
LONGEST_IN_LOG = 4000
LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"
MARKS = 3
"""So many combining marks on one letter; Vietnamese and Hebrew need as many."""
_SPACES = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]")
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
"""Letters that take part in a text by Unicode's categories, and show nothing."""


class ReadableError(Exception):
    """An error of which a notebook shows the sentences, not the stack. `shows_class`: after the name of its class."""

    shows_class: ClassVar[bool] = False

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows in place of a traceback (IPython's protocol)."""
        return showable_lines(f"{type(self).__name__}: {self}" if self.shows_class else self).split("\n")


class Absent(ReadableError, KeyError):
    """What was asked for by its name is not there. `str()` is a sentence, which names what is there."""

    def __str__(self) -> str:
        return str(self.args[0])


def showable(text: object, longest: int = LONGEST) -> str:
    """`text` as one line that prints the same everywhere; of more than `longest` letters the middle is left out.

    What does not print is written as its escape (\\x1b, \\u202e), a byte that is no UTF-8 as \\xff, a newline or tab as a space.
    """
    words = cut(str(text), longest)
    if words.isascii() and words.isprintable():
        return words
    shown: list[str] = []
    marks = MARKS  # none before the first letter
    for letter in _SPACES.sub(" ", words):
        mark = unicodedata.category(letter).startswith("M")
        marks = marks + 1 if mark else 0 if letter != " " else MARKS
        if unicodedata.category(letter) == "Zs":
            shown.append(" ")
        elif not letter.isprintable() or _INVISIBLE.match(letter) or (mark and marks > MARKS):
            shown.append(escaped(letter))
            marks = MARKS
        else:
            shown.append(letter)
    return cut("".join(shown), longest)


def cut(text: str, longest: int) -> str:
    """Of a text of more than `longest` letters the middle is left out."""
    return text if len(text) <= longest else f"{text[: longest - longest // 2 - 1]}…{text[len(text) - longest // 2 :]}"


def showable_lines(text: object, longest: int = 20 * LONGEST) -> str:
    """The same of a text of several lines, which stay lines."""
    words = cut(str(text), longest)
    lines = words.replace("\r\n", "\n").expandtabs(4).split("\n")
    return "\n".join(showable(line, longest) for line in lines)


def last_line(output: str) -> str:
    """The last line that a program printed: where it failed, as a rule why."""
    return (output.strip().splitlines() or ["it printed nothing"])[-1]


def escaped(letter: str) -> str:
    """A letter as Python writes it in a literal; a byte that was no UTF-8 (PEP 383's surrogates) as that byte."""
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def columns(text: str) -> int:
    """How many columns of a terminal a shown text takes: wide letters take two, combining marks none."""
    from rich.cells import cell_len

    return cell_len(text)


def padded(text: str, width: int, right: bool = False) -> str:
    """`text` with spaces after it (`right`: before it) up to `width` columns."""
    spaces = " " * (width - columns(text))
    return spaces + text if right else text + spaces


def short_path(path: str, longest: int) -> str:
    """A path of at most about `longest` letters: its beginning and its last name stay, between them is …."""
    if len(path) <= longest:
        return path
    head, _, name = path.rstrip("/").rpartition("/")
    name += "/" * path.endswith("/")
    room = longest - len(name) - 2
    if not head or room < 2:
        return f"…/{name}" if head and len(name) + 2 <= longest else cut(path, longest)
    kept = head[:room].rpartition("/")[0] if "/" in head[1:room] else ""
    return f"{kept}/…/{name}" if kept else f"…/{name}"


def short_words(text: str, longest: int = 36) -> str:
    """`text` with each path and each other word of more than `longest` letters shortened in its middle."""
    return re.sub(rf"\S{{{longest + 1},}}", lambda word: short_path(word[0], longest), text)


def fitted(text: str, width: int) -> str:
    """`text` in at most `width` columns: long words are shortened first, then the end is left out."""
    for longest in (36, 24, 16):
        if columns(text) <= width:
            return text
        text = short_words(text, longest)
    while columns(text) > width:
        text = text.removesuffix("…")[:-1].rstrip() + "…"
    return text


class OneLine(logging.Formatter):
    """A record's message as one line; a traceback follows, of which no line begins as a record does: with a digit.

    Else a container's output could write lines of its own into labkit's logs, which `labkit status` and people would take for
    the program's.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = showable(record.message, LONGEST_IN_LOG)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:
        lines = (showable(line, LONGEST_IN_LOG) for line in super().formatException(ei).split("\n"))  # type: ignore[arg-type]
        return "\n".join(f" {line}" if line[:1].isdigit() else line for line in lines)


def start_log(stream: TextIO | None = None, format: str = LOG_FORMAT) -> None:
    """Log to `stream`, standard error where it is None."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLine(format))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
