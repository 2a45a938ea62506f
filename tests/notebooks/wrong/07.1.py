# Answers that the check must refuse, each below its reason.
# %% nobody starts a container again
for name in ("once", "stubborn"):
    node.start_pod(
        {
            "metadata": {"name": name},
            "spec": {"containers": [{"name": "main", "image": node.images["busybox"], "command": ["sh", "-c", "exit 3"]}]},
        }
    )
    node.wait_exit(node.pod(name).container("main").id)
