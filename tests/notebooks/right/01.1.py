# Right answers in another form than the solution's, each below what is unusual about it.
# %% the user is the whole Pod's, and bytes instead of Mi
main = {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
main["securityContext"] = {"readOnlyRootFilesystem": True}
main["resources"] = {"limits": {"memory": "33554432"}}
spec = {"securityContext": {"runAsUser": 1000}, "containers": [main]}
node.start_pod({"metadata": {"name": "told"}, "spec": spec})
