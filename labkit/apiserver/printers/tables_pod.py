"""A Pod's row in `kubectl get pods`. Knowledge: pkg/printers/internalversion/printers.go (printPod)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from labkit.apiserver.printers.ages import age
from labkit.podspec.container_kinds import sidecars

Manifest = Mapping[str, Any]
NONE = "<none>"
LOST = "NodeLost"


@dataclass
class _Tally:
    """What has been counted so far on the way through a Pod's containers."""

    reason: str
    ready: int = 0
    restarts: int = 0
    restarted: list[str] = field(default_factory=list)
    initializing: bool = False

    def restart(self, status: Manifest) -> None:
        self.restarts += status.get("restartCount") or 0
        ended = ((status.get("lastState") or {}).get("terminated") or {}).get("finishedAt")
        if ended:
            self.restarted.append(ended)


def pod_cells(pod: Manifest, now: datetime) -> list[Any]:
    """Name, ready, status, restarts, age, address, node, nominated node, readiness gates."""
    meta, spec, status = pod.get("metadata") or {}, pod.get("spec") or {}, pod.get("status") or {}
    lasting = {container.get("name") for container in sidecars(spec)}
    tally = _containers(spec, status, lasting)
    total = len(spec.get("containers") or []) + len(lasting)
    restarts = str(tally.restarts)
    if tally.restarts and tally.restarted:
        restarts += f" ({age(max(tally.restarted), now)} ago)"
    addresses = status.get("podIPs") or []
    return [
        meta.get("name") or "",
        f"{tally.ready}/{total}",
        _ending(meta, status) or tally.reason,
        restarts,
        age(meta.get("creationTimestamp"), now),
        (addresses[0].get("ip") if addresses else "") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _gates(spec, status),
    ]


def pod_conditions(pod: Manifest) -> list[dict[str, str]]:
    """What a row says of a Pod that has ended: clients may hide it."""
    phase = (pod.get("status") or {}).get("phase")
    message = {"Succeeded": "The pod has completed successfully.", "Failed": "The pod failed."}.get(phase or "")
    return [{"type": "Completed", "status": "True", "reason": str(phase), "message": message}] if message else []


def _containers(spec: Manifest, status: Manifest, sidecars: set[Any]) -> _Tally:
    tally = _Tally(status.get("reason") or status.get("phase") or "")
    conditions = status.get("conditions") or []
    if any(c.get("type") == "PodScheduled" and c.get("reason") == "SchedulingGated" for c in conditions):
        tally.reason = "SchedulingGated"
    of_sidecars = _Tally("")
    _init_containers(spec, status, sidecars, tally, of_sidecars)
    initialized = any(c.get("type") == "Initialized" and c.get("status") == "True" for c in conditions)
    if not tally.initializing or initialized:
        tally.restarts, tally.restarted = of_sidecars.restarts, of_sidecars.restarted
        running = [_container(container, tally) for container in reversed(status.get("containerStatuses") or [])]
        if tally.reason == "Completed" and any(running):
            ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
            tally.reason = "Running" if ready else "NotReady"
    return tally


def _init_containers(spec: Manifest, status: Manifest, sidecars: set[Any], tally: _Tally, of_sidecars: _Tally) -> None:
    """Stops at the first init container that holds the Pod up."""
    for number, container in enumerate(status.get("initContainerStatuses") or []):
        state, is_sidecar = container.get("state") or {}, container.get("name") in sidecars
        tally.restart(container)
        if is_sidecar:
            of_sidecars.restart(container)
        ended, waiting = state.get("terminated"), (state.get("waiting") or {}).get("reason")
        if ended is not None and not ended.get("exitCode"):
            continue
        if is_sidecar and container.get("started"):
            tally.ready += bool(container.get("ready"))
            continue
        tally.initializing = True
        if ended is not None:
            tally.reason = f"Init:{_end(ended)}"
        elif waiting and waiting != "PodInitializing":
            tally.reason = f"Init:{waiting}"
        else:
            tally.reason = f"Init:{number}/{len(spec.get('initContainers') or [])}"
        return


def _container(container: Manifest, tally: _Tally) -> bool:
    """Count a regular container; whether it runs and is ready."""
    state = container.get("state") or {}
    tally.restart(container)
    ended, waiting = state.get("terminated"), (state.get("waiting") or {}).get("reason")
    if waiting:
        tally.reason = waiting
    elif ended is not None:
        tally.reason = _end(ended)
    elif container.get("ready") and state.get("running") is not None:
        tally.ready += 1
        return True
    return False


def _end(ended: Manifest) -> str:
    if ended.get("reason"):
        return str(ended["reason"])
    return f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode') or 0}"


def _ending(meta: Manifest, status: Manifest) -> str:
    if not meta.get("deletionTimestamp"):
        return ""
    if status.get("reason") == LOST:
        return "Unknown"
    return "" if status.get("phase") in ("Succeeded", "Failed") else "Terminating"


def _gates(spec: Manifest, status: Manifest) -> str:
    gates = [gate.get("conditionType") for gate in spec.get("readinessGates") or []]
    if not gates:
        return NONE
    held = {c.get("type"): c.get("status") for c in reversed(status.get("conditions") or [])}
    return f"{sum(held.get(gate) == 'True' for gate in gates)}/{len(gates)}"
