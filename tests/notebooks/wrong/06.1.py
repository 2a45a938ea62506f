# Answers that the check must refuse, each below its reason.
# %% it requests all, and has no limits: Burstable
free = next(r.free for r in node.cluster.capacity() if r.name == "cpu")
node.cluster.apply(
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "exact"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "app",
                    "image": node.images["busybox"],
                    "command": ["sleep", "1000000"],
                    "resources": {"requests": {"cpu": f"{free}m", "memory": "16Mi"}},
                }
            ],
        },
    }
)
node.cluster.wait_status("exact", "Running")
# %% it asks for more than is free
free = next(r.free for r in node.cluster.capacity() if r.name == "cpu")
node.cluster.apply(
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "exact"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "app",
                    "image": node.images["busybox"],
                    "command": ["sleep", "1000000"],
                    "resources": {"limits": {"cpu": f"{free + 1}m", "memory": "16Mi"}},
                }
            ],
        },
    }
)
node.cluster.wait_event("exact", "FailedScheduling")
# %% some CPU is left
free = next(r.free for r in node.cluster.capacity() if r.name == "cpu")
node.cluster.apply(
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "exact"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "app",
                    "image": node.images["busybox"],
                    "command": ["sleep", "1000000"],
                    "resources": {"limits": {"cpu": f"{free - 1}m", "memory": "16Mi"}},
                }
            ],
        },
    }
)
node.cluster.wait_status("exact", "Running")
