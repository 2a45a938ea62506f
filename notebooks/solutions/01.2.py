again = node.manifest({
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "again"},
    "spec": {"containers": [{"name": "once", "image": node.images["busybox"], "command": ["true"]}]},
})
sandbox = node.start_pod(again).id
node.wait_exit(node.pod(again).container("once").id)

second = node.container_config(again, "once", attempt=1)
made = node.cri.create_container(pod_sandbox_id=sandbox, config=second, sandbox_config=node.sandbox_config(again))
node.cri.start_container(container_id=made.container_id)
