"""The status of a Pod as the API shows it, made of its manifest, what the runtime holds, and why containers wait. Pure.

Knowledge: kubelet_pods.go (generateAPIPodStatus, getPhase, convertToAPIContainerStatuses) and status/generate.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.kubelet.go_format import rfc3339, rfc3339_ns
from labkit.kubelet.pod.lost import LOST, UNSEEN_INIT, terminate
from labkit.kubelet.pod.pod_runtime import EXITED, RUNNING, Container, PodRuntime, Probed
from labkit.kubelet.pod.restarts import restart_policy, restarts_after, to_be_restarted
from labkit.podspec.container_kinds import is_sidecar
from labkit.podspec.messages.linux_resources import qos_of
from labkit.podspec.quantity import binary, exact, millicores

Status = dict[str, Any]
MESSAGES_BYTES = 12 * 1024
"""What the API holds of all containers' last words together (MaxPodTerminationMessageLogLength)."""
Reasons = Mapping[str, tuple[str, str]]
"""Container name → (reason, message) of why the last attempt to start it failed."""


@dataclass(frozen=True)
class Facts:
    """What a status needs besides manifest and runtime.

    `before`: the status known last. `now`: seconds since 1970. `terminated`: reason and message where the kubelet itself ended
    the Pod. `done`: nothing of the Pod runs any more, nor will. `memory_limit`: bytes, what the Pod's cgroup says, None where it
    says nothing. `recursive`: whether the runtime can make a mount read-only with all below it.
    """

    host_ip: str
    runtime_name: str
    before: Mapping[str, Any]
    now: float
    probed: Probed = field(default_factory=Probed)
    reasons: Reasons = field(default_factory=dict)
    terminated: tuple[str, str] | None = None
    done: bool = False
    memory_limit: int | None = None
    recursive: bool = False


def pod_status(pod: Mapping[str, Any], runtime: PodRuntime, facts: Facts) -> Status:
    """The whole status of a Pod (a manifest with defaults)."""
    spec, before = pod["spec"], facts.before
    init = [container_status(pod, c, runtime, facts, init=True) for c in spec.get("initContainers", ())]
    regular = [container_status(pod, c, runtime, facts) for c in spec["containers"]]
    ephemeral = [_of_ephemeral(container_status(pod, c, runtime, facts)) for c in spec.get("ephemeralContainers", ())]
    phase = _phase(spec, init, regular, facts)
    status: Status = {"phase": phase, "qosClass": qos_of(pod), "observedGeneration": pod["metadata"].get("generation", 1)}
    status["hostIP"], status["hostIPs"] = facts.host_ip, [{"ip": facts.host_ip}]
    ips = [facts.host_ip] if spec.get("hostNetwork") else list(runtime.ips)
    if not ips:
        ips = [entry["ip"] for entry in before.get("podIPs", ()) if runtime.sandboxes or facts.done]
    if ips:
        status["podIP"], status["podIPs"] = ips[0], [{"ip": ip} for ip in ips]
    status["startTime"] = before.get("startTime") or rfc3339(facts.now)
    if facts.terminated:
        status["reason"], status["message"] = facts.terminated
    elif phase == "Failed" and before.get("reason"):
        status.update({key: before[key] for key in ("reason", "message") if key in before})
    if facts.done:
        terminate(spec, init, regular)
    if init:
        status["initContainerStatuses"] = init
    status["containerStatuses"] = regular
    if ephemeral:
        status["ephemeralContainerStatuses"] = ephemeral
    status["resources"] = _pod_resources(spec, phase, facts)
    requests = total(spec, "requests")
    if requests and runtime.containers:
        status["allocatedResources"] = requests
    status["conditions"] = _conditions(pod, status, init, regular, runtime, facts)
    _shorten([*init, *regular, *ephemeral])
    return status


def _of_ephemeral(status: Status) -> Status:
    """Nothing probes an ephemeral container, and it counts for no Pod's readiness."""
    return {**{key: value for key, value in status.items() if key != "started"}, "ready": False}


