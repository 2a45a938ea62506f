"""How long ago, as kubectl prints it. Knowledge: apimachinery's util/duration (HumanDuration)."""

from __future__ import annotations

from datetime import datetime, timedelta

UNKNOWN = "<unknown>"


def age(moment: str | None, now: datetime) -> str:
    """The age of an RFC 3339 moment: "68s", "4m12s", "3h"; "<unknown>" where there is none."""
    try:
        return human(now - datetime.fromisoformat(moment)) if moment else UNKNOWN
    except (TypeError, ValueError, OverflowError):
        return UNKNOWN


def human(duration: timedelta) -> str:
    """A duration in at most two units; a clock that is up to two seconds ahead counts as none."""
    seconds = int(duration.total_seconds())
    if seconds < -1:
        return "<invalid>"
    minutes, hours = seconds // 60, seconds // 3600
    days, years = hours // 24, hours // 24 // 365
    if seconds < 120:
        return f"{max(seconds, 0)}s"
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if years < 2:
        return f"{days}d"
    return _two(years, "y", days % 365, "d") if years < 8 else f"{years}y"


def _two(large: int, unit: str, small: int, small_unit: str) -> str:
    return f"{large}{unit}{small}{small_unit}" if small else f"{large}{unit}"
