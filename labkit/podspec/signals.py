"""The signals that stop a container: Kubernetes writes SIGRTMIN+1, CRI's api.proto SIGRTMINPLUS1.

Knowledge: pkg/apis/core/types.go (Signal), pkg/apis/core/validation (supportedStopSignalsLinux, supportedStopSignalsWindows).
"""

from __future__ import annotations

from collections.abc import Sequence


def to_cri(name: str | None) -> str:
    """CRI's name of a signal; that of the runtime's default where there is none."""
    return name.replace("+", "PLUS").replace("-", "MINUS") if name else "RUNTIME_DEFAULT"


def of_cri(name: str) -> str:
    """Kubernetes' name of a signal of CRI; "" for the runtime's default."""
    return "" if name == "RUNTIME_DEFAULT" else name.replace("PLUS", "+").replace("MINUS", "-")


def stop_signals(os: str) -> Sequence[str]:
    """Those that a container may ask for in a Pod of an operating system."""
    if os == "windows":
        return "SIGKILL", "SIGTERM"
    from labkit.cri.v1 import api_pb2  # the API has no other need of CRI's messages, which take megabytes

    return sorted(filter(None, map(of_cri, api_pb2.Signal.keys())))
