# Answers that the check must refuse, each below its reason.
# %% the Pod has another name
node.start_pod(
    {
        "metadata": {"name": "first"},
        "spec": {"containers": [{"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}]},
    }
)
# %% it runs something else than sleep
node.start_pod(
    {
        "metadata": {"name": "mine"},
        "spec": {"containers": [{"name": "main", "image": node.images["busybox"], "command": ["httpd", "-f"]}]},
    }
)
