# Answers that the check must refuse, each below its reason.
# %% another Pod of the name, without the Secret
node.cluster.delete("api")
node.cluster.apply(
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "api"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": node.images["busybox"], "command": ["httpd", "-f", "-p", "8080"]}],
        },
    }
)
node.cluster.wait_status("api", "Running")
