sleeper = {"image": node.images["busybox"], "command": ["sleep", "1000000"]}
duo = node.start_pod({
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "duo"},
    "spec": {"containers": [{"name": "one", **sleeper}, {"name": "two", **sleeper}]},
})
orphan = ["sh", "-c", "sleep 1000000 >/dev/null 2>&1 &"]
node.cri.exec_sync(container_id=duo.container("one").id, cmd=orphan)
