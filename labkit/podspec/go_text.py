"""How Go writes texts in quotes and values: in the messages of kubelet and API, and in what the kubelet writes into volumes."""

from __future__ import annotations

from typing import Any

SHORT = {'"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


def go_quote(text: str) -> str:
    """Go's %q (strconv.Quote): what is not printable is escaped; a byte that is no UTF-8, as \\x and its value."""
    return f'"{"".join(map(_go_escaped, text))}"'


def go_value(value: Any) -> str:
    """Go's %+v of a value that came as JSON: map[a:1 b:[x y]]."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{go_value(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(go_value, value))}]"
    return {None: "<nil>", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)


def _go_escaped(letter: str) -> str:
    number = ord(letter)
    if letter in SHORT:
        return SHORT[letter]
    if letter.isprintable():
        return letter
    if 0xDC80 <= number <= 0xDCFF:  # surrogateescape
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 0x80 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
