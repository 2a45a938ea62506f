free = next(r.free for r in node.cluster.capacity() if r.name == "cpu")
limits = {"cpu": f"{free}m", "memory": "16Mi"}
node.cluster.apply({
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "exact"},
    "spec": {"containers": [{"name": "app", "image": node.images["busybox"], "command": ["sleep", "1000000"],
                             "resources": {"limits": limits}}]},
})
node.cluster.wait_status("exact", "Running")
