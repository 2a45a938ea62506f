sleeper = {"image": node.images["busybox"], "command": ["sleep", "1000000"]}
twins = node.start_pod({
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "twins"},
    "spec": {"shareProcessNamespace": True, "containers": [{"name": "one", **sleeper}, {"name": "two", **sleeper}]},
})

node.kill(next(p.pid for p in twins.processes if p.role == "pause"), 9)
node.wait_not_ready(twins.id)
for each in twins.containers:
    node.wait_exit(each.id)
