# Answers that the check must refuse, each below its reason.
# %% the Pod has a network of its own
node.start_pod(
    {
        "metadata": {"name": "window"},
        "spec": {"containers": [{"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}]},
    }
)
# %% it shares the host's IPC namespace, too
node.start_pod(
    {
        "metadata": {"name": "window"},
        "spec": {
            "hostNetwork": True,
            "hostIPC": True,
            "containers": [{"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}],
        },
    }
)
