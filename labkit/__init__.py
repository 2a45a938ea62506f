"""labkit: a real container runtime to learn with.

The names that a notebook imports. `labkit.connect()` gives a Node; the figures draw what it returns.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.course import break_pods, check, predict_order, wait_until
    from labkit.course.predict import predict
    from labkit.cri import CriError, ManifestError, to_yaml
    from labkit.load import Load, Moment
    from labkit.node import Node, NodeError, connect
    from labkit.pods import PodSnapshot
    from labkit.views import (
        Layer,
        availability,
        bundle,
        call_chain,
        capacity,
        cgroup_tree,
        event_log,
        field_map,
        history,
        layers,
        namespace_matrix,
        pod_lifecycle,
        process_tree,
        rpc_catalogue,
        shims,
    )

__all__ = [
    "CriError",
    "Layer",
    "Load",
    "ManifestError",
    "Moment",
    "Node",
    "NodeError",
    "PodSnapshot",
    "availability",
    "break_pods",
    "bundle",
    "call_chain",
    "capacity",
    "cgroup_tree",
    "check",
    "connect",
    "event_log",
    "field_map",
    "history",
    "layers",
    "namespace_matrix",
    "pod_lifecycle",
    "predict",
    "predict_order",
    "process_tree",
    "rpc_catalogue",
    "shims",
    "to_yaml",
    "wait_until",
]

_ROOMS = ("course", "cri", "load", "node", "pods", "views")
"""Where those names live. They are imported when the first is asked for: the API's process, which asks for none, is half as large
without gRPC and pyroute2."""


def __getattr__(name: str) -> Any:
    if name in __all__:
        for room in _ROOMS:
            value = getattr(import_module(f"labkit.{room}"), name, None)
            if value is not None and not isinstance(value, ModuleType):  # a room may have a module of the name of a figure
                globals()[name] = value
                return value
    raise AttributeError(f"module 'labkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
