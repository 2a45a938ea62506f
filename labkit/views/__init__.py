"""Figures of plain data: kernel snapshots and Pods in, pictures with alternative text out. Never calls a node."""

from labkit.views.availability import availability
from labkit.views.bundle import bundle
from labkit.views.call_chain import call_chain
from labkit.views.capacity import capacity
from labkit.views.cgroup_tree import cgroup_tree
from labkit.views.event_log import event_log
from labkit.views.field_map import field_map
from labkit.views.figure import Figure
from labkit.views.history import history
from labkit.views.layers import Layer, layers
from labkit.views.namespace_matrix import namespace_matrix
from labkit.views.pod_lifecycle import pod_lifecycle
from labkit.views.process_tree import process_tree
from labkit.views.rpc_catalogue import rpc_catalogue
from labkit.views.shims import shims
from labkit.views.style import theme

__all__ = [
    "Figure",
    "Layer",
    "availability",
    "bundle",
    "call_chain",
    "capacity",
    "cgroup_tree",
    "event_log",
    "field_map",
    "history",
    "layers",
    "namespace_matrix",
    "pod_lifecycle",
    "process_tree",
    "rpc_catalogue",
    "shims",
    "theme",
]
