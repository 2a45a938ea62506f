# Right answers in another form than the solution's, each below what is unusual about it.
# %% it shares another namespace of the node besides
main = {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
node.start_pod({"metadata": {"name": "window"}, "spec": {"hostNetwork": True, "hostIPC": True, "containers": [main]}})
