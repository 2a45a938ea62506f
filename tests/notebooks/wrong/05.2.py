# Answers that the check must refuse, each below its reason; those that begin with "cheat" want to pass without the work.
# %% it runs another program
main = {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
spec = {"containers": [main], "terminationGracePeriodSeconds": 1}
node.cluster.recreate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "worker"}, "spec": spec})
node.cluster.wait_status("worker", "Running")
# %% the Pod was deleted
node.cluster.delete("worker")
# %% another name that the registry does not have
absent = f"{node.images['busybox']}x"
node.cluster.kubectl("set", "image", "pod/worker", f"main={absent}")
assert labkit.within(60, lambda: any(e.reason == "Failed" and absent in e.message for e in node.cluster.events("worker")))
# %% cheat: its own program beside another
command = ["sh", "-c", "sleep 1000001 & exec sleep 1000003"]
main = {"name": "main", "image": node.images["busybox"], "command": command}
spec = {"containers": [main], "terminationGracePeriodSeconds": 1}
node.cluster.recreate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "worker"}, "spec": spec})
node.cluster.wait_status("worker", "Running")
