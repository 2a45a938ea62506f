"""Figures of plain data: kernel snapshots and Pods in, pictures with alternative text out. Never calls a node.

A line here exports a figure, as `labkit.views.NAME` and as `labkit.NAME`.
"""

from labkit.views.availability import availability as availability
from labkit.views.bundle import bundle as bundle
from labkit.views.call_chain import call_chain as call_chain
from labkit.views.capacity import capacity as capacity
from labkit.views.cgroup_tree import cgroup_tree as cgroup_tree
from labkit.views.event_log import event_log as event_log
from labkit.views.field_map import field_map as field_map
from labkit.views.history import history as history
from labkit.views.layers import Layer as Layer
from labkit.views.layers import layers as layers
from labkit.views.namespace_matrix import namespace_matrix as namespace_matrix
from labkit.views.pod_lifecycle import pod_lifecycle as pod_lifecycle
from labkit.views.process_tree import process_tree as process_tree
from labkit.views.rpc_catalogue import rpc_catalogue as rpc_catalogue
from labkit.views.shims import shims as shims
