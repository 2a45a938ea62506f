node.start_pod({
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "window"},
    "spec": {
        "hostNetwork": True,
        "containers": [{"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}],
    },
})
