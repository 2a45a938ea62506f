# Answers that the check must refuse, each below its reason; those that begin with "cheat" want to pass without the work.
# %% there is one container only
main = {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
node.start_pod({"metadata": {"name": "duo"}, "spec": {"containers": [main]}})
# %% the second container has ended
one = {"name": "one", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
duo = node.start_pod({"metadata": {"name": "duo"}, "spec": {"containers": [one, {**one, "name": "two", "command": ["true"]}]}})
node.wait_exit(duo.container("two").id)
# %% the second container was created and not started
one = {"name": "one", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
duo = node.manifest({"metadata": {"name": "duo"}, "spec": {"containers": [one, {**one, "name": "two"}]}})
node.cri.run_pod_sandbox(config=node.sandbox_config(duo))
sandbox = {"pod_sandbox_id": node.pod(duo).id, "sandbox_config": node.sandbox_config(duo)}
made = [node.cri.create_container(config=node.container_config(duo, name), **sandbox) for name in ("one", "two")]
node.cri.start_container(container_id=made[0].container_id)
# %% cheat: one container with two programs
main = {"name": "main", "image": node.images["busybox"], "command": ["sh", "-c", "sleep 1000000 & sleep 1000001; true"]}
init = {"name": "two", "image": node.images["busybox"], "command": ["true"]}
node.start_pod({"metadata": {"name": "duo"}, "spec": {"initContainers": [init], "containers": [main]}})
