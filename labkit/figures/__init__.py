"""Figures of plain data: kernel snapshots and Pods in, pictures with alternative text out. Never calls a node.

A line here exports a figure, as `labkit.figures.NAME` and as `labkit.NAME`.
"""

from labkit.figures.contract.field_map import field_map as field_map
from labkit.figures.contract.rpc_catalogue import rpc_catalogue as rpc_catalogue
from labkit.figures.flight.call_chain import call_chain as call_chain
from labkit.figures.flight.pod_lifecycle import pod_lifecycle as pod_lifecycle
from labkit.figures.flight.timeline import flight_timeline as _flight_timeline  # noqa: F401  # it draws Flight.plot()
from labkit.figures.namespaces.matrix import namespace_matrix as namespace_matrix
from labkit.figures.pods.capacity import capacity as capacity
from labkit.figures.pods.cgroup_tree import cgroup_tree as cgroup_tree
from labkit.figures.pods.event_log import event_log as event_log
from labkit.figures.pods.process_tree import process_tree as process_tree
from labkit.figures.runtime.bundle import bundle as bundle
from labkit.figures.runtime.history import history as history
from labkit.figures.runtime.layers import Layer as Layer
from labkit.figures.runtime.layers import layers as layers
from labkit.figures.runtime.requests_over_time import availability as availability
from labkit.figures.runtime.shim_holds import shims as shims
