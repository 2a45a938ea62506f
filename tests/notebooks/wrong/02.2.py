# Answers that the check must refuse, each below its reason; those that begin with "cheat" want to pass without the work.
# %% each container has a PID namespace of its own
sleeper = {"image": node.images["busybox"], "command": ["sleep", "1000000"]}
two = [{"name": "one", **sleeper}, {"name": "two", **sleeper}]
node.start_pod({"metadata": {"name": "twins"}, "spec": {"containers": two}})
# %% there is one container only
main = {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
node.start_pod({"metadata": {"name": "twins"}, "spec": {"shareProcessNamespace": True, "containers": [main]}})
# %% one of the two has ended
sleeper = {"name": "one", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
two = [sleeper, {**sleeper, "name": "two", "command": ["true"]}]
twins = node.start_pod({"metadata": {"name": "twins"}, "spec": {"shareProcessNamespace": True, "containers": two}})
node.wait_exit(twins.container("two").id)
# %% step 2 with a Pod that shares nothing
sleeper = {"image": node.images["busybox"], "command": ["sleep", "1000000"]}
two = [{"name": "one", **sleeper}, {"name": "two", **sleeper}]
twins = node.start_pod({"metadata": {"name": "twins"}, "spec": {"containers": two}})
node.kill(next(p.pid for p in twins.processes if p.role == "pause"), 9)
node.wait_not_ready(twins.id)
# %% cheat: all processes of the node share one
sleeper = {"image": node.images["busybox"], "command": ["sleep", "1000000"]}
two = [{"name": "one", **sleeper}, {"name": "two", **sleeper}]
node.start_pod({"metadata": {"name": "twins"}, "spec": {"hostPID": True, "containers": two}})
# %% cheat: the sandbox was stopped
sleeper = {"image": node.images["busybox"], "command": ["sleep", "1000000"]}
two = [{"name": "one", **sleeper}, {"name": "two", **sleeper}]
twins = node.start_pod({"metadata": {"name": "twins"}, "spec": {"shareProcessNamespace": True, "containers": two}})
node.cri.stop_pod_sandbox(pod_sandbox_id=twins.id)
# %% step 1 only
sleeper = {"image": node.images["busybox"], "command": ["sleep", "1000000"]}
two = [{"name": "one", **sleeper}, {"name": "two", **sleeper}]
node.start_pod({"metadata": {"name": "twins"}, "spec": {"shareProcessNamespace": True, "containers": two}})
# %% cheat: containers that share nothing in a sandbox that says they do, and each process killed by hand
sleeper = {"image": node.images["busybox"], "command": ["sleep", "1000000"]}
alone = node.manifest({"metadata": {"name": "twins"}, "spec": {"containers": [{"name": n, **sleeper} for n in ("one", "two")]}})
shared = {**alone, "spec": {**alone["spec"], "shareProcessNamespace": True}}
config = node.sandbox_config(shared)
made = {"pod_sandbox_id": node.cri.run_pod_sandbox(config=config).pod_sandbox_id, "sandbox_config": config}
for name in ("one", "two"):
    container = node.cri.create_container(config=node.container_config(alone, name), **made)
    node.cri.start_container(container_id=container.container_id)
twins = node.pod("twins")
for victim in sorted((p for p in twins.processes if p.role != "shim"), key=lambda p: p.role == "pause"):
    node.kill(victim.pid, 9)
node.wait_not_ready(twins.id)
for each in twins.containers:
    node.wait_exit(each.id)
