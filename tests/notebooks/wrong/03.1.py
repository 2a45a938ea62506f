# Answers that the check must refuse, each below its reason.
# %% there is one container only
node.start_pod(
    {
        "metadata": {"name": "duo"},
        "spec": {"containers": [{"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}]},
    }
)
# %% the second container has ended
node.start_pod(
    {
        "metadata": {"name": "duo"},
        "spec": {
            "containers": [
                {"name": "one", "image": node.images["busybox"], "command": ["sleep", "1000000"]},
                {"name": "two", "image": node.images["busybox"], "command": ["true"]},
            ]
        },
    }
)
node.wait_exit(node.pod("duo").container("two").id)
