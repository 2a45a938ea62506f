"""A variable's value from a file in a volume (fileKeyRef). Knowledge: kubelet/util/env/env_util.go."""

from __future__ import annotations

import os
import stat

LARGEST = 1024 * 1024


def read(file: int) -> str:
    """The text of a regular file, given by a descriptor (O_PATH). Raises OSError and ValueError."""
    if not stat.S_ISREG(os.fstat(file).st_mode):  # opening a pipe would wait for its writer
        raise ValueError("not a regular file")
    with open(f"/proc/self/fd/{file}", "rb") as content:
        return content.read(LARGEST).decode(errors="surrogateescape")


def value_of(text: str, key: str) -> str:
    """What a file of lines NAME='value' gives a name; "" where it does not have it. Values may have several lines. Raises
    ValueError for what is not in this form, which is a part of a shell's."""
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    number = 0
    while number < len(lines):
        line = lines[number].lstrip(" \t")
        number += 1
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name or name != name.rstrip(" \t"):
            raise ValueError(f"invalid environment variable format at line {number}")
        if value != value.lstrip(" \t"):  # NAME= 'value' sets nothing, as in a shell
            if name == key:
                return ""
            continue
        if not value.startswith("'"):
            raise ValueError(f"invalid environment variable format at line {number}: value must be enclosed in single quotes")
        found, quote, rest = value[1:].partition("'")
        while not quote:
            if number == len(lines):
                raise ValueError("unclosed single quote")
            more, quote, rest = lines[number].partition("'")
            found, number = f"{found}\n{more}", number + 1
        if (after := rest.lstrip(" \t")) and not after.startswith("#"):
            raise ValueError(f"invalid environment variable format at line {number}: unexpected content after closing quote")
        if name == key:
            return found
    return ""
