"""The kubelet's server: logs, exec, attach, port-forward, statistics."""
