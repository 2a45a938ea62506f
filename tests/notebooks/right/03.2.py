# Right answers in another form than the solution's, each below what is unusual about it.
# %% the containers sleep in a shell, and what is left behind has a session of its own
sleeper = {"image": node.images["busybox"], "command": ["sh", "-c", "while true; do sleep 1000; done"]}
two = [{"name": name, **sleeper} for name in ("one", "two")]
duo = node.start_pod({"metadata": {"name": "duo"}, "spec": {"containers": two}})
orphan = ["sh", "-c", "setsid sleep 1000005 >/dev/null 2>&1 &"]
node.cri.exec_sync(container_id=duo.container("two").id, cmd=orphan)
# %% a server that goes into the background by itself
sleeper = {"image": node.images["busybox"], "command": ["sh", "-c", "sleep 1000000"]}
two = [{"name": name, **sleeper} for name in ("one", "two")]
duo = node.start_pod({"metadata": {"name": "duo"}, "spec": {"containers": two}})
node.cri.exec_sync(container_id=duo.container("one").id, cmd=["httpd", "-p", "8080"])