def _shorten(containers: list[Status]) -> None:
    """The last words of all containers together have a limit, of which each gets the same part (normalizeStatus)."""
    most = MESSAGES_BYTES // max(len(containers), 1)
    for status in containers:
        for key in ("state", "lastState"):
            ended = status[key].get("terminated") or {}
            if len(ended.get("message", "").encode()) > most:
                short = ended["message"].encode()[:most].decode(errors="ignore")
                status[key] = {"terminated": {**ended, "message": short}}


def container_status(
    pod: Mapping[str, Any], container: Mapping[str, Any], runtime: PodRuntime, facts: Facts, *, init: bool = False
) -> Status:
    """One entry of containerStatuses or initContainerStatuses."""
    name = container["name"]
    newest = runtime.newest(name)
    status = _from_runtime(container, newest, runtime, facts) if newest else _without_runtime(pod, container, facts, init)
    begun = any(runtime.newest(regular["name"]) for regular in pod["spec"]["containers"])
    if init and newest is None and begun and "waiting" in status["state"] and not is_sidecar(container):
        status["state"] = {"terminated": dict(UNSEEN_INIT)}
    reason = facts.reasons.get(name)
    if reason and (newest is None or newest.state != RUNNING) and to_be_restarted(pod, container, runtime):
        if "terminated" in status["state"]:
            status["lastState"] = status["state"]
        status["state"] = {"waiting": {**({"message": reason[1]} if reason[1] else {}), "reason": reason[0]}}
    _ready(container, newest, facts, status, init)
    if container.get("volumeMounts"):
        status["volumeMounts"] = [_mount(mount, facts.recursive) for mount in container["volumeMounts"]]
    return status


def _from_runtime(container: Mapping[str, Any], newest: Container, runtime: PodRuntime, facts: Facts) -> Status:
    attempts = runtime.attempts(newest.name)
    status: Status = {
        "containerID": f"{facts.runtime_name}://{newest.id}",
        "image": newest.image,
        "imageID": newest.image_id,
        "lastState": {},
        "name": newest.name,
        "resources": {key: value for key, value in container["resources"].items() if key in ("limits", "requests") and value},
        "restartCount": newest.attempt,
        "state": state(newest, facts.runtime_name),
    }
    if container["resources"].get("requests"):
        status["allocatedResources"] = container["resources"]["requests"]
    if newest.stop_signal:
        status["stopSignal"] = newest.stop_signal
    if newest.user:
        status["user"] = {"linux": dict(newest.user)}
    earlier = next((c for c in attempts[1:] if c.state == EXITED), None)
    if earlier:
        status["lastState"] = state(earlier, facts.runtime_name)
    else:
        old = _old(facts.before, newest.name)
        if old and old.get("restartCount") == newest.attempt and "terminated" in old.get("lastState", {}):
            status["lastState"] = old["lastState"]
    return status


def _without_runtime(pod: Mapping[str, Any], container: Mapping[str, Any], facts: Facts, init: bool) -> Status:
    """A container that the runtime does not hold: it waits; or it ran, and the runtime has lost it."""
    old = _old(facts.before, container["name"])
    over = facts.done or restart_policy(pod["spec"], container) == "Never"
    if old and ("terminated" in old.get("state", {}) or (over and has_run(old))):
        kept = {key: old[key] for key in old if key not in ("ready", "started")}
        if "terminated" not in kept["state"]:
            kept["state"] = {"terminated": LOST}
        return kept
    waits = "PodInitializing" if pod["spec"].get("initContainers") else "ContainerCreating"
    status: Status = {
        "image": container["image"],
        "imageID": "",
        "lastState": {},
        "name": container["name"],
        "restartCount": 0,
        "state": {"waiting": {"reason": waits}},
    }
    if old:
        status["restartCount"], status["lastState"] = old.get("restartCount", 0), old.get("lastState", {})
        if "running" in old.get("state", {}):
            status["lastState"] = {"terminated": LOST}
            status["restartCount"] += "deletionTimestamp" not in pod["metadata"]
    return status


