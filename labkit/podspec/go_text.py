"""How Go writes a text in quotes: in the kubelet's messages, and in what it writes into volumes."""

from __future__ import annotations

SHORT = {'"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


def go_quote(text: str) -> str:
    """Go's %q (strconv.Quote): what is not printable is escaped; a byte that is no UTF-8, as \\x and its value."""
    return f'"{"".join(map(_go_escaped, text))}"'


def _go_escaped(letter: str) -> str:
    number = ord(letter)
    if letter in SHORT:
        return SHORT[letter]
    if letter.isprintable():
        return letter
    if 0xDC80 <= number <= 0xDCFF:  # surrogateescape
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 0x80 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
