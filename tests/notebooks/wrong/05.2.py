# Answers that the check must refuse, each below its reason.
# %% it runs another program
node.cluster.delete("worker")
node.cluster.apply(
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "worker"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}],
        },
    }
)
node.cluster.wait_status("worker", "Running")
