sleeper = {"image": node.images["busybox"], "command": ["sleep", "1000000"]}
family = node.start_pod({
    "kind": "Pod", "metadata": {"name": "family"},
    "spec": {"shareProcessNamespace": True, "containers": [{"name": "one", **sleeper}, {"name": "two", **sleeper}]},
})
