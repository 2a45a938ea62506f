# Answers that the check must refuse, each below its reason; those that begin with "cheat" want to pass without the work.
# %% the Pod has another name
sleeper = {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
node.start_pod({"metadata": {"name": "first"}, "spec": {"containers": [sleeper]}})
# %% it runs something else than sleep
server = {"name": "main", "image": node.images["busybox"], "command": ["httpd", "-f"]}
node.start_pod({"metadata": {"name": "mine"}, "spec": {"containers": [server]}})
# %% its program has ended
done = {"name": "main", "image": node.images["busybox"], "command": ["true"]}
mine = node.start_pod({"metadata": {"name": "mine"}, "spec": {"containers": [done]}})
node.wait_exit(mine.container("main").id)
# %% a sandbox and no container
mine = node.manifest({"metadata": {"name": "mine"}, "spec": {"containers": [{"name": "main", "image": node.images["busybox"]}]}})
node.cri.run_pod_sandbox(config=node.sandbox_config(mine))
# %% cheat: the word sleep is an argument of another program
server = {"name": "main", "image": node.images["busybox"], "command": ["sh", "-c", "httpd -f; true", "sleep"]}
node.start_pod({"metadata": {"name": "mine"}, "spec": {"containers": [server]}})
# %% cheat: an exec has brought a sleep into a Pod that runs something else
server = {"name": "main", "image": node.images["busybox"], "command": ["httpd", "-f", "-p", "8080"]}
mine = node.start_pod({"metadata": {"name": "mine"}, "spec": {"containers": [server]}})
node.cri.exec_sync(container_id=mine.container("main").id, cmd=["sh", "-c", "sleep 1000000 >/dev/null 2>&1 &"])
# %% cheat: sleep is the name of a file that another program looks for
server = {"name": "main", "image": node.images["busybox"], "command": ["tail", "sleep", "-f", "/etc/hosts"]}
node.start_pod({"metadata": {"name": "mine"}, "spec": {"containers": [server]}})
