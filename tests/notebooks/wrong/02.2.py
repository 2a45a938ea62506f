# Answers that the check must refuse, each below its reason.
# %% each container has a PID namespace of its own
node.start_pod(
    {
        "metadata": {"name": "twins"},
        "spec": {
            "containers": [
                {"name": "one", "image": node.images["busybox"], "command": ["sleep", "1000000"]},
                {"name": "two", "image": node.images["busybox"], "command": ["sleep", "1000000"]},
            ]
        },
    }
)
# %% there is one container only
node.start_pod(
    {
        "metadata": {"name": "twins"},
        "spec": {
            "shareProcessNamespace": True,
            "containers": [{"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}],
        },
    }
)
