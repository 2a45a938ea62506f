# Answers that the check must refuse, each below its reason.
# %% the limit is 32 MB, not 32 MiB
node.start_pod(
    {
        "metadata": {"name": "told"},
        "spec": {
            "containers": [
                {
                    "name": "main",
                    "image": node.images["busybox"],
                    "command": ["sleep", "1000000"],
                    "securityContext": {"runAsUser": 1000, "readOnlyRootFilesystem": True},
                    "resources": {"limits": {"memory": "32M"}},
                }
            ]
        },
    }
)
# %% the root file system can be written to
node.start_pod(
    {
        "metadata": {"name": "told"},
        "spec": {
            "containers": [
                {
                    "name": "main",
                    "image": node.images["busybox"],
                    "command": ["sleep", "1000000"],
                    "securityContext": {"runAsUser": 1000},
                    "resources": {"limits": {"memory": "32Mi"}},
                }
            ]
        },
    }
)
# %% it runs as root
node.start_pod(
    {
        "metadata": {"name": "told"},
        "spec": {
            "containers": [
                {
                    "name": "main",
                    "image": node.images["busybox"],
                    "command": ["sleep", "1000000"],
                    "securityContext": {"readOnlyRootFilesystem": True},
                    "resources": {"limits": {"memory": "32Mi"}},
                }
            ]
        },
    }
)
# %% the memory is requested, and has no limit
node.start_pod(
    {
        "metadata": {"name": "told"},
        "spec": {
            "containers": [
                {
                    "name": "main",
                    "image": node.images["busybox"],
                    "command": ["sleep", "1000000"],
                    "securityContext": {"runAsUser": 1000, "readOnlyRootFilesystem": True},
                    "resources": {"requests": {"memory": "32Mi"}},
                }
            ]
        },
    }
)
