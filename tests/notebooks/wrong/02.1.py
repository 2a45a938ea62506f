# Answers that the check must refuse, each below its reason; those that begin with "cheat" want to pass without the work.
# %% the Pod has a network of its own
main = {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
node.start_pod({"metadata": {"name": "window"}, "spec": {"containers": [main]}})
# %% it shares another namespace of the node
main = {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
node.start_pod({"metadata": {"name": "window"}, "spec": {"hostIPC": True, "containers": [main]}})
# %% its program has ended
main = {"name": "main", "image": node.images["busybox"], "command": ["true"]}
window = node.start_pod({"metadata": {"name": "window"}, "spec": {"hostNetwork": True, "containers": [main]}})
node.wait_exit(window.container("main").id)
# %% cheat: a sandbox on the node's network, and no container in it
main = {"name": "main", "image": node.images["busybox"], "command": ["true"]}
window = node.manifest({"metadata": {"name": "window"}, "spec": {"hostNetwork": True, "containers": [main]}})
node.cri.run_pod_sandbox(config=node.sandbox_config(window))
