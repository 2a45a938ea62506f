# Right answers in another form than the solution's, each below what is unusual about it.
# %% busybox under its own name, beside another container
sleeper = {"name": "main", "image": node.images["busybox"], "command": ["/bin/busybox", "sleep", "1000000"]}
server = {"name": "web", "image": node.images["busybox"], "command": ["httpd", "-f", "-p", "8080"]}
node.start_pod({"metadata": {"name": "mine"}, "spec": {"containers": [server, sleeper]}})
# %% a shell that starts sleep and waits for it
sleeper = {"name": "main", "image": node.images["busybox"], "command": ["sh", "-c", "sleep 1000000; true"]}
mine = node.start_pod({"metadata": {"name": "mine"}, "spec": {"containers": [sleeper]}})
labkit.wait_until("it sleeps", lambda: [p for p in node.pod("mine").processes if p.comm == "sleep"])
# %% the Pod of an earlier run has ended
sleeper = {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
for uid in ("11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"):
    for old in [p for p in node.pods() if p.name == "mine"]:
        node.cri.stop_pod_sandbox(pod_sandbox_id=old.id)
    mine = node.manifest({"metadata": {"name": "mine", "uid": uid}, "spec": {"containers": [sleeper]}})
    config = node.sandbox_config(mine)
    made = {"pod_sandbox_id": node.cri.run_pod_sandbox(config=config).pod_sandbox_id, "sandbox_config": config}
    main = node.cri.create_container(config=node.container_config(mine, "main"), **made)
    node.cri.start_container(container_id=main.container_id)
# %% a shell that sleeps again and again
sleeper = {"name": "main", "image": node.images["busybox"], "command": ["sh", "-c", "while true; do sleep 0.2; done"]}
node.start_pod({"metadata": {"name": "mine"}, "spec": {"containers": [sleeper]}})
