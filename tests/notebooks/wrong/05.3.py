# Answers that the check must refuse, each below its reason; those that begin with "cheat" want to pass without the work.
# %% it runs another program
main = {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
spec = {"containers": [main], "terminationGracePeriodSeconds": 1}
node.cluster.recreate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "cache"}, "spec": spec})
node.cluster.wait_status("cache", "Running")
# %% the Pod was deleted
node.cluster.delete("cache")
# %% its program ends
main = {"name": "main", "image": node.images["busybox"], "command": ["true"]}
spec = {"containers": [main], "restartPolicy": "Never", "terminationGracePeriodSeconds": 1}
node.cluster.recreate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "cache"}, "spec": spec})
node.cluster.wait_status("cache", "Completed")
# %% cheat: bound to the node by its name, past the scheduler
main = {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000002"]}
spec = {"containers": [main], "nodeName": node.cluster.node, "nodeSelector": {"labkit.disk": "fast"}}
node.cluster.recreate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "cache"}, "spec": spec})
labkit.wait_until("the kubelet has judged cache", lambda: node.cluster.status("cache") not in ("Pending", "ContainerCreating"))
