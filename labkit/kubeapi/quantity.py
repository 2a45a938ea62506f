"""Amounts as Kubernetes writes them ("250m", "64Mi", "1e3", 2), read exactly. Knowledge: apimachinery's resource.Quantity."""

from __future__ import annotations

import math
import re
from fractions import Fraction

SUFFIXES = {
    **{suffix: Fraction(1000) ** power for power, suffix in enumerate(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), -3)},
    **{suffix: Fraction(1024) ** power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
}


def exact(text: str | int | float) -> Fraction:
    """The amount as a fraction: "250m" → 1/4. Raises ValueError for what is no quantity."""
    match = re.fullmatch(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))([eE][+-]?[0-9]{1,3})?([numkMGTPE]|[KMGTPE]i)?", str(text))
    if match is None or (match[2] and match[3]):
        raise ValueError(f"{text!r} is not a quantity such as 250m, 64Mi or 1e3")
    return Fraction(match[1] + (match[2] or "")) * SUFFIXES[match[3] or ""]


def milli(text: str | int | float) -> int:
    """Thousandths, rounded up: "250m" of a CPU → 250."""
    return math.ceil(exact(text) * 1000)


def whole(text: str | int | float) -> int:
    """Units, rounded up: "64Mi" of memory → 67108864 bytes."""
    return math.ceil(exact(text))
