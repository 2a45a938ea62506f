# Answers that the check must refuse, each below its reason; those that begin with "cheat" want to pass without the work.
# %% nothing was run in the Pod
sleeper = {"image": node.images["busybox"], "command": ["sleep", "1000000"]}
node.start_pod({"metadata": {"name": "duo"}, "spec": {"containers": [{"name": "one", **sleeper}, {"name": "two", **sleeper}]}})
# %% there is another Pod, in which it was done
sleeper = {"name": "one", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
other = node.start_pod({"metadata": {"name": "other"}, "spec": {"containers": [sleeper]}})
node.cri.exec_sync(container_id=other.container("one").id, cmd=["sh", "-c", "sleep 1000000 >/dev/null 2>&1 &"])
# %% the shell that was executed has not ended
import threading

sleeper = {"name": "one", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
duo = node.start_pod({"metadata": {"name": "duo"}, "spec": {"containers": [sleeper]}})
command = {"container_id": duo.container("one").id, "cmd": ["sh", "-c", "sleep 20; true"], "timeout": 30}
threading.Thread(target=lambda: node.cri.exec_sync(**command), daemon=True).start()
labkit.wait_until("the exec runs", lambda: len([p for p in node.pod("duo").processes if p.container]) > 2)
# %% cheat: the container's own command has left it behind
left = {"name": "one", "image": node.images["busybox"], "command": ["sh", "-c", "sleep 1000000 & exec sleep 1000001"]}
node.start_pod({"metadata": {"name": "duo"}, "spec": {"containers": [left]}})
wanted = {'sleep 1000000', 'sleep 1000001'}
labkit.wait_until("both run", lambda: wanted <= {" ".join(p.cmdline) for p in node.pod("duo").processes})
# %% cheat: the container's own command has left it behind, in a session of its own
left = {"name": "one", "image": node.images["busybox"], "command": ["sh", "-c", "setsid sleep 1000002 & exec sleep 1000001"]}
node.start_pod({"metadata": {"name": "duo"}, "spec": {"containers": [left]}})
wanted = {'sleep 1000002', 'sleep 1000001'}
labkit.wait_until("both run", lambda: wanted <= {" ".join(p.cmdline) for p in node.pod("duo").processes})
# %% the containers share one PID namespace
sleeper = {"name": "one", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
duo = node.start_pod({"metadata": {"name": "duo"}, "spec": {"shareProcessNamespace": True, "containers": [sleeper]}})
node.cri.exec_sync(container_id=duo.container("one").id, cmd=["sh", "-c", "sleep 1000003 >/dev/null 2>&1 &"])
# %% cheat: the container's own command has left behind what a shell in a session of its own has started
script = "setsid sh -c 'sleep 1000004 &'; exec sleep 1000001"
left = {"name": "one", "image": node.images["busybox"], "command": ["sh", "-c", script]}
node.start_pod({"metadata": {"name": "duo"}, "spec": {"containers": [left]}})
wanted = {'sleep 1000004', 'sleep 1000001'}
labkit.wait_until("both run", lambda: wanted <= {" ".join(p.cmdline) for p in node.pod("duo").processes})
