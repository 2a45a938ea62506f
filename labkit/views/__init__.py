"""Figures of plain data: kernel snapshots and Pods in, pictures with alternative text out. Never calls a node."""

from labkit.views.figure import Figure
from labkit.views.namespace_matrix import namespace_matrix
from labkit.views.process_tree import process_tree
from labkit.views.style import theme

__all__ = ["Figure", "namespace_matrix", "process_tree", "theme"]
