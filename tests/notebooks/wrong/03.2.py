# Answers that the check must refuse, each below its reason.
# %% nothing was run in the Pod
node.start_pod(
    {
        "metadata": {"name": "duo"},
        "spec": {
            "containers": [
                {"name": "one", "image": node.images["busybox"], "command": ["sleep", "1000000"]},
                {"name": "two", "image": node.images["busybox"], "command": ["sleep", "1000000"]},
            ]
        },
    }
)
# %% the command has ended and left nothing
node.start_pod(
    {
        "metadata": {"name": "duo"},
        "spec": {
            "containers": [
                {"name": "one", "image": node.images["busybox"], "command": ["sleep", "1000000"]},
                {"name": "two", "image": node.images["busybox"], "command": ["sleep", "1000000"]},
            ]
        },
    }
)
node.cri.exec_sync(container_id=node.pod("duo").container("one").id, cmd=["true"])
