# Answers that the check must refuse, each below its reason; those that begin with "cheat" want to pass without the work.
# %% the limit is 32 MB, not 32 MiB
main = {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
main |= {"securityContext": {"runAsUser": 1000, "readOnlyRootFilesystem": True}, "resources": {"limits": {"memory": "32M"}}}
node.start_pod({"metadata": {"name": "told"}, "spec": {"containers": [main]}})
# %% the root file system can be written to
main = {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
main |= {"securityContext": {"runAsUser": 1000}, "resources": {"limits": {"memory": "32Mi"}}}
node.start_pod({"metadata": {"name": "told"}, "spec": {"containers": [main]}})
# %% it runs as root
main = {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
main |= {"securityContext": {"readOnlyRootFilesystem": True}, "resources": {"limits": {"memory": "32Mi"}}}
node.start_pod({"metadata": {"name": "told"}, "spec": {"containers": [main]}})
# %% the memory is requested, and has no limit
main = {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
main |= {"securityContext": {"runAsUser": 1000, "readOnlyRootFilesystem": True}, "resources": {"requests": {"memory": "32Mi"}}}
node.start_pod({"metadata": {"name": "told"}, "spec": {"containers": [main]}})
# %% cheat: three containers, each with one of the three
main = {"image": node.images["busybox"], "command": ["sleep", "1000000"]}
one = {"name": "one", **main, "securityContext": {"runAsUser": 1000}}
two = {"name": "two", **main, "securityContext": {"readOnlyRootFilesystem": True}}
three = {"name": "three", **main, "resources": {"limits": {"memory": "32Mi"}}}
node.start_pod({"metadata": {"name": "told"}, "spec": {"containers": [one, two, three]}})
# %% cheat: all three, and a program that does not sleep
main = {"name": "main", "image": node.images["busybox"], "command": ["httpd", "-f", "-p", "8080"]}
main |= {"securityContext": {"runAsUser": 1000, "readOnlyRootFilesystem": True}, "resources": {"limits": {"memory": "32Mi"}}}
node.start_pod({"metadata": {"name": "told"}, "spec": {"containers": [main]}})
