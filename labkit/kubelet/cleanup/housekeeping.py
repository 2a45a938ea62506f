"""Garbage collection: the kubelet's own Pods that the API no longer has, containers that ended long ago, logs that grow too long.

Only Pods that this kubelet has marked as its own (`Configuration.mark`) are touched. A real one removes every sandbox whose uid
it does not know; on a lab's node sandboxes made by hand are part of the lesson. No path is built
from the runtime's answers alone.

Knowledge: kubelet_pods.go (HandlePodCleanups), kuberuntime_gc.go, kubelet's logs/container_log_manager.go.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.cri import CriClient
from labkit.cri.v1 import api_pb2 as pb
from labkit.kubelet.containers.configuration import Configuration
from labkit.kubelet.core.pleg import RuntimeList
from labkit.kubelet.core.stopping import gone_is_fine
from labkit.kubelet.resources.pod_cgroups import PodCgroups
from labkit.kubelet.volumes.pod_volumes import Volumes
from labkit.podspec.messages.configs import CONTAINER_NAME
from labkit.util.safepath import component
from labkit.util.trees import remove

log = logging.getLogger("kubelet")

KEPT = 1
"""Dead containers kept for each name, beside the newest (maxPerPodContainerCount)."""
MARK_KEPT_S = 600.0
LOG_BYTES, LOG_FILES = 10 * 1024 * 1024, 5


@dataclass(frozen=True)
class Housekeeping:
    cri: CriClient
    configuration: Configuration
    volumes: Volumes
    cgroups: PodCgroups

    def orphans(self, listed: RuntimeList, known: Collection[str]) -> list[str]:
        """The uids of this kubelet's Pods that the runtime has and the API has not."""
        return [uid for uid in listed.uids - set(known) if self.configuration.marked(uid)]

    def remove_orphan(self, listed: RuntimeList, uid: str) -> None:
        """Stop and remove all of a Pod that the API no longer has; its containers get one second. Raises CriError."""
        log.info("removing the orphaned Pod %s", uid)
        for container in listed.containers.get(uid, ()):
            if container.state != pb.CONTAINER_EXITED:  # one that was not started yet may be by now
                gone_is_fine(self.cri.stop_container, container_id=container.id, timeout=1)
            gone_is_fine(self.cri.remove_container, container_id=container.id)
        for box in listed.sandboxes.get(uid, ()):
            gone_is_fine(self.cri.stop_pod_sandbox, pod_sandbox_id=box.id)
            gone_is_fine(self.cri.remove_pod_sandbox, pod_sandbox_id=box.id)
        self.remove_traces(uid)

    def remove_traces(self, uid: str) -> None:
        """Cgroup, logs and directory of a Pod of which only the uid is known. Raises OSError."""
        if not self.cgroups.remove(component(uid, "uid")):
            return
        with contextlib.suppress(FileNotFoundError):
            for directory in os.scandir(self.configuration.logs):
                if directory.name.split("_", 2)[2:] == [uid]:  # NAMESPACE_NAME_UID
                    remove(Path(directory.path))
        self.configuration.mark(uid)
        self.volumes.remove(uid)

    def stale_traces(self, owned: Callable[[], Collection[str]]) -> list[str]:
        """The uids of Pods of this kubelet of which only files are left. `owned()` says which Pods the API or the runtime has; it
        is asked after the directories were looked at, so that a Pod which comes meanwhile is no stranger."""
        with contextlib.suppress(OSError):
            there = {entry.name for entry in os.scandir(self.configuration.root / "pods")}
            return [uid for uid in there.difference(owned()) if self.configuration.marked(uid)]
        return []

    def forget_marks(self, listed: RuntimeList, known: Collection[str]) -> None:
        """Remove the marks of Pods that ended a while ago: until then a call of a killed kubelet may still make a sandbox."""
        for uid, age_s in self.configuration.marks():
            if age_s > MARK_KEPT_S and uid not in listed.uids and uid not in known:
                self.configuration.forget_mark(uid)

    def collect(self, listed: RuntimeList, wanted: Callable[[str], bool]) -> None:
        """Remove containers that ended, but for the newest and one more of each name; and sandboxes that are not ready and not
        the Pod's newest. `wanted(uid)` says whether the Pod is one to tidy. Raises CriError."""
        for uid in filter(wanted, listed.uids):
            by_name: dict[str, list[Any]] = {}
            for container in sorted(listed.containers.get(uid, ()), key=lambda c: -c.created_at):
                by_name.setdefault(container.labels.get(CONTAINER_NAME, ""), []).append(container)
            for attempts in by_name.values():
                for container in attempts[1 + KEPT :]:
                    if container.state == pb.CONTAINER_EXITED:
                        gone_is_fine(self.cri.remove_container, container_id=container.id)
            boxes = sorted(listed.sandboxes.get(uid, ()), key=lambda s: -s.created_at)
            in_use = {container.pod_sandbox_id for container in listed.containers.get(uid, ())}
            for box in boxes[1:]:
                if box.state != pb.SANDBOX_READY and box.id not in in_use:
                    gone_is_fine(self.cri.stop_pod_sandbox, pod_sandbox_id=box.id)
                    gone_is_fine(self.cri.remove_pod_sandbox, pod_sandbox_id=box.id)

    def rotate_logs(self, listed: RuntimeList) -> None:
        """Put the log of a running container aside when it is longer than 10 MiB, and have the runtime open a new one."""
        running = {
            (uid, c.labels.get(CONTAINER_NAME), c.metadata.attempt): c.id
            for uid, containers in listed.containers.items()
            for c in containers
            if c.state == pb.CONTAINER_RUNNING and self.configuration.marked(uid)
        }
        for file in self.configuration.logs.glob("*/*/*.log"):
            if file.is_symlink() or file.stat().st_size <= LOG_BYTES:
                continue
            uid, name = file.parent.parent.name.rpartition("_")[2], file.parent.name
            container_id = running.get((uid, name, int(file.stem))) if file.stem.isdigit() else None
            if container_id:
                rotate(file)
                gone_is_fine(self.cri.reopen_container_log, container_id=container_id)


def rotate(file: Path) -> None:
    """0.log → 0.log.1, 0.log.1 → 0.log.2 …, five files in all."""
    for number in range(LOG_FILES - 1, 0, -1):
        older = file.with_name(f"{file.name}.{number}")
        newer = file if number == 1 else file.with_name(f"{file.name}.{number - 1}")
        with contextlib.suppress(FileNotFoundError):
            newer.rename(older)
