# Answers that the check must refuse, each below its reason; those that begin with "cheat" want to pass without the work.
# %% it says nothing
main = {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
node.start_pod({"metadata": {"name": "watchman"}, "spec": {"containers": [main]}})
# %% it says away all the time
main = {"name": "main", "image": node.images["busybox"], "command": ["sh", "-c", "while true; do echo away; sleep 0.2; done"]}
node.start_pod({"metadata": {"name": "watchman"}, "spec": {"containers": [main]}})
# %% it has ended after the first look
main = {"name": "main", "image": node.images["busybox"], "command": ["sh", "-c", "grep -q containerd.sock /proc/net/unix"]}
watchman = node.start_pod({"metadata": {"name": "watchman"}, "spec": {"hostNetwork": True, "containers": [main]}})
node.wait_exit(watchman.container("main").id)
# %% it does not look for the end of the path
script = f'old=1; while usleep 50000; do grep -q "{node.socket_path}" /proc/net/unix && now=1 || now=0;'
script += " [ $now = $old ] || { [ $now = 1 ] && echo back || echo away; }; old=$now; done"
main = {"name": "main", "image": node.images["busybox"], "command": ["sh", "-c", script]}
node.start_pod({"metadata": {"name": "watchman"}, "spec": {"hostNetwork": True, "containers": [main]}})
# %% cheat: it notices once, and says back by the clock
script = (
    f'while grep -q "{node.socket_path}$" /proc/net/unix; do usleep 50000; done; echo away; sleep 5; echo back; sleep 1000000'
)
main = {"name": "main", "image": node.images["busybox"], "command": ["sh", "-c", script]}
node.start_pod({"metadata": {"name": "watchman"}, "spec": {"hostNetwork": True, "containers": [main]}})
# %% cheat: it notices each time, and says back by the clock
look = f'while grep -q "{node.socket_path}$" /proc/net/unix; do usleep 50000; done'
main = {"name": "main", "image": node.images["busybox"]}
main["command"] = ["sh", "-c", f"while :; do {look}; echo away; sleep 7; echo back; done"]
node.start_pod({"metadata": {"name": "watchman"}, "spec": {"hostNetwork": True, "containers": [main]}})
# %% cheat: it says back by the clock, and only then looks for the socket
look = f'while grep -q "{node.socket_path}$" /proc/net/unix; do usleep 50000; done'
again = look.replace("while", "until")
main = {"name": "main", "image": node.images["busybox"]}
main["command"] = ["sh", "-c", f"while :; do {look}; echo away; sleep 6; echo back; {again}; done"]
node.start_pod({"metadata": {"name": "watchman"}, "spec": {"hostNetwork": True, "containers": [main]}})
# %% cheat: it says back by a clock that is quicker than any containerd
look = f'while grep -q "{node.socket_path}$" /proc/net/unix; do usleep 50000; done'
again = look.replace("while", "until")
main = {"name": "main", "image": node.images["busybox"]}
main["command"] = ["sh", "-c", f"while :; do {look}; echo away; usleep 100000; echo back; {again}; done"]
node.start_pod({"metadata": {"name": "watchman"}, "spec": {"hostNetwork": True, "containers": [main]}})
