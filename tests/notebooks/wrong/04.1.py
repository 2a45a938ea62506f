# Answers that the check must refuse, each below its reason.
# %% it says nothing
node.start_pod(
    {
        "metadata": {"name": "watchman"},
        "spec": {"containers": [{"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}]},
    }
)
# %% it says away all the time
node.start_pod(
    {
        "metadata": {"name": "watchman"},
        "spec": {
            "containers": [
                {
                    "name": "main",
                    "image": node.images["busybox"],
                    "command": ["sh", "-c", "while true; do echo away; sleep 0.2; done"],
                }
            ]
        },
    }
)
