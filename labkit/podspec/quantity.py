"""Amounts as Kubernetes writes them ("250m", "64Mi", "1e3", 2): read exactly, refused in its words, and written back.

Knowledge: apimachinery's resource.Quantity (ParseQuantity, CanonicalizeBytes).
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import lru_cache

DECIMAL = ("n", "u", "m", "", "k", "M", "G", "T", "P", "E")
BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
SUFFIXES = {
    **{suffix: Fraction(1000) ** power for power, suffix in enumerate(DECIMAL, -3)},
    **{suffix: Fraction(1024) ** power for power, suffix in enumerate(BINARY)},
}
NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
LONGEST = 400
"""Characters of an amount, and three digits of an exponent: what is longer would take for ever to compute."""
FORMAT_WORDS = r"quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
SUFFIX_WORDS = "unable to parse quantity's suffix"
NUMERIC_WORDS = "unable to parse numeric part of quantity"


def exact(text: str | int | float) -> Fraction:
    """The amount as a fraction: "250m" → 1/4. Raises ValueError for what is no quantity."""
    text = str(text)
    match = re.fullmatch(rf"({NUMBER})([eE][+-]?[0-9]{{1,3}})?([numkMGTPE]|[KMGTPE]i)?", text, re.ASCII)
    if match is None or (match[2] and match[3]) or len(text) > LONGEST:
        raise ValueError(f"{text[:LONGEST]!r} is not a quantity such as 250m, 64Mi or 1e3")
    return Fraction(match[1] + (match[2] or "")) * SUFFIXES[match[3] or ""]


def milli(text: str | int | float) -> int:
    """Thousandths, rounded up: "250m" of a CPU → 250."""
    return math.ceil(exact(text) * 1000)


def whole(text: str | int | float) -> int:
    """Units, rounded up: "64Mi" of memory → 67108864 bytes."""
    return math.ceil(exact(text))


@lru_cache(maxsize=1024)
def problem(text: str) -> str | None:
    """Why `text` is no amount, in Kubernetes' words; None if it is one."""
    match = re.fullmatch(r"([+-]?[0-9.]*)([eEinumkKMGTP]*[-+]?[0-9]*)", text)
    if not text or match is None:
        return FORMAT_WORDS
    try:
        exact(text)
    except ValueError:
        return SUFFIX_WORDS if re.fullmatch(NUMBER, match[1]) else NUMERIC_WORDS
    return None


@lru_cache(maxsize=1024)
def canonical(text: str) -> str:
    """The amount as Kubernetes stores it ("0.5" → "500m", "1024Mi" → "1Gi"). Raises ValueError for what is no amount."""
    amount = exact(text)
    if text[-1:] == "i" and abs(amount) >= 1024:
        return _scaled(Fraction(math.ceil(amount)), 1024, BINARY, 0)
    amount = Fraction(math.ceil(amount * 10**9), 10**9)
    if not re.search(r"[eE][+-]?[0-9]+$", text):
        return _scaled(amount, 1000, DECIMAL, -3)
    return _scaled(amount, 1000, tuple(f"e{3 * power}" if power else "" for power in range(-3, 340)), -3)


def binary(amount: int) -> str:
    """Bytes as Kubernetes writes them: 67108864 → "64Mi"."""
    return _scaled(Fraction(amount), 1024, BINARY, 0)


def millicores(amount: int) -> str:
    """CPU as Kubernetes writes it: 2000 → "2", 1800 → "1800m"."""
    return canonical(f"{amount}m")


def _scaled(amount: Fraction, base: int, suffixes: tuple[str, ...], lowest: int) -> str:
    """The whole number with the largest suffix."""
    if not amount:
        return "0"
    power = lowest
    amount /= Fraction(base) ** lowest
    while power - lowest + 1 < len(suffixes) and not amount % base:
        amount, power = amount / base, power + 1
    return f"{amount.numerator}{suffixes[power - lowest]}"
