"""How Kubernetes writes an amount back ("0.5" → "500m", "1024Mi" → "1Gi") and why it refuses one.

Knowledge: apimachinery's resource.Quantity (ParseQuantity, CanonicalizeBytes).
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import lru_cache

from labkit.kubeapi.quantity import exact

FORMAT_WORDS = r"quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
SUFFIX_WORDS = "unable to parse quantity's suffix"
NUMERIC_WORDS = "unable to parse numeric part of quantity"
DECIMAL = ("n", "u", "m", "", "k", "M", "G", "T", "P", "E")
BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


@lru_cache(maxsize=1024)
def problem(text: str) -> str | None:
    """Why `text` is no amount, in Kubernetes' words; None if it is one."""
    match = re.fullmatch(r"([+-]?[0-9.]*)([eEinumkKMGTP]*[-+]?[0-9]*)", text)
    if not text or match is None:
        return FORMAT_WORDS
    try:
        exact(text)
    except (ValueError, ZeroDivisionError):
        return SUFFIX_WORDS if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)", match[1]) else NUMERIC_WORDS
    return None


@lru_cache(maxsize=1024)
def canonical(text: str) -> str:
    """The amount as Kubernetes stores it. Raises ValueError for what is no amount."""
    amount = exact(text)
    if text[-1:] == "i" and abs(amount) >= 1024:
        return _scaled(Fraction(math.ceil(amount)), 1024, BINARY, 0)
    exponent = bool(re.search(r"[eE][+-]?[0-9]+$", text))
    amount = Fraction(math.ceil(amount * 10**9), 10**9)
    if not exponent:
        return _scaled(amount, 1000, DECIMAL, -3)
    digits = _scaled(amount, 1000, tuple(f"e{3 * power}" if power else "" for power in range(-3, 340)), -3)
    return digits


def _scaled(amount: Fraction, base: int, suffixes: tuple[str, ...], lowest: int) -> str:
    """The whole number with the largest suffix."""
    if not amount:
        return "0"
    power = lowest
    amount /= Fraction(base) ** lowest
    while power - lowest + 1 < len(suffixes) and not amount % base:
        amount, power = amount / base, power + 1
    return f"{amount.numerator}{suffixes[power - lowest]}"
