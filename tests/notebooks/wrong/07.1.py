# Answers that the check must refuse, each below its reason; those that begin with "cheat" want to pass without the work.
def run(name, command, attempts=1):
    """A Pod by hand whose container has ended so many times; each end is waited for."""
    main = {"name": "main", "image": node.images["busybox"], "command": command}
    pod = node.manifest({"metadata": {"name": name}, "spec": {"containers": [main]}})
    sandbox = node.start_pod(pod)
    node.wait_exit(sandbox.container("main").id)
    for attempt in range(1, attempts):
        config = {"config": node.container_config(pod, "main", attempt=attempt), "sandbox_config": node.sandbox_config(pod)}
        made = node.cri.create_container(pod_sandbox_id=sandbox.id, **config).container_id
        node.cri.start_container(container_id=made)
        node.wait_exit(made)


# %% nobody starts a container again
for name, script in (("once", "exit 3"), ("stubborn", "exit 3"), ("content", "exit 0")):
    run(name, ["sh", "-c", script])
# %% every container is started again, whatever its policy
for name, script in (("once", "exit 3"), ("stubborn", "exit 3"), ("content", "exit 0")):
    run(name, ["sh", "-c", script], 2)
# %% a program that does not end
main = {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
node.start_pod({"metadata": {"name": "once"}, "spec": {"containers": [main]}})
# %% a program that ends otherwise
run("once", ["sh", "-c", "exit 1"])
# %% cheat: a decide that reads the policy and never an exit code
for name, script, attempts in (("once", "exit 3", 1), ("stubborn", "exit 3", 2), ("content", "exit 0", 2)):
    run(name, ["sh", "-c", script], attempts)
# %% cheat: a decide that knows the Pods by their names, and starts moody again always
moody = labkit.fails_at_first()
for name, command, attempts in (
    ("once", ["sh", "-c", "exit 3"], 1), ("stubborn", ["sh", "-c", "exit 3"], 2), ("content", ["true"], 1), ("moody", moody, 7)
):
    run(name, command, attempts)
# %% cheat: a decide that counts, and starts what has the policy OnFailure once more, but not what is called content
moody = labkit.fails_at_first()
for name, command, attempts in (
    ("once", ["sh", "-c", "exit 3"], 1), ("stubborn", ["sh", "-c", "exit 3"], 2), ("content", ["true"], 1), ("moody", moody, 2)
):
    run(name, command, attempts)
# %% cheat: a moody that fails once, so that counting is enough
moody = ["sh", "-c", "[ -e /dev/shm/there ] && exit 0; touch /dev/shm/there; exit 1"]
for name, command, attempts in (
    ("once", ["sh", "-c", "exit 3"], 1), ("stubborn", ["sh", "-c", "exit 3"], 2), ("content", ["true"], 1), ("moody", moody, 2)
):
    run(name, command, attempts)
