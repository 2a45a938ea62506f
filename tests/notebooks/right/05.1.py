# Right answers in another form than the solution's, each below what is unusual about it.
# %% a projected volume, and a second container
main = {"name": "main", "image": node.images["busybox"], "command": ["httpd", "-f", "-p", "8080"]}
main["volumeMounts"] = [{"name": "key", "mountPath": "/etc/key"}]
side = {"name": "aside", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
volumes = [{"name": "key", "projected": {"sources": [{"secret": {"name": "api-key-05"}}]}}]
spec = {"containers": [side, main], "volumes": volumes, "terminationGracePeriodSeconds": 1}
node.cluster.kubectl("create", "secret", "generic", "api-key-05", "--from-literal=key=1")
node.cluster.recreate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "api"}, "spec": spec})
node.cluster.wait_status("api", "Running")
