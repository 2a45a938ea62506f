# Right answers in another form than the solution's, each below what is unusual about it.
# %% three containers, and the pause gets SIGTERM
sleeper = {"image": node.images["busybox"], "command": ["sleep", "1000000"]}
three = [{"name": name, **sleeper} for name in ("one", "two", "three")]
twins = node.start_pod({"metadata": {"name": "twins"}, "spec": {"shareProcessNamespace": True, "containers": three}})
node.kill(next(p.pid for p in twins.processes if p.role == "pause"), 15)
node.wait_not_ready(twins.id)
for each in twins.containers:
    node.wait_exit(each.id)