def has_run(status: Mapping[str, Any]) -> bool:
    """Whether a status tells of a container that ran once: one that the runtime had made and nobody started has an id too."""
    return bool(status.get("containerID") and ("waiting" not in status["state"] or status.get("lastState")))


def state(container: Container, runtime_name: str) -> dict[str, Any]:
    """A ContainerState."""
    if container.state == RUNNING:
        return {"running": {"startedAt": rfc3339_ns(container.started)}}
    if container.state != EXITED:
        return {"waiting": {}}
    ended = {
        "containerID": f"{runtime_name}://{container.id}",
        "exitCode": container.exit_code,
        "finishedAt": rfc3339_ns(container.finished),
        "reason": container.reason or ("Error" if container.exit_code else "Completed"),
        "startedAt": rfc3339_ns(container.started),
    }
    return {"terminated": {**ended, **({"message": container.message} if container.message else {})}}


def _ready(container: Mapping[str, Any], newest: Container | None, facts: Facts, status: Status, init: bool) -> None:
    """Set started and ready, from state and probes (prober_manager.go, UpdatePodStatus)."""
    running = newest is not None and "running" in status["state"]
    startup = facts.probed.startup.get(newest.id) if newest else None
    started = running and (not container.get("startupProbe") or startup is True)
    if init and not is_sidecar(container):
        status["started"] = running
        status["ready"] = status["state"].get("terminated", {}).get("exitCode") == 0
        return
    readiness = facts.probed.readiness.get(newest.id) if newest else None
    status["started"] = started
    status["ready"] = started and (not container.get("readinessProbe") or readiness is True)


def _mount(mount: Mapping[str, Any], recursive: bool) -> Status:
    shown = {"mountPath": mount["mountPath"], "name": mount["name"]}
    if not mount.get("readOnly"):
        return shown
    whole = recursive and mount.get("recursiveReadOnly", "Disabled") != "Disabled"
    return {**shown, "readOnly": True, "recursiveReadOnly": "Enabled" if whole else "Disabled"}


def _phase(spec: Mapping[str, Any], init: list[Status], regular: list[Status], facts: Facts) -> str:
    """Pending, Running, Succeeded or Failed (getPhase)."""
    if facts.terminated:
        return "Failed"
    if facts.before.get("phase") in ("Succeeded", "Failed"):
        return str(facts.before["phase"])
    pending = failed = 0
    for container, status in zip(spec.get("initContainers", ()), init, strict=True):
        ended = status["state"].get("terminated") or ("waiting" in status["state"] and status["lastState"].get("terminated"))
        if is_sidecar(container):
            pending += not (status["started"] or ended)
        elif "running" in status["state"] or not ended:
            pending += 1
        elif ended["exitCode"]:
            again = restarts_after(spec, container, ended["exitCode"])
            failed, pending = failed + (not again), pending + again
    if failed:
        return "Failed"
    states = [status["state"] for status in regular]
    ended = [s["terminated"] for s in states if "terminated" in s]
    running = sum("running" in s for s in states)
    stopped = sum("waiting" in status["state"] and "terminated" in status["lastState"] for status in regular)
    waiting = len(states) - running - len(ended) - stopped
    ran = any(status.get("containerID") for status in regular)
    if pending and not ran:
        return "Pending"
    if waiting and not facts.done:
        return "Pending"
    if running or (stopped and not facts.done):
        return "Running"
    succeeded = len(ended) == len(states) and not any(e["exitCode"] for e in ended)
    if facts.done:
        return "Succeeded" if succeeded else "Failed"
    ends = ((c, s["state"]["terminated"]["exitCode"]) for c, s in zip(spec["containers"], regular, strict=True))
    if any(restarts_after(spec, container, code) for container, code in ends):
        return "Running"
    return "Succeeded" if succeeded else "Failed"


