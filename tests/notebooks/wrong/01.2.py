# Answers that the check must refuse, each below its reason.
# %% the container was started once
again = node.start_pod(
    {
        "metadata": {"name": "again"},
        "spec": {"containers": [{"name": "once", "image": node.images["busybox"], "command": ["true"]}]},
    }
)
node.wait_exit(again.container("once").id)
# %% attempt 1 is created and not started
again = node.manifest(
    {
        "metadata": {"name": "again"},
        "spec": {"containers": [{"name": "once", "image": node.images["busybox"], "command": ["true"]}]},
    }
)
sandbox = node.start_pod(again).id
second = node.container_config(again, "once", attempt=1)
node.cri.create_container(pod_sandbox_id=sandbox, config=second, sandbox_config=node.sandbox_config(again))
