# Right answers in another form than the solution's, each below what is unusual about it.
# %% the second of two containers, which says at first how things are, looks only every two seconds, and prints to stderr
script = f'old=; while :; do grep -q " {node.socket_path}$" /proc/net/unix && now=back || now=away'
script += "; [ $now = \"$old\" ] || echo $now >&2; old=$now; sleep 2; done"
sleeper = {"name": "other", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
main = {"name": "main", "image": node.images["busybox"], "command": ["sh", "-c", script]}
node.start_pod({"metadata": {"name": "watchman"}, "spec": {"hostNetwork": True, "containers": [sleeper, main]}})
