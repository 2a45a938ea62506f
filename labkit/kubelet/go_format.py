"""How Go and Kubernetes write things: durations, times, a Pod's name in a message, a gRPC error."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from labkit.cri import CriError

NANOSECONDS = 1_000_000_000


def go_duration(seconds: float) -> str:
    """80 → "1m20s", 0.111 → "111ms", 1.5 → "1.5s", to the millisecond (Go's time.Duration.String)."""
    ms = round(seconds * 1000)
    if ms < 1000:
        return f"{ms}ms" if ms else "0s"
    whole, rest = divmod(ms, 60_000)
    hours, minutes = divmod(whole, 60)
    tail = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{hours}h{minutes}m{tail}" if hours else f"{minutes}m{tail}" if minutes else tail


def rfc3339(seconds: float | None = None) -> str:
    """Seconds since 1970 (default: now) as the API writes a time: UTC, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() if seconds is None else seconds))


def rfc3339_ns(nanoseconds: int) -> str:
    """Nanoseconds since 1970, as CRI has them, as the API writes a time."""
    return rfc3339(nanoseconds // NANOSECONDS)


def pod_words(pod: Mapping[str, Any]) -> str:
    """"name_namespace(uid)": how the kubelet names a Pod in messages."""
    metadata = pod["metadata"]
    return f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"


def go_code(code: str) -> str:
    """"NOT_FOUND" → "NotFound": a gRPC code's name in Go."""
    return {"OK": "OK", "CANCELLED": "Canceled"}.get(code) or "".join(part.capitalize() for part in code.split("_"))


def rpc_error(error: CriError) -> str:
    """A failed call as Go prints it."""
    return f"rpc error: code = {go_code(error.code)} desc = {error.message}"


def pull_error(error: CriError) -> str:
    """A failed pull in the kubelet's words: it drops a code that says nothing (remote_image.go)."""
    return error.message if error.code == "UNKNOWN" else rpc_error(error)


def kernel_words(error: OSError) -> str:
    """What the kernel says of a failed call, as Go prints it: "connection refused"."""
    return (error.strerror or str(error)).lower()


def os_error(error: OSError, operation: str, path: object = None) -> str:
    """A failed call of the operating system as Go prints it: "mkdir /a: file name too long" (fs.PathError). `path`: what it was
    about; the error's own file by default."""
    path = path or (os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "")
    return f"{operation}{path and ' '}{path}: {kernel_words(error)}"
