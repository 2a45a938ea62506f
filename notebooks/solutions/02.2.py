sleeper = {"image": node.images["busybox"], "command": ["sleep", "1000000"]}
node.start_pod({
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "twins"},
    "spec": {"shareProcessNamespace": True, "containers": [{"name": "one", **sleeper}, {"name": "two", **sleeper}]},
})
