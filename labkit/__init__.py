"""labkit: a real container runtime to learn with.

The names that a notebook imports. `labkit.connect()` gives a Node; the figures draw what it returns.
"""

from __future__ import annotations

from labkit.course import check, predict
from labkit.cri import CriError, ManifestError, to_yaml
from labkit.node import Node, NodeError, connect
from labkit.pods import PodSnapshot
from labkit.views import namespace_matrix, process_tree

__all__ = [
    "CriError",
    "ManifestError",
    "Node",
    "NodeError",
    "PodSnapshot",
    "check",
    "connect",
    "namespace_matrix",
    "predict",
    "process_tree",
    "to_yaml",
]
