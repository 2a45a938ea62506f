"""labkit: a real container runtime to learn with.

The names that a notebook imports. `labkit.connect()` gives a Node; the figures draw what it returns.
"""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit import live as live
    from labkit.course import break_pods as break_pods
    from labkit.course import check as check
    from labkit.course import container_root as container_root
    from labkit.course import end_incident as end_incident
    from labkit.course import fails_at_first as fails_at_first
    from labkit.course import note as note
    from labkit.course import open_incident as open_incident
    from labkit.course import order_of_steps as order_of_steps
    from labkit.course import predict_order as predict_order
    from labkit.course import progress as progress
    from labkit.course import review as review
    from labkit.course import shared_namespaces as shared_namespaces
    from labkit.course import wait_until as wait_until
    from labkit.course import who_started as who_started
    from labkit.course import within as within
    from labkit.course.predict import predict as predict
    from labkit.cri import CriError as CriError
    from labkit.cri import to_yaml as to_yaml
    from labkit.cri.pods import PodSnapshot as PodSnapshot
    from labkit.figures import *  # noqa: F403  (every figure that views exports)
    from labkit.figures.runtime.load import Load as Load
    from labkit.figures.runtime.load import Moment as Moment
    from labkit.node import Node as Node
    from labkit.node import NodeError as NodeError
    from labkit.node import connect as connect
    from labkit.podspec import ManifestError as ManifestError

# Before gRPC begins. Its handlers of fork(2) take part in every start of a program as another user or with a preexec_fn: while
# calls are under way in other threads they crash the child, or close what the calls wait on.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

_NAMES = {
    "course": (
        "break_pods",
        "check",
        "container_root",
        "end_incident",
        "fails_at_first",
        "note",
        "open_incident",
        "order_of_steps",
        "predict",
        "predict_order",
        "progress",
        "review",
        "shared_namespaces",
        "wait_until",
        "who_started",
        "within",
    ),
    "cri": ("CriError", "to_yaml"),
    "figures.runtime.load": ("Load", "Moment"),
    "node": ("Node", "NodeError", "connect"),
    "cri.pods": ("PodSnapshot",),
    "podspec": ("ManifestError",),
}
"""Where the names live that are not figures; a figure is exported by its line in labkit/figures/__init__.py. A room is imported
when one of its names is asked for: the API's process, which asks for none, is half as large without gRPC and pyroute2."""


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return sorted([*(name for names in _NAMES.values() for name in names), *_figures()])
    if name == "live":
        return import_module("labkit.live")
    from importlib.util import find_spec  # imported late: it takes a fifth of labkit's own import

    room = next((room for room, names in _NAMES.items() if name in names), None)
    if room is None and not name.startswith("_") and not find_spec(f"labkit.{name}") and name in _figures():
        room = "figures"
    if room is None:
        raise AttributeError(f"module 'labkit' has no attribute {name!r}")
    if room == "node":
        import_module("labkit.figures")  # a recording is drawn by its `plot` and played by its `replay`: both register themselves
        import_module("labkit.live.replaying")
    value = globals()[name] = getattr(import_module(f"labkit.{room}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})


def _figures() -> list[str]:
    """The names that labkit.figures exports: its public ones that are no modules."""
    public = vars(import_module("labkit.figures")).items()
    return [name for name, value in public if not name.startswith("_") and not isinstance(value, ModuleType)]
