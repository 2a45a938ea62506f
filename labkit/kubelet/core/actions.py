"""What must be done to a Pod now: which sandbox to make, which containers to start and to kill. Pure; the kubelet's own rules.

Knowledge: kubelet's kuberuntime_manager.go (computePodActions, computeInitContainerActions).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.kubelet.pod.pod_runtime import EXITED, RUNNING, UNKNOWN, Container, PodRuntime, Probed
from labkit.kubelet.pod.restarts import restart_policy, restarts_after, to_be_restarted
from labkit.podspec.container_kinds import is_sidecar
from labkit.podspec.messages.configs import container_hash

Spec = Mapping[str, Any]


@dataclass(frozen=True)
class Kill:
    """A container to stop, with the words of its Killing event. `why` is "liveness", "startup" or ""."""

    container: Container
    spec: Spec
    message: str
    why: str = ""


@dataclass
class Actions:
    """`kill_pod`: stop everything and the sandbox first. `sandbox`: make one, with this `attempt`. `ephemeral`, `init` and
    `start`: containers to start, in this order. `kill`: running containers to stop first."""

    kill_pod: bool = False
    sandbox: bool = False
    attempt: int = 0
    ephemeral: list[Spec] = field(default_factory=list)
    init: list[Spec] = field(default_factory=list)
    start: list[Spec] = field(default_factory=list)
    kill: list[Kill] = field(default_factory=list)

    @property
    def starts(self) -> tuple[Spec, ...]:
        return (*self.ephemeral, *self.init, *self.start)


def compute_actions(pod: Mapping[str, Any], runtime: PodRuntime, probed: Probed) -> Actions:
    """What `pod` (a manifest with defaults) needs, given what the runtime holds of it and what the probes found."""
    spec = pod["spec"]
    changed, attempt = sandbox_changed(spec, runtime)
    actions = Actions(kill_pod=changed, sandbox=changed, attempt=attempt)
    if changed:
        _from_the_start(spec, runtime, actions)
        return actions
    actions.ephemeral = [c for c in spec.get("ephemeralContainers", ()) if runtime.newest(c["name"]) is None]  # once, and no more
    if not _init_actions(pod, runtime, probed, actions) or actions.kill_pod:
        return actions
    keep = 0
    for container in spec["containers"]:
        status = runtime.newest(container["name"])
        if status is None or status.state != RUNNING:
            if to_be_restarted(pod, container, runtime):
                actions.start.append(container)
                if status is not None and status.state == UNKNOWN:
                    actions.kill.append(Kill(status, container, _unknown_words(container)))
            continue
        message, why, restart = _why_kill(spec, container, status, probed)
        if not message:
            keep += 1
            continue
        if restart:
            message += ", will be restarted"
            actions.start.append(container)
        actions.kill.append(Kill(status, container, message, why))
    if keep == 0 and not actions.start:
        actions.kill_pod = True
        actions.init.clear()
        actions.ephemeral.clear()
    return actions


def sandbox_changed(spec: Spec, runtime: PodRuntime) -> tuple[bool, int]:
    """Whether a new sandbox is needed, and its attempt (runtimeutil.PodSandboxChanged)."""
    if not runtime.sandboxes:
        return True, 0
    newest = runtime.sandboxes[0]
    host_network = bool(spec.get("hostNetwork"))
    if sum(box.ready for box in runtime.sandboxes) > 1 or not newest.ready or newest.host_network != host_network:
        return True, newest.attempt + 1
    return (True, newest.attempt + 1) if not host_network and not newest.ips else (False, newest.attempt)


def _from_the_start(spec: Spec, runtime: PodRuntime, actions: Actions) -> None:
    """A new sandbox means starting anew, unless the Pod has run and must not run again."""
    if spec["restartPolicy"] == "Never" and actions.attempt and runtime.containers:
        actions.sandbox = False
        return
    start = [c for c in spec["containers"] if not (spec["restartPolicy"] == "OnFailure" and _succeeded(runtime, c))]
    if not start and _initialized(spec, runtime):
        actions.sandbox = False
    elif spec.get("initContainers"):
        actions.init = [spec["initContainers"][0]]
    else:
        actions.start = start


def _init_actions(pod: Mapping[str, Any], runtime: PodRuntime, probed: Probed, actions: Actions) -> bool:
    """Add what the init containers need; whether the regular ones may start. Looks at them from the last to the first: the
    last one that has a status tells how far the Pod has come."""
    spec = pod["spec"]
    containers = spec.get("initContainers", [])
    if not containers:
        return True
    initialized = past = _initialized(spec, runtime)
    wanted: list[int] = []
    for index in reversed(range(len(containers))):
        container, last = containers[index], index == len(containers) - 1
        status = runtime.newest(container["name"])
        if status is None:
            if past and is_sidecar(container):
                wanted.append(index)
            continue
        if past and not is_sidecar(container):
            continue
        if status.state == RUNNING:
            done = is_sidecar(container) and _sidecar_runs(spec, container, status, probed, actions, wanted, index)
        elif status.state == EXITED and not is_sidecar(container):
            done = status.exit_code == 0
            if not done and not restarts_after(spec, container, status.exit_code):
                actions.kill_pod, actions.init = True, []
                return False
            if not done:
                wanted.append(index)
        else:
            done = False
            wanted.append(index)
            if status.state == UNKNOWN:
                actions.kill.append(Kill(status, container, _unknown_words(container)))
        if done and last:
            initialized = True
        elif done and not past:
            wanted.append(index + 1)
        past = True
    if not past:
        wanted.append(0)
    actions.init = [containers[index] for index in sorted(set(wanted))]
    return initialized


def _sidecar_runs(
    spec: Spec, container: Spec, status: Container, probed: Probed, actions: Actions, wanted: list[int], index: int
) -> bool:
    """Whether a running sidecar has started; one that failed a probe is killed and wanted anew."""
    if container.get("startupProbe") and status.id not in probed.startup:
        return False
    message, why, _ = _why_kill(spec, container, status, probed)
    if message:
        actions.kill.append(Kill(status, container, f"{message}, will be restarted", why))
        wanted.append(index)
    return why != "startup"


def _why_kill(spec: Spec, container: Spec, status: Container, probed: Probed) -> tuple[str, str, bool]:
    """The words and the kind of reason to kill a running container ("" for none), and whether it starts again."""
    name, again = container["name"], restart_policy(spec, container) != "Never"
    if status.hash and status.hash != container_hash(container):
        return f"Container {name} definition changed", "", True
    if probed.liveness.get(status.id) is False:
        return f"Container {name} failed liveness probe", "liveness", again
    if probed.startup.get(status.id) is False:
        return f"Container {name} failed startup probe", "startup", again
    return "", "", False


def _unknown_words(container: Spec) -> str:
    return f'Container is in "unknown" state, try killing it before restart: {container["name"]}'


def _succeeded(runtime: PodRuntime, container: Spec) -> bool:
    status = runtime.newest(container["name"])
    return status is not None and status.state == EXITED and status.exit_code == 0


def _initialized(spec: Spec, runtime: PodRuntime) -> bool:
    """Whether a regular container was ever made: then the Pod was initialized before."""
    return any(runtime.newest(container["name"]) for container in spec["containers"])
