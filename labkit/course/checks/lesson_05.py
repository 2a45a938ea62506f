"""Checks of lesson 05, Why is my Pod stuck in ContainerCreating?"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from labkit.course.checks.pod_checks import command, first_processes
from labkit.course.incident.broken import COMMANDS, KEY_DIRECTORY, SECRET
from labkit.course.verdict import Check, exercise, passed, refused
from labkit.util.errors import NodeError

if TYPE_CHECKING:
    from labkit.node import Node

WHERE = "notebook 05, “Where to look”"
VOLUME = "notebook 05, “A volume”"
DESCRIBE = 'Read the Events at the end of cluster.kubectl("describe", "pod", …). Who reports, and what does it not find?'
STATES = {
    "Pending": ("a node for it.", "Only the scheduler can say why a Pod has no node. Which condition of the Pod is not met?"),
    "ContainerCreating": ("what the kubelet waits for.", "No container has been created. Which step comes before that?"),
    "ErrImagePull": (
        "an image that can be pulled.",
        "The message ends with the registry's answer. Does the name exist, and its tag?",
    ),
    "CrashLoopBackOff": ("a program that does not end.", "The image is there now, and its program ends. Look at the command."),
    "Error": ("a program that does not end.", "The program ended with an error. `kubectl logs` has what it printed."),
    "Completed": (
        "a program that does not end.",
        "The program ended with code 0. It is not the one that the Pod was meant to run.",
    ),
    "OOMKilled": ("a program within its memory limit.", "The kernel has ended it. Did you add a limit?"),
    "Terminating": ("a Pod that stays.", "You have deleted it. Create it again under the same name, or wait until it is gone."),
}
STATES["ImagePullBackOff"] = STATES["InvalidImageName"] = STATES["ErrImagePull"]
STATES["StartError"] = STATES["RunContainerError"] = STATES["Error"]


def runs(node: Node, name: str) -> Check | None:
    """What is still wrong with a Pod that shall run its own program; None when nothing is."""
    wanted = COMMANDS[name]
    try:
        status = node.cluster.status(name)
    except NodeError:
        return refused(
            f"there is no Pod called {name}.",
            f"a Pod {name} that runs {shlex.join(wanted)}.",
            "You may delete a Pod and create it again, with the same name and program.",
            f"labkit.break_pods(cluster, node.images) creates {name} as it was, so that you can start over.",
            taught=WHERE,
        )
    if status != "Running":
        missing, hint = STATES.get(status, ("a container that runs.", "`kubectl describe pod` says what the kubelet waits for."))
        return refused(f"the Pod {name} is {status}{newest_event(node, name)}.", missing, DESCRIBE, hint, taught=WHERE)
    pod = node.pod(name)
    found = list(first_processes(pod).values())
    if wanted not in [p.cmdline for p in found]:
        return refused(
            f"the Pod {name} runs {', '.join(map(command, found)) or 'no process'}.",
            f"its own program, {shlex.join(wanted)}.",
            "A Pod that runs another program is not repaired. The command of the manifest stays as it was.",
            taught=WHERE,
        )
    return None


def own_program(node: Node, name: str) -> tuple[int, str]:
    """The process that runs the Pod's own program, and its container. The Pod runs it (see `runs`)."""
    return next((p.pid, p.container or "") for p in first_processes(node.pod(name)).values() if p.cmdline == COMMANDS[name])


def newest_event(node: Node, name: str) -> str:
    """What the last event that gives a reason says, as `kubectl describe` has it; "Error: ErrImagePull" gives none."""
    events = [e for e in node.cluster.events(name) if e.type == "Warning" and not e.message.startswith("Error: ")]
    return f": {events[-1].reason}, “{events[-1].message[:160].strip().rstrip('.')}”" if events else ""


def mount_paths(pod: Any, secret: str, container: str) -> list[str]:
    """Where a container of the Pod mounts that Secret, alone or with other sources of a projected volume."""
    volumes = {v.name for v in pod.spec.volumes or [] if secret in secrets_of(v)}
    return [m.mount_path for c in pod.spec.containers if c.name == container for m in c.volume_mounts or [] if m.name in volumes]


def secrets_of(volume: Any) -> set[str]:
    """The names of the Secrets from which a volume takes its files."""
    projected = volume.projected.sources if volume.projected else None
    return ({volume.secret.secret_name} if volume.secret else set()) | {s.secret.name for s in projected or [] if s.secret}


@exercise("05.1")
def api_repaired(node: Node) -> Check:
    """05.1: `api` runs, and has a key from its Secret (an optional Secret need not be there, and an empty one has no key)."""
    if wrong := runs(node, "api"):
        return wrong
    pid, container = own_program(node, "api")
    api: Any = node.kube.read_namespaced_pod("api", "default")
    paths = mount_paths(api, SECRET, container)
    if others := [c.name for c in api.spec.containers if not paths and mount_paths(api, SECRET, c.name)]:
        return refused(
            f"the container {others[0]} of api mounts the Secret {SECRET}, and {container}, which runs api's program, does not.",
            f"the Secret's files in the container {container}.",
            "A volume belongs to the Pod. Which field brings it into a container?",
            taught=VOLUME,
        )
    if not paths:
        return refused(
            f"the Pod api runs, but no longer mounts its Secret {SECRET}.",
            "the volume and its mount, as the colleague wrote them.",
            "The program needs its key. What must exist before the kubelet can mount it?",
            "Create api again with its volume. labkit.break_pods does that after you have deleted it.",
            taught=VOLUME,
        )
    if KEY_DIRECTORY not in {path.rstrip("/") for path in paths}:
        return refused(
            f"the container {container} of api has the files of its Secret in {', '.join(paths)}.",
            f"these files in {KEY_DIRECTORY}, where its program looks for them.",
            "Compare the mount with the one that the colleague wrote. What has changed?",
            "Delete api and run labkit.break_pods: it creates api as it was.",
            taught=VOLUME,
        )
    listed: Any = node.kube.list_namespaced_secret("default").items
    secrets = {s.metadata.name: s.data or {} for s in listed}
    if SECRET not in secrets:
        return refused(
            f"the Pod api runs, but there is no Secret {SECRET}: it runs without its key.",
            f"the Secret {SECRET}, with a key.",
            "A volume that is optional lets the Pod start without it. Its program has nothing to read then.",
            taught=VOLUME,
        )
    if not any(secrets[SECRET].values()):
        return refused(
            f"the Secret {SECRET} is empty, so api runs without its key.",
            "a Secret with a key and a value.",
            "`kubectl create secret generic` takes pairs of a key and a value. Which option gives one?",
            "When a Pod starts, only the Secret's name matters. The program reads a file for each key.",
            taught=VOLUME,
        )
    files = node.shell(["sh", "-c", f"ls /proc/{pid}/root{KEY_DIRECTORY}"]).split()
    if not files:
        return refused(
            f"the Secret {SECRET} has a key now, and the container does not see it yet: {KEY_DIRECTORY} is empty.",
            "a file of the Secret in the container.",
            "The kubelet brings a changed Secret into a running Pod within about a minute. Wait, and check again.",
            taught=VOLUME,
        )
    return passed(f"api runs, and its container sees the key: {KEY_DIRECTORY}/{files[0]}.")


@exercise("05.2")
def worker_repaired(node: Node) -> Check:
    """05.2: `worker` runs."""
    return runs(node, "worker") or passed("worker runs its program, from an image that the node could get.")


@exercise("05.3")
def cache_repaired(node: Node) -> Check:
    """05.3: `cache` runs."""
    return runs(node, "cache") or passed("cache runs its program on this node.")
