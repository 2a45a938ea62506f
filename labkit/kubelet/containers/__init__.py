"""One container: its configuration, hooks and probes."""
