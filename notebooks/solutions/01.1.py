node.start_pod({
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "told"},
    "spec": {"containers": [{
        "name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"],
        "securityContext": {"runAsUser": 1000, "readOnlyRootFilesystem": True},
        "resources": {"limits": {"memory": "32Mi"}},
    }]},
})
