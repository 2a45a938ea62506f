# Answers that the check must refuse, each below its reason; those that begin with "cheat" want to pass without the work.
# %% nobody starts a container again
for name, script in (("once", "exit 3"), ("stubborn", "exit 3"), ("content", "exit 0")):
    main = {"name": "main", "image": node.images["busybox"], "command": ["sh", "-c", script]}
    node.wait_exit(node.start_pod({"metadata": {"name": name}, "spec": {"containers": [main]}}).container("main").id)
# %% every container is started again, whatever its policy
for name, script in (("once", "exit 3"), ("stubborn", "exit 3"), ("content", "exit 0")):
    main = {"name": "main", "image": node.images["busybox"], "command": ["sh", "-c", script]}
    pod = node.manifest({"metadata": {"name": name}, "spec": {"containers": [main]}})
    sandbox = node.start_pod(pod)
    node.wait_exit(sandbox.container("main").id)
    config = {"config": node.container_config(pod, "main", attempt=1), "sandbox_config": node.sandbox_config(pod)}
    made = node.cri.create_container(pod_sandbox_id=sandbox.id, **config).container_id
    node.cri.start_container(container_id=made)
    node.wait_exit(made)
# %% a program that does not end
main = {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
node.start_pod({"metadata": {"name": "once"}, "spec": {"containers": [main]}})
# %% a program that ends otherwise
main = {"name": "main", "image": node.images["busybox"], "command": ["sh", "-c", "exit 1"]}
node.wait_exit(node.start_pod({"metadata": {"name": "once"}, "spec": {"containers": [main]}}).container("main").id)
# %% cheat: a decide that reads the policy and never an exit code
for name, script, attempts in (("once", "exit 3", 1), ("stubborn", "exit 3", 2), ("content", "exit 0", 2)):
    main = {"name": "main", "image": node.images["busybox"], "command": ["sh", "-c", script]}
    pod = node.manifest({"metadata": {"name": name}, "spec": {"containers": [main]}})
    sandbox = node.start_pod(pod)
    node.wait_exit(sandbox.container("main").id)
    for attempt in range(1, attempts):
        config = {"config": node.container_config(pod, "main", attempt=attempt), "sandbox_config": node.sandbox_config(pod)}
        made = node.cri.create_container(pod_sandbox_id=sandbox.id, **config).container_id
        node.cri.start_container(container_id=made)
        node.wait_exit(made)
# %% cheat: a decide that knows the Pods by their names, and starts moody again always
moody = labkit.fails_at_first()
for name, command, attempts in (
    ("once", ["sh", "-c", "exit 3"], 1), ("stubborn", ["sh", "-c", "exit 3"], 2), ("content", ["true"], 1), ("moody", moody, 7)
):  # fmt: skip
    main = {"name": "main", "image": node.images["busybox"], "command": command}
    pod = node.manifest({"metadata": {"name": name}, "spec": {"containers": [main]}})
    sandbox = node.start_pod(pod)
    node.wait_exit(sandbox.container("main").id)
    for attempt in range(1, attempts):
        config = {"config": node.container_config(pod, "main", attempt=attempt), "sandbox_config": node.sandbox_config(pod)}
        made = node.cri.create_container(pod_sandbox_id=sandbox.id, **config).container_id
        node.cri.start_container(container_id=made)
        node.wait_exit(made)
# %% cheat: a decide that counts, and starts what has the policy OnFailure once more, but not what is called content
moody = labkit.fails_at_first()
for name, command, attempts in (
    ("once", ["sh", "-c", "exit 3"], 1), ("stubborn", ["sh", "-c", "exit 3"], 2), ("content", ["true"], 1), ("moody", moody, 2)
):  # fmt: skip
    main = {"name": "main", "image": node.images["busybox"], "command": command}
    pod = node.manifest({"metadata": {"name": name}, "spec": {"containers": [main]}})
    sandbox = node.start_pod(pod)
    node.wait_exit(sandbox.container("main").id)
    for attempt in range(1, attempts):
        config = {"config": node.container_config(pod, "main", attempt=attempt), "sandbox_config": node.sandbox_config(pod)}
        made = node.cri.create_container(pod_sandbox_id=sandbox.id, **config).container_id
        node.cri.start_container(container_id=made)
        node.wait_exit(made)
