"""One Pod, brought to where its manifest wants it: the heart of a kubelet. Read `PodSync.sync` from top to bottom.

Knowledge: kubelet.go (SyncPod), kuberuntime_manager.go (SyncPod).
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from labkit.cri import CriClient, CriError
from labkit.kubelet.backoff import Backoff
from labkit.kubelet.containers.configuration import Configuration
from labkit.kubelet.containers.probes import Prober
from labkit.kubelet.core.starting import RESERVED, RETRY_S, SOON_S, RequeueAfter, Starting, backoff_key
from labkit.kubelet.core.stopping import Stopping
from labkit.kubelet.go_format import os_error, rpc_error
from labkit.kubelet.images import Images, StartError
from labkit.kubelet.node.events import EventRecorder
from labkit.kubelet.node.health import RuntimeState
from labkit.kubelet.node.status_manager import StatusManager
from labkit.kubelet.pod.actions import Actions, compute_actions
from labkit.kubelet.pod.runtime import EXITED, Runtime
from labkit.kubelet.pod.statuses import Facts, pod_status
from labkit.kubelet.pod.worker import Worker
from labkit.kubelet.resources.cgroups import Cgroups
from labkit.kubelet.volumes.objects import Objects
from labkit.kubelet.volumes.volumes import FILLED, MountError, Volumes
from labkit.podspec import volume_kind
from labkit.podspec.container_kinds import is_sidecar
from labkit.podspec.messages.hosts import HostnameError

log = logging.getLogger("kubelet")

AT_ONCE = 8
"""Pods that the runtime makes or removes at the same time: with more, two cores are slower (measured)."""
REFRESH_S = 60.0
MOUNT_RETRY_S, MOUNT_RETRY_LONGEST_S = 0.5, 122.0
MOUNT_TIMEOUT_S = 123.0
NETWORK_RETRY_S = 2.0
DEADLINE = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
ENDED = ("Succeeded", "Failed")


@dataclass
class PodSync:
    """Syncs Pods, one after the other or several at a time; the Worker holds what belongs to one Pod."""

    cri: CriClient
    runtime: Runtime
    state: RuntimeState
    recorder: EventRecorder
    writer: StatusManager
    prober: Prober
    images: Images
    objects: Objects
    volumes: Volumes
    cgroups: Cgroups
    configuration: Configuration
    crashes: Backoff
    host_ip: str
    time_scale: float = 1.0
    room: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(AT_ONCE))

    def __post_init__(self) -> None:
        self.stopping = Stopping(self.cri, self.recorder)
        self.starting = Starting(
            self.cri,
            self.runtime,
            self.recorder,
            self.images,
            self.objects,
            self.configuration,
            self.crashes,
            self.stopping,
            self.host_ip,
            self.room,
        )

    # One Pod

    def sync(self, worker: Worker) -> float | None:
        """Look at the Pod and do what it needs. Returns after how many seconds to look again, None: when something happens.

        Raises CriError while the runtime does not answer.
        """
        worker.runtime = self.runtime.pod(worker.uid)
        self.end_left(worker)
        if worker.ended and not worker.deleted:
            return None
        if worker.deleted or worker.ending:
            return self.end(worker)
        self.adopt(worker)
        if self.deadline_left(worker) == 0:
            self.recorder.pod_event(worker.pod, "Normal", *DEADLINE)
            worker.killed = DEADLINE
            return self.end(worker)
        if self.report(worker) in ENDED:
            return self.end(worker)
        try:
            self.need_network(worker)
            self.need_cgroup(worker)
            self.need_volumes(worker)
            worker.logins = self.starting.logins(worker.pod)
            self.prober.add(worker.pod)
            while self.act(worker, compute_actions(worker.pod, worker.runtime, self.prober.results(worker.uid))):
                self.report(worker)
        except RequeueAfter as later:
            worker.runtime = self.runtime.pod(worker.uid)
            self.report(worker)
            return min(later.seconds, self.next_look(worker), SOON_S if later.tried and self.left_over(worker) else later.seconds)
        if self.report(worker) in ENDED:
            return self.end(worker)
        return SOON_S if self.left_over(worker) else self.next_look(worker)

    def act(self, worker: Worker, actions: Actions) -> bool:
        """Carry the actions out; whether there may be more to do at once. Raises Later."""
        if actions.kill_pod:
            if actions.sandbox and worker.runtime.sandboxes:
                words = "Pod sandbox changed, it will be killed and re-created."
                self.recorder.pod_event(worker.pod, "Normal", "SandboxChanged", words)
            self.stopping.stop_containers(worker, self.grace(worker))
            self.stopping.stop_sandboxes(worker)
            if not actions.sandbox:
                worker.runtime = self.runtime.pod(worker.uid)
                return False
        for kill in actions.kill:
            seconds = self.grace(worker, (kill.spec.get(f"{kill.why}Probe") or {}).get("terminationGracePeriodSeconds"))
            self.stopping.stop_container(worker, kill.spec, kill.container, seconds, kill.message)
        if actions.kill:
            worker.runtime = self.runtime.pod(worker.uid)
        if not (actions.init or actions.start or actions.sandbox):
            return False
        with self.room:
            sandbox_id, config, ips = self.need_sandbox(worker, actions)
            waits: list[float] = []
            for container in (*actions.init, *actions.start):
                try:
                    self.starting.start(worker, container, sandbox_id, config, ips, self.grace(worker))
                except StartError as error:
                    worker.reasons[container["name"]] = (error.reason, error.message)
                    waits.append(error.retry_s if error.retry_s is not None else self.retry())
                    if container in actions.init and not is_sidecar(container):
                        break
                else:
                    worker.reasons.pop(container["name"], None)
        if waits:
            raise RequeueAfter(min(waits), tried=True)
        worker.runtime = self.runtime.pod(worker.uid)
        return any(is_sidecar(container) for container in actions.init)

    def left_over(self, worker: Worker) -> bool:
        """Whether a container must start that this look has not tried: it ended while the look was busy with others."""
        actions = compute_actions(worker.pod, worker.runtime, self.prober.results(worker.uid))
        for container in () if actions.sandbox else (*actions.init, *actions.start):
            if container["name"] not in worker.reasons:
                return True
            if container in actions.init and not is_sidecar(container):
                break
        return False

    def end_left(self, worker: Worker) -> None:
        """Once for each container that has ended: nothing of it must run on beside the next one."""
        there = {container.id for container in worker.runtime.containers}
        worker.told &= there
        worker.seen_ended &= there
        for container in worker.runtime.containers:
            if container.state == EXITED and container.id not in worker.seen_ended:
                worker.seen_ended.add(container.id)
                if left := self.cgroups.end_left(worker.pod, container.id):
                    words = "%d processes of %s's %s ran on though the runtime says that it has ended: killed"
                    log.warning(words, left, worker.name, container.name)

    # What a Pod needs before its containers

    def need_network(self, worker: Worker) -> None:
        """A Pod with a network of its own waits until the runtime's is ready."""
        if worker.pod["spec"].get("hostNetwork") or (worker.runtime.sandboxes and worker.runtime.sandboxes[0].ready):
            return
        error = self.state.network_error()
        if error:
            self.recorder.pod_event(worker.pod, "Warning", "NetworkNotReady", f"network is not ready: {error}")
            raise RequeueAfter(NETWORK_RETRY_S)

    def need_cgroup(self, worker: Worker) -> None:
        if worker.cgroup:
            return
        try:
            self.configuration.mark(worker.uid)
            self.cgroups.make(worker.pod)
        except OSError as error:
            name = self.cgroups.name(worker.pod)
            words = f"unable to ensure pod container exists: failed to create container for {name} : {error}"
            self.recorder.pod_event(worker.pod, "Warning", "FailedCreatePodContainer", words)
            raise RequeueAfter(self.retry()) from None
        worker.cgroup = True

    def need_volumes(self, worker: Worker) -> None:
        """Set up every volume; what fails is tried again after half a second, then after twice the time before."""
        spec, now = worker.pod["spec"], time.monotonic()
        filled = any(volume_kind(volume) in FILLED for volume in spec.get("volumes", ()))
        if worker.mounted and not (filled and now - worker.refreshed > REFRESH_S):
            return
        try:
            self.configuration.make_directories(worker.pod)
        except OSError as error:
            words = f"error making pod data directories: {os_error(error, 'mkdir')}"
            self.recorder.pod_event(worker.pod, "Warning", "FailedToMakePodDataDirectories", words)
            raise RequeueAfter(self.retry()) from None
        failed = []
        for volume in spec.get("volumes", ()):
            try:
                self.volumes.set_up(worker.pod, volume, worker.runtime.ips)
            except MountError as error:
                self.recorder.pod_event(worker.pod, "Warning", "FailedMount", error.event())
                failed.append(volume["name"])
        worker.refreshed = now
        if not failed:
            worker.mounted, worker.mount_tries, worker.mount_since = True, 0, 0.0
        elif not worker.mounted:
            worker.mount_since = worker.mount_since or now
            if now - worker.mount_since > MOUNT_TIMEOUT_S * self.time_scale:
                worker.mount_since = now
                words = f"Unable to attach or mount volumes: unmounted volumes=[{' '.join(failed)}], unattached volumes=[], "
                words += "failed to process volumes=[]: context deadline exceeded"
                self.recorder.pod_event(worker.pod, "Warning", "FailedMount", words)
            wait = min(MOUNT_RETRY_S * 2**worker.mount_tries, MOUNT_RETRY_LONGEST_S)
            worker.mount_tries = min(worker.mount_tries + 1, 16)
            raise RequeueAfter(wait * self.time_scale)

    def need_sandbox(self, worker: Worker, actions: Actions) -> tuple[str, Any, Sequence[str]]:
        """Id, config and addresses of the Pod's sandbox, made where `actions` says so. Raises Later."""
        try:
            config = self.configuration.sandbox(worker.pod, actions.attempt, worker.seen)
            if not actions.sandbox:
                known = worker.runtime.sandboxes[0]
                return known.id, config, known.ips or self.node_ips(worker)
            handler = worker.pod["spec"].get("runtimeClassName", "")
            sandbox_id = self.cri.run_pod_sandbox(config=config, runtime_handler=handler).pod_sandbox_id
        except (CriError, HostnameError, OSError) as error:
            if isinstance(error, CriError) and RESERVED in error.message:  # an earlier kubelet's call is still under way
                raise RequeueAfter(SOON_S) from None
            words = rpc_error(error) if isinstance(error, CriError) else str(error)
            self.recorder.pod_event(worker.pod, "Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {words}")
            raise RequeueAfter(self.retry()) from None
        worker.runtime = self.runtime.pod(worker.uid)
        box = next((s for s in worker.runtime.sandboxes if s.id == sandbox_id), None)
        if box is None or not (box.ips or box.host_network):
            raise RequeueAfter(SOON_S)
        self.report(worker)
        return sandbox_id, config, box.ips or self.node_ips(worker)

    # The end of a Pod

    def end(self, worker: Worker) -> float | None:
        """Stop what runs; then, for a Pod that was deleted, remove all of it and let the API forget it."""
        worker.ending = True
        self.prober.remove(worker.uid, only=("liveness", "startup"))
        self.report(worker)
        self.stopping.stop_containers(worker, self.grace(worker))
        with self.room:
            self.stopping.stop_sandboxes(worker)
            worker.runtime = self.runtime.pod(worker.uid)
            if worker.runtime.running or any(box.ready for box in worker.runtime.sandboxes):
                return SOON_S
            worker.ended, deleted = True, worker.deleted
            if deleted:
                for container in worker.runtime.containers:
                    self.stopping.remove_container(container.id)
                for box in worker.runtime.sandboxes:
                    self.stopping.remove_sandbox(box.id)
        self.prober.remove(worker.uid)
        self.report(worker)
        self.cgroups.remove(worker.uid)
        worker.cgroup = worker.mounted = False
        if deleted:
            self.configuration.remove_logs(worker.pod)
        self.configuration.mark(worker.uid)  # for a call of an earlier kubelet, which may be under way
        self.volumes.remove(worker.uid, everything=deleted)
        if deleted:
            self.crashes.forget(f"{worker.uid}_")
            self.images.forget(worker.uid)
            self.runtime.forget(worker.uid)
            if not worker.removed:
                self.writer.delete(worker.pod)
            worker.gone = True
        return None

    # What is known of a Pod

    def report(self, worker: Worker) -> str:
        """Work out the Pod's status from what is known now, and have the API know it. Returns the Pod's phase.

        The API learns that a Pod succeeded or failed when nothing of it runs any more, and not before (mergePodStatus).
        """
        ran = worker.runtime.running and not worker.ended
        facts = Facts(
            host_ip=self.host_ip,
            runtime_name=self.runtime.name,
            before=worker.status,
            now=time.time(),
            probed=self.prober.results(worker.uid),
            reasons=worker.reasons,
            terminated=worker.killed,
            done=worker.ended,
            recursive=self.state.read_only_recursively(worker.pod["spec"].get("runtimeClassName", "")),
            memory_limit=self.cgroups.memory_limit(worker.pod) if ran or worker.cgroup else None,
        )
        status = pod_status(worker.pod, worker.runtime, facts)
        phase = str(status["phase"])
        if phase in ENDED and not worker.ended:
            status = {key: value for key, value in status.items() if key not in ("phase", "reason", "message")}
            status.update({key: worker.status[key] for key in ("phase", "reason", "message") if key in worker.status})
        worker.status = status
        if not worker.removed:
            self.writer.set(worker.pod, status)
        return phase

    def adopt(self, worker: Worker) -> None:
        """Once for each Pod after a start of the kubelet: take up the crash back-offs where the kubelet before left them."""
        if worker.adopted:
            return
        worker.adopted = True
        for container in (*worker.pod["spec"].get("initContainers", ()), *worker.pod["spec"]["containers"]):
            newest = worker.runtime.newest(container["name"])
            if newest is not None and newest.attempt:
                self.crashes.remember(backoff_key(worker, container), newest.attempt, newest.created / 1e9)

    def next_look(self, worker: Worker) -> float:
        """Seconds until the Pod must be looked at though nothing happened: its deadline, or volumes to bring up to date."""
        filled = any(volume_kind(volume) in FILLED for volume in worker.pod["spec"].get("volumes", ()))
        left = self.deadline_left(worker)
        return min(REFRESH_S * random.uniform(1.0, 1.5) if filled else 600.0, 600.0 if left is None else max(left, 0.1))

    def deadline_left(self, worker: Worker) -> float | None:
        """Seconds left of activeDeadlineSeconds, 0 when they are over, None where there are none."""
        deadline, started = worker.pod["spec"].get("activeDeadlineSeconds"), worker.status.get("startTime")
        if deadline is None or not started or worker.status.get("phase") in ENDED:
            return None
        since = datetime.strptime(started, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
        return max(deadline - (time.time() - since), 0.0)

    def grace(self, worker: Worker, of_probe: int | None = None) -> int:
        """Seconds that a container has to stop: at least one, as the kubelet has it."""
        if worker.grace is not None:
            return max(worker.grace, 1)
        given = worker.pod["metadata"].get("deletionGracePeriodSeconds")
        if given is None:
            given = of_probe if of_probe is not None else worker.pod["spec"]["terminationGracePeriodSeconds"]
        return max(int(given), 1)

    def node_ips(self, worker: Worker) -> Sequence[str]:
        return (self.host_ip,) if worker.pod["spec"].get("hostNetwork") else ()

    def retry(self) -> float:
        """Seconds until a Pod that failed is tried again, without a back-off of its own."""
        return RETRY_S * random.uniform(1.0, 1.5) * self.time_scale
