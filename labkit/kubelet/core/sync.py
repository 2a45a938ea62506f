"""One Pod, brought to where its manifest wants it: the heart of a kubelet. Read `PodSync.sync` from top to bottom.

Knowledge: kubelet.go (SyncPod), kuberuntime_manager.go (SyncPod).
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from labkit.cri import CriClient, CriError
from labkit.kubelet.backoff import Backoff
from labkit.kubelet.containers.configuration import Configuration
from labkit.kubelet.containers.images import ImageManager, StartError
from labkit.kubelet.containers.probes import Prober
from labkit.kubelet.containers.pull_secrets import Login, pull_secrets
from labkit.kubelet.core.actions import Actions, compute_actions
from labkit.kubelet.core.pod_state import ENDED, PodStage, PodState
from labkit.kubelet.core.runtime import Runtime
from labkit.kubelet.core.starting import RESERVED, RETRY_S, SOON_S, PodSandbox, RequeueAfter, Starting, backoff_key
from labkit.kubelet.core.stopping import Stopping
from labkit.kubelet.go_format import os_error, rpc_error
from labkit.kubelet.node.events import EventRecorder
from labkit.kubelet.node.node_health import RuntimeState
from labkit.kubelet.node.status_manager import StatusManager
from labkit.kubelet.pod.pod_runtime import EXITED
from labkit.kubelet.pod.statuses import Facts, pod_status
from labkit.kubelet.resources.pod_cgroups import PodCgroups
from labkit.kubelet.volumes.manager import REFRESH_S, VolumeManager, is_filled
from labkit.kubelet.volumes.objects import Objects
from labkit.podspec.container_kinds import is_sidecar
from labkit.podspec.messages.hosts import HostnameError

log = logging.getLogger("kubelet")

AT_ONCE = 8
"""Pods that the runtime makes or removes at the same time: with more, two cores are slower (measured)."""
NETWORK_RETRY_S = 2.0
DEADLINE = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")


@dataclass
class PodSync:
    """Syncs Pods, one after the other or several at a time; what belongs to one Pod is in its PodState."""

    cri: CriClient
    runtime: Runtime
    runtime_state: RuntimeState
    recorder: EventRecorder
    writer: StatusManager
    prober: Prober
    images: ImageManager
    objects: Objects
    volumes: VolumeManager
    cgroups: PodCgroups
    configuration: Configuration
    crashes: Backoff
    host_ip: str
    time_scale: float = 1.0

    def __post_init__(self) -> None:
        self.room = threading.Semaphore(AT_ONCE)
        self.stopping = Stopping(self.cri, self.recorder)
        self.starting = Starting(
            cri=self.cri,
            runtime=self.runtime,
            recorder=self.recorder,
            images=self.images,
            configuration=self.configuration,
            crashes=self.crashes,
            stopping=self.stopping,
            host_ip=self.host_ip,
            room=self.room,
        )

    # One Pod

    def sync(self, state: PodState) -> float | None:
        """Look at the Pod and do what it needs. Returns the seconds until it must be synced again, None: when something happens.

        Raises CriError while the runtime does not answer.
        """
        self.read(state)
        self.end_left(state)
        if state.ended and not state.deleted:
            return None
        if state.deleted or state.progress.stage >= PodStage.TERMINATING:
            return self.end(state)
        self.adopt(state)
        if state.deadline_left_s() == 0:
            self.recorder.pod_event(state.pod, "Normal", *DEADLINE)
            state.progress.killed = DEADLINE
            return self.end(state)
        if self.report(state) in ENDED:
            return self.end(state)
        try:
            self.need_network(state)
            self.need_cgroup(state)
            self.need_volumes(state)
            logins = pull_secrets(self.objects, self.recorder, state.pod)
            self.prober.add(state.pod)
            while self.act(state, self.actions(state), logins):
                self.report(state)
        except RequeueAfter as later:
            self.read(state)
            self.report(state)
            return min(later.seconds, self.next_sync(state), SOON_S if later.tried and self.left_over(state) else later.seconds)
        if self.report(state) in ENDED:
            return self.end(state)
        return SOON_S if self.left_over(state) else self.next_sync(state)

    def read(self, state: PodState) -> None:
        """Ask the runtime what it holds of the Pod now. Raises CriError."""
        state.runtime = self.runtime.pod(state.uid)

    def actions(self, state: PodState) -> Actions:
        return compute_actions(state.pod, state.runtime, self.prober.results(state.uid))

    def act(self, state: PodState, actions: Actions, logins: Sequence[Login]) -> bool:
        """Carry the actions out; whether there may be more to do at once (SyncPod). Raises RequeueAfter."""
        if actions.kill_pod:
            if actions.sandbox and state.runtime.sandboxes:
                message = "Pod sandbox changed, it will be killed and re-created."
                self.recorder.pod_event(state.pod, "Normal", "SandboxChanged", message)
            self.stopping.stop_containers(state, state.grace_s())
            self.stopping.stop_sandboxes(state)
            if not actions.sandbox:
                self.read(state)
                return False
        for kill in actions.kill:
            seconds = state.grace_s((kill.spec.get(f"{kill.why}Probe") or {}).get("terminationGracePeriodSeconds"))
            self.stopping.stop_container(state, kill.spec, kill.container, seconds, kill.message)
        if actions.kill:
            self.read(state)
        if not (actions.starts or actions.sandbox):
            return False
        with self.room:
            sandbox = self.need_sandbox(state, actions)
            waits = self.start_containers(state, actions, sandbox, logins)
        if waits:
            raise RequeueAfter(min(waits), tried=True)
        self.read(state)
        return any(is_sidecar(container) for container in actions.init)

    def start_containers(self, state: PodState, actions: Actions, sandbox: PodSandbox, logins: Sequence[Login]) -> list[float]:
        """Start them one after the other. Returns for each that could not be started the seconds until the next try."""
        waits: list[float] = []
        for container in actions.starts:
            try:
                self.starting.start(state, container, sandbox, logins, state.grace_s())
            except StartError as error:
                state.progress.reasons[container["name"]] = (error.reason, error.message)
                waits.append(error.retry_s if error.retry_s is not None else self.retry())
                if container in actions.init and not is_sidecar(container):
                    break
            else:
                state.progress.reasons.pop(container["name"], None)
        return waits

    def left_over(self, state: PodState) -> bool:
        """Whether a container must start that this sync has not tried: it ended while the sync was busy with others."""
        actions = self.actions(state)
        for container in () if actions.sandbox else actions.starts:
            if container["name"] not in state.progress.reasons:
                return True
            if container in actions.init and not is_sidecar(container):
                break
        return False

    def end_left(self, state: PodState) -> None:
        """Once for each container that has ended: nothing of it must run on beside the next one."""
        there = {container.id for container in state.runtime.containers}
        state.progress.announced &= there
        state.progress.seen_ended &= there
        for container in state.runtime.containers:
            if container.state == EXITED and container.id not in state.progress.seen_ended:
                state.progress.seen_ended.add(container.id)
                if left := self.cgroups.end_left(state.pod, container.id):
                    message = "%d processes of %s's %s ran on though the runtime says that it has ended: killed"
                    log.warning(message, left, state.name, container.name)

    # What a Pod needs before its containers

    def need_network(self, state: PodState) -> None:
        """A Pod with a network of its own waits until the runtime's is ready."""
        if state.pod["spec"].get("hostNetwork") or (state.runtime.sandboxes and state.runtime.sandboxes[0].ready):
            return
        error = self.runtime_state.network_error()
        if error:
            self.recorder.pod_event(state.pod, "Warning", "NetworkNotReady", f"network is not ready: {error}")
            raise RequeueAfter(NETWORK_RETRY_S)

    def need_cgroup(self, state: PodState) -> None:
        if state.progress.cgroup:
            return
        try:
            self.configuration.mark(state.uid)
            self.cgroups.make(state.pod)
        except OSError as error:
            name = self.cgroups.name(state.pod)
            message = f"unable to ensure pod container exists: failed to create container for {name} : {error}"
            self.recorder.pod_event(state.pod, "Warning", "FailedCreatePodContainer", message)
            raise RequeueAfter(self.retry()) from None
        state.progress.cgroup = True

    def need_volumes(self, state: PodState) -> None:
        """Make the Pod's directories and set up its volumes, or bring them up to date (WaitForAttachAndMount)."""
        if self.volumes.up_to_date(state.pod):
            return
        try:
            self.configuration.make_directories(state.pod)
        except OSError as error:
            message = f"error making pod data directories: {os_error(error, 'mkdir')}"
            self.recorder.pod_event(state.pod, "Warning", "FailedToMakePodDataDirectories", message)
            raise RequeueAfter(self.retry()) from None
        wait_s = self.volumes.mount(state.pod, state.runtime.ips)
        if wait_s is not None:
            raise RequeueAfter(wait_s)

    def need_sandbox(self, state: PodState, actions: Actions) -> PodSandbox:
        """The Pod's sandbox, made where `actions` says so (createPodSandbox). Raises RequeueAfter."""
        try:
            config = self.configuration.sandbox(state.pod, actions.attempt, state.first_seen)
            for words in self.configuration.dns_words(state.pod):
                self.recorder.pod_event(state.pod, "Warning", "DNSConfigForming", words)
            if not actions.sandbox:
                known = state.runtime.sandboxes[0]
                return PodSandbox(known.id, config, known.ips or self.node_ips(state))
            handler = state.pod["spec"].get("runtimeClassName", "")
            sandbox_id = self.cri.run_pod_sandbox(config=config, runtime_handler=handler).pod_sandbox_id
        except (CriError, HostnameError, OSError) as error:
            if isinstance(error, CriError) and RESERVED in error.message:  # an earlier kubelet's call is still under way
                raise RequeueAfter(SOON_S) from None
            message = rpc_error(error) if isinstance(error, CriError) else str(error)
            self.recorder.pod_event(state.pod, "Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {message}")
            raise RequeueAfter(self.retry()) from None
        self.read(state)
        box = next((s for s in state.runtime.sandboxes if s.id == sandbox_id), None)
        if box is None or not (box.ips or box.host_network):
            raise RequeueAfter(SOON_S)
        self.report(state)
        return PodSandbox(sandbox_id, config, box.ips or self.node_ips(state))

    # The end of a Pod

    def end(self, state: PodState) -> float | None:
        """Stop what runs; then, for a Pod that was deleted, remove all of it and let the API forget it."""
        state.progress.reach(PodStage.TERMINATING)
        self.prober.remove(state.uid, only=("liveness", "startup"))
        self.report(state)
        self.stopping.stop_containers(state, state.grace_s())
        with self.room:
            self.stopping.stop_sandboxes(state)
            self.read(state)
            if state.runtime.running or any(box.ready for box in state.runtime.sandboxes):
                return SOON_S
            state.progress.reach(PodStage.TERMINATED)
            deleted = state.deleted
            if deleted:
                for container in state.runtime.containers:
                    self.stopping.remove_container(container.id)
                for box in state.runtime.sandboxes:
                    self.stopping.remove_sandbox(box.id)
        self.prober.remove(state.uid)
        self.report(state)
        self.cgroups.remove(state.uid)
        state.progress.cgroup = False
        if deleted:
            self.configuration.remove_logs(state.pod)
        self.configuration.mark(state.uid)  # for a call of an earlier kubelet, which may be under way
        self.volumes.remove(state.uid, everything=deleted)
        if deleted:
            self.crashes.forget(f"{state.uid}_")
            self.images.forget(state.uid)
            self.runtime.forget(state.uid)
            if not state.removed:
                self.writer.delete(state.pod)
            state.progress.reach(PodStage.FINISHED)
        return None

    # What is known of a Pod

    def report(self, state: PodState) -> str:
        """Work out the Pod's status from what is known now, and have the API know it. Returns the Pod's phase.

        The API learns that a Pod succeeded or failed when nothing of it runs any more, and not before (mergePodStatus).
        """
        ran = state.runtime.running and not state.ended
        facts = Facts(
            host_ip=self.host_ip,
            runtime_name=self.runtime.name,
            before=state.status,
            now=time.time(),
            probed=self.prober.results(state.uid),
            reasons=state.progress.reasons,
            terminated=state.progress.killed,
            done=state.ended,
            recursive=self.runtime_state.read_only_recursively(state.pod["spec"].get("runtimeClassName", "")),
            memory_limit=self.cgroups.memory_limit(state.pod) if ran or state.progress.cgroup else None,
        )
        status = pod_status(state.pod, state.runtime, facts)
        phase = str(status["phase"])
        if phase in ENDED and not state.ended:
            status = {key: value for key, value in status.items() if key not in ("phase", "reason", "message")}
            status.update({key: state.status[key] for key in ("phase", "reason", "message") if key in state.status})
        state.status = status
        if not state.removed:
            self.writer.set(state.pod, status)
        return phase

    def adopt(self, state: PodState) -> None:
        """Once for each Pod after a start of the kubelet: take up the crash back-offs where the kubelet before left them."""
        if state.progress.adopted:
            return
        state.progress.adopted = True
        for container in (*state.pod["spec"].get("initContainers", ()), *state.pod["spec"]["containers"]):
            newest = state.runtime.newest(container["name"])
            if newest is not None and newest.attempt:
                self.crashes.remember(backoff_key(state, container), newest.attempt, newest.created / 1e9)

    def next_sync(self, state: PodState) -> float:
        """Seconds until the Pod must be synced though nothing happened: its deadline, or volumes to bring up to date."""
        filled = is_filled(state.pod)
        left = state.deadline_left_s()
        return min(REFRESH_S * random.uniform(1.0, 1.5) if filled else 600.0, 600.0 if left is None else max(left, 0.1))

    def node_ips(self, state: PodState) -> Sequence[str]:
        return (self.host_ip,) if state.pod["spec"].get("hostNetwork") else ()

    def retry(self) -> float:
        """Seconds until a Pod that failed is tried again, without a back-off of its own."""
        return RETRY_S * random.uniform(1.0, 1.5) * self.time_scale
