# The kubelet of the notebook, but for what removes; new are `over`, and the two places in `decide` that ask it.
import time

from labkit.cri.v1.api_pb2 import CONTAINER_EXITED, CONTAINER_RUNNING, SANDBOX_READY

wanted = {}


def want(name, *command, policy="Always"):
    main = {"name": "main", "image": node.images["busybox"], "command": command}
    spec = {"containers": [main], "restartPolicy": policy}
    manifest = node.manifest({"metadata": {"name": name}, "spec": spec})
    wanted[manifest["metadata"]["uid"]] = manifest


def look():
    pods = {uid: ([], []) for uid in wanted}
    for sandbox in node.cri.list_pod_sandbox().items:
        if pod := pods.get(sandbox.metadata.uid):
            pod[0].append(sandbox)
    for container in node.cri.list_containers().containers:
        if pod := pods.get(container.labels.get("io.kubernetes.pod.uid")):
            pod[1].append(container)
    return pods


def over(manifest, name, containers):
    same = [c for c in containers if c.metadata.name == name]
    newest = max(same, key=lambda c: c.metadata.attempt, default=None)
    policy = manifest["spec"]["restartPolicy"]
    if newest is None or newest.state != CONTAINER_EXITED or policy == "Always":
        return False
    code = node.cri.container_status(container_id=newest.id).status.exit_code
    return policy == "Never" or code == 0


def decide(manifest, sandboxes, containers):
    names = [c["name"] for c in manifest["spec"]["containers"]]
    names = [name for name in names if not over(manifest, name, containers)]
    ready = [s for s in sandboxes if s.state == SANDBOX_READY]
    if names and not ready:
        return "run", "sandbox", len(sandboxes)
    for name in names:
        same = [c for c in containers if c.metadata.name == name]
        running = [c for c in same if c.state == CONTAINER_RUNNING]
        if not any(c.pod_sandbox_id == ready[0].id for c in running):
            return "start", name, len(same)


def act(step, manifest, sandboxes):
    verb, name, attempt = step
    if verb == "run":
        config = node.sandbox_config(manifest, attempt=attempt)
        node.cri.run_pod_sandbox(config=config)
        return
    ready = next(s for s in sandboxes if s.state == SANDBOX_READY)
    config = node.sandbox_config(manifest, attempt=ready.metadata.attempt)
    image = {"image": node.images["busybox"]}
    there = node.cri.image_status(image=image).image.id
    ref = there or node.cri.pull_image(image=image).image_ref
    main = node.container_config(manifest, name, attempt=attempt, image_ref=ref)
    made = node.cri.create_container(pod_sandbox_id=ready.id, config=main, sandbox_config=config)
    node.cri.start_container(container_id=made.container_id)


want("once", "sh", "-c", "exit 3", policy="Never")
want("stubborn", "sh", "-c", "sleep 1; exit 3", policy="OnFailure")
want("content", "sh", "-c", "exit 0", policy="OnFailure")
want("moody", *labkit.fails_at_first(), policy="OnFailure")
until = time.monotonic() + 10
while time.monotonic() < until:
    for uid, (sandboxes, containers) in look().items():
        if step := decide(wanted[uid], sandboxes, containers):
            act(step, wanted[uid], sandboxes)
    time.sleep(0.1)
