# Answers that the check must refuse, each below its reason; those that begin with "cheat" want to pass without the work.
# %% another Pod of the name, without the Secret
main = {"name": "main", "image": node.images["busybox"], "command": ["httpd", "-f", "-p", "8080"]}
spec = {"containers": [main], "terminationGracePeriodSeconds": 1}
node.cluster.recreate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "api"}, "spec": spec})
node.cluster.wait_status("api", "Running")
# %% the Secret is optional now, and not there
main = {"name": "main", "image": node.images["busybox"], "command": ["httpd", "-f", "-p", "8080"]}
main["volumeMounts"] = [{"name": "key", "mountPath": "/etc/key"}]
volumes = [{"name": "key", "secret": {"secretName": "api-key-05", "optional": True}}]
spec = {"containers": [main], "volumes": volumes, "terminationGracePeriodSeconds": 1}
node.cluster.recreate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "api"}, "spec": spec})
node.cluster.wait_status("api", "Running")
# %% the Pod was deleted
node.cluster.delete("api")
# %% the Secret has another name
node.cluster.kubectl("create", "secret", "generic", "api-key", "--from-literal=key=1")
node.cluster.kubectl("label", "secret", "api-key", "labkit.lesson=05")
main = {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
main["volumeMounts"] = [{"name": "key", "mountPath": "/etc/key"}]
volumes = [{"name": "key", "secret": {"secretName": "api-key"}}]
spec = {"containers": [main], "volumes": volumes, "terminationGracePeriodSeconds": 1}
node.cluster.recreate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "api"}, "spec": spec})
node.cluster.wait_status("api", "Running")
# %% cheat: an empty Secret
main = {"name": "main", "image": node.images["busybox"], "command": ["httpd", "-f", "-p", "8080"]}
main["volumeMounts"] = [{"name": "key", "mountPath": "/etc/key"}]
volumes = [{"name": "key", "secret": {"secretName": "api-key-05"}}]
spec = {"containers": [main], "volumes": volumes, "terminationGracePeriodSeconds": 1}
node.cluster.kubectl("create", "secret", "generic", "api-key-05")
node.cluster.recreate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "api"}, "spec": spec})
node.cluster.wait_status("api", "Running")
# %% the Secret is mounted into another container
main = {"name": "main", "image": node.images["busybox"], "command": ["httpd", "-f", "-p", "8080"]}
mounts = [{"name": "key", "mountPath": "/etc/key"}]
side = {"name": "side", "image": node.images["busybox"], "command": ["sleep", "1000000"], "volumeMounts": mounts}
volumes = [{"name": "key", "secret": {"secretName": "api-key-05"}}]
spec = {"containers": [main, side], "volumes": volumes, "terminationGracePeriodSeconds": 1}
node.cluster.kubectl("create", "secret", "generic", "api-key-05", "--from-literal=key=1")
node.cluster.recreate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "api"}, "spec": spec})
node.cluster.wait_status("api", "Running")
# %% the Secret's files are where the program does not look
main = {"name": "main", "image": node.images["busybox"], "command": ["httpd", "-f", "-p", "8080"]}
main["volumeMounts"] = [{"name": "key", "mountPath": "/tmp/key"}]
volumes = [{"name": "key", "secret": {"secretName": "api-key-05"}}]
spec = {"containers": [main], "volumes": volumes, "terminationGracePeriodSeconds": 1}
node.cluster.kubectl("create", "secret", "generic", "api-key-05", "--from-literal=key=1")
node.cluster.recreate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "api"}, "spec": spec})
node.cluster.wait_status("api", "Running")
