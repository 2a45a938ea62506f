sleeper = {"image": node.images["busybox"], "command": ["sleep", "1000000"]}
with node.record() as mine:
    node.start_pod({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "duo"},
        "spec": {"containers": [{"name": "one", **sleeper}, {"name": "two", **sleeper}]},
    })