def _conditions(
    pod: Mapping[str, Any], status: Status, init: list[Status], regular: list[Status], runtime: PodRuntime, facts: Facts
) -> list[Status]:
    phase, spec = status["phase"], pod["spec"]
    sandbox = runtime.sandboxes[0] if runtime.sandboxes else None
    network = bool(sandbox and sandbox.ready and (spec.get("hostNetwork") or sandbox.ips))
    sidecars = {c["name"] for c in spec.get("initContainers", ()) if is_sidecar(c)}
    watched = [s for s in init if s["name"] in sidecars] + regular
    unready = [s["name"] for s in watched if not s["ready"]]
    incomplete = [s["name"] for s in init if not (s["started"] if s["name"] in sidecars else s["ready"])]
    words = f"containers with incomplete status: [{' '.join(incomplete)}]"
    initialized = _verdict(not incomplete, "ContainersNotInitialized", words)
    if phase == "Succeeded":
        initialized = {"status": "True", "reason": "PodCompleted"}
    elif incomplete and any(s.get("containerID") for s in regular):
        initialized = {"status": "True"}
    if phase in ("Succeeded", "Failed"):
        ended = {"status": "False", "reason": "PodCompleted" if phase == "Succeeded" else "PodFailed"}
        containers_ready = ready = ended
    else:
        containers_ready = _verdict(not unready, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
        ready = containers_ready if unready else _gates(spec, facts.before)
    made = (
        ("PodReadyToStartContainers", {"status": str(network)}),
        ("Initialized", initialized),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", {"status": "True"}),
    )
    common = {"lastProbeTime": None, "observedGeneration": status["observedGeneration"]}
    return [_since(facts, {"type": kind, **common, **found}) for kind, found in made]


def _gates(spec: Mapping[str, Any], before: Mapping[str, Any]) -> Status:
    """Ready, as far as the Pod's readinessGates go: conditions that others set (GeneratePodReadyCondition)."""
    known = {c["type"]: c["status"] for c in before.get("conditions", ())}
    wanted = [gate["conditionType"] for gate in spec.get("readinessGates", ())]
    words = [f'corresponding condition of pod readiness gate "{w}" does not exist.' for w in wanted if w not in known]
    words += [
        f'the status of pod readiness gate "{w}" is not "True", but {known[w]}' for w in wanted if known.get(w, "True") != "True"
    ]
    return _verdict(not words, "ReadinessGatesNotReady", ", ".join(words))


def _verdict(good: bool, reason: str, message: str) -> Status:
    return {"status": "True"} if good else {"status": "False", "reason": reason, "message": message}


def _since(facts: Facts, condition: Status) -> Status:
    """The condition with the time of its last transition."""
    known = next((c for c in facts.before.get("conditions", ()) if c["type"] == condition["type"]), None)
    same = known is not None and known["status"] == condition["status"] and known.get("lastTransitionTime")
    return {**condition, "lastTransitionTime": same or rfc3339(facts.now)}


def _pod_resources(spec: Mapping[str, Any], phase: str, facts: Facts) -> Status:
    """Limits and requests of the whole Pod while it runs; without a limit of its own the cgroup's, where the kernel names one."""
    if phase != "Running":
        return {}
    limits, requests = total(spec, "limits"), total(spec, "requests")
    if "memory" not in limits and facts.memory_limit:
        limits["memory"] = f"{facts.memory_limit // 1024}Ki"
    return {**({"limits": limits} if limits else {}), **({"requests": requests} if requests else {})}


def total(spec: Mapping[str, Any], kind: str) -> dict[str, str]:
    """cpu and memory over a Pod's regular containers and sidecars, as quantities; one that only one names as it is written."""
    result: dict[str, str] = {}
    for name in ("cpu", "memory"):
        given = [amount for amount in _amounts(spec, kind, name) if amount is not None]
        if len(given) == 1:
            result[name] = str(given[0])
        elif given:
            value = sum(map(exact, given))
            result[name] = millicores(int(value * 1000)) if name == "cpu" else binary(int(value))
    return result


def _amounts(spec: Mapping[str, Any], kind: str, name: str) -> Iterable[Any]:
    sidecars = [c for c in spec.get("initContainers", ()) if is_sidecar(c)]
    return (c["resources"].get(kind, {}).get(name) for c in [*spec["containers"], *sidecars])


def _old(before: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    kinds = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
    return next((s for kind in kinds for s in before.get(kind, ()) if s["name"] == name), None)
