# Answers that the check must refuse, each below its reason; those that begin with "cheat" want to pass without the work.
# %% it requests all, and has no limits: Burstable
free = next(r.free for r in node.cluster.capacity() if r.name == "cpu")
app = {"name": "app", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
app["resources"] = {"requests": {"cpu": f"{free}m", "memory": "16Mi"}}
spec = {"containers": [app], "terminationGracePeriodSeconds": 1}
node.cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "exact"}, "spec": spec})
node.cluster.wait_status("exact", "Running")
# %% it asks for more than is free
free = next(r.free for r in node.cluster.capacity() if r.name == "cpu")
app = {"name": "app", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
app["resources"] = {"limits": {"cpu": f"{free + 1}m", "memory": "16Mi"}}
spec = {"containers": [app], "terminationGracePeriodSeconds": 1}
node.cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "exact"}, "spec": spec})
node.cluster.wait_event("exact", "FailedScheduling")
# %% some CPU is left
free = next(r.free for r in node.cluster.capacity() if r.name == "cpu")
app = {"name": "app", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
app["resources"] = {"limits": {"cpu": f"{free - 1}m", "memory": "16Mi"}}
spec = {"containers": [app], "terminationGracePeriodSeconds": 1}
node.cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "exact"}, "spec": spec})
node.cluster.wait_status("exact", "Running")
# %% cheat: another Pod takes the rest
free = next(r.free for r in node.cluster.capacity() if r.name == "cpu")
app = {"name": "app", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
for name, cpu in (("exact", 100), ("filler", free - 100)):
    app["resources"] = {"limits": {"cpu": f"{cpu}m", "memory": "16Mi"}}
    spec = {"containers": [app], "terminationGracePeriodSeconds": 1}
    node.cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
    node.cluster.wait_status(name, "Running")
