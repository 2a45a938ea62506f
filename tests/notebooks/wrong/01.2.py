# Answers that the check must refuse, each below its reason; those that begin with "cheat" want to pass without the work.
# %% the container was started once
once = {"name": "once", "image": node.images["busybox"], "command": ["true"]}
again = node.start_pod({"metadata": {"name": "again"}, "spec": {"containers": [once]}})
node.wait_exit(again.container("once").id)
# %% attempt 1 is created and not started
once = {"name": "once", "image": node.images["busybox"], "command": ["true"]}
again = node.manifest({"metadata": {"name": "again"}, "spec": {"containers": [once]}})
sandbox = node.start_pod(again)
node.wait_exit(sandbox.container("once").id)
second = node.container_config(again, "once", attempt=1)
node.cri.create_container(pod_sandbox_id=sandbox.id, config=second, sandbox_config=node.sandbox_config(again))
# %% the container fails
once = {"name": "once", "image": node.images["busybox"], "command": ["false"]}
again = node.manifest({"metadata": {"name": "again"}, "spec": {"containers": [once]}})
sandbox = node.start_pod(again)
node.wait_exit(sandbox.container("once").id)
second = node.container_config(again, "once", attempt=1)
made = node.cri.create_container(pod_sandbox_id=sandbox.id, config=second, sandbox_config=node.sandbox_config(again))
node.cri.start_container(container_id=made.container_id)
# %% the container has another name
main = {"name": "main", "image": node.images["busybox"], "command": ["true"]}
node.start_pod({"metadata": {"name": "again"}, "spec": {"containers": [main]}})
# %% cheat: two at once
once = {"name": "once", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
again = node.manifest({"metadata": {"name": "again"}, "spec": {"containers": [once]}})
sandbox = node.start_pod(again)
second = node.container_config(again, "once", attempt=1)
made = node.cri.create_container(pod_sandbox_id=sandbox.id, config=second, sandbox_config=node.sandbox_config(again))
node.cri.start_container(container_id=made.container_id)
# %% cheat: attempt 1 is made before attempt 0 has ended
command = ["sh", "-c", "until [ -e /go ]; do usleep 50000; done"]
once = {"name": "once", "image": node.images["busybox"], "command": command}
again = node.manifest({"metadata": {"name": "again"}, "spec": {"containers": [once]}})
sandbox = node.start_pod(again)
second = node.container_config(again, "once", attempt=1)
made = node.cri.create_container(pod_sandbox_id=sandbox.id, config=second, sandbox_config=node.sandbox_config(again))
node.cri.start_container(container_id=made.container_id)
for attempt in node.pod("again").containers:
    node.shell(["touch", f"/proc/{attempt.pid}/root/go"])
    node.wait_exit(attempt.id)
# %% attempt 1 is another container under the same name
once = {"name": "once", "image": node.images["busybox"], "command": ["true"]}
again = node.manifest({"metadata": {"name": "again"}, "spec": {"containers": [once]}})
sandbox = node.start_pod(again)
node.wait_exit(sandbox.container("once").id)
once["command"] = ["sleep", "0"]
other = node.manifest({"metadata": {"name": "again"}, "spec": {"containers": [once]}})
second = node.container_config(other, "once", attempt=1)
made = node.cri.create_container(pod_sandbox_id=sandbox.id, config=second, sandbox_config=node.sandbox_config(again))
node.cri.start_container(container_id=made.container_id)
node.wait_exit(made.container_id)
