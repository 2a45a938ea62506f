node.start_pod({
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mine"},
    "spec": {"containers": [{"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}]},
})
