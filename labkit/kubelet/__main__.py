"""`python -m labkit.kubelet`: the lab kubelet as a process of its own, until SIGTERM. Pods run on when it ends."""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from labkit.cri import CriClient, CriError
from labkit.kubelet.api import ApiClient
from labkit.kubelet.backoff import Backoff
from labkit.kubelet.cleanup.eviction import Eviction
from labkit.kubelet.cleanup.housekeeping import Housekeeping
from labkit.kubelet.cleanup.loop import CleanupLoop
from labkit.kubelet.containers.configuration import Configuration
from labkit.kubelet.containers.images import ImageManager
from labkit.kubelet.containers.probes import Prober
from labkit.kubelet.containers.pull_secrets import Pulled
from labkit.kubelet.core.kubelet import Kubelet
from labkit.kubelet.core.pleg import Pleg
from labkit.kubelet.core.runtime import Runtime
from labkit.kubelet.core.sync import PodSync
from labkit.kubelet.node import node_info as node_machine
from labkit.kubelet.node.admission import Admission, apparmor_enabled
from labkit.kubelet.node.events import EventRecorder
from labkit.kubelet.node.node_health import RuntimeState
from labkit.kubelet.node.node_status import NodeFacts, NodeStatus
from labkit.kubelet.node.status_manager import StatusManager
from labkit.kubelet.resources.pod_cgroups import PodCgroups
from labkit.kubelet.server.kubelet_server import Server
from labkit.kubelet.volumes.manager import VolumeManager
from labkit.kubelet.volumes.objects import Objects
from labkit.kubelet.volumes.pod_volumes import Volumes
from labkit.podspec.messages import MachineInfo, dns
from labkit.util.outputs import owners_alone
from labkit.util.showable import start_log

log = logging.getLogger("kubelet")

BACKOFF_S, BACKOFF_LONGEST_S = 10.0, 300.0
LOOK_EVERY_S = 0.1


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m labkit.kubelet", description="The lab kubelet: runs the Pods that a Kubernetes API binds to this node."
    )
    parser.add_argument(
        "--kubeconfig", type=Path, required=True, help="file that says how to reach the API; one that is not there is waited for"
    )
    parser.add_argument("--endpoint", required=True, help="unix:///path of the runtime's CRI socket")
    parser.add_argument("--node-name", default="sim-worker")
    parser.add_argument("--root", type=Path, required=True, help="directory for Pods' volumes and files")
    parser.add_argument("--logs", type=Path, required=True, help="directory for containers' logs")
    parser.add_argument("--run", type=Path, required=True, help="directory for this run's files, its server's socket among them")
    parser.add_argument("--host-paths", type=Path, help="where hostPath volumes may lie (default: ROOT/../hostpath)")
    parser.add_argument("--cgroup-root", default="/labkit", help="cgroup below which Pods' cgroups are made")
    parser.add_argument("--cgroup-driver", default="cgroupfs", choices=("cgroupfs", "systemd"), help="the runtime's own")
    parser.add_argument("--host-ip", default="127.0.0.1", help="the node's address, as Pods reach it")
    parser.add_argument(
        "--time-scale", type=float, default=1.0, help="factor for back-offs, for lessons in a hurry: 0.1 makes ten seconds one"
    )
    return parser.parse_args(arguments)


def build(options: argparse.Namespace) -> Kubelet:
    """Everything put together, nothing started but the threads that wait for work. The one place where the CriClient is made."""
    facts, scale = NodeFacts(options.node_name, options.host_ip, options.root), options.time_scale
    cri = CriClient(options.endpoint)
    api = ApiClient(options.kubeconfig)
    host_paths = options.host_paths or options.root.parent / "hostpath"
    for directory in (options.root, options.logs, options.run, host_paths):
        directory.mkdir(parents=True, exist_ok=True)
    capacity = node_machine.Capacity.here(options.root)
    allocatable = capacity.as_allocatable(facts.reserved)
    machine = replace(MachineInfo.here(), allocatable=allocatable)
    recorder = EventRecorder(api, "kubelet", options.node_name)
    objects = Objects(api)
    volumes = Volumes(options.root, objects, api, machine, (host_paths,))
    cgroups = PodCgroups(options.cgroup_root, machine, allowance=capacity.allowance(facts.reserved), driver=options.cgroup_driver)
    pleg = Pleg(cri)
    state = RuntimeState(cri, pleg.errors)
    configuration = Configuration(
        root=options.root,
        logs=options.logs,
        cgroup_root=options.cgroup_root,
        host_ip=options.host_ip,
        machine=machine,
        objects=objects,
        volumes=volumes,
        dns=_node_dns(),
        cgroup_driver=options.cgroup_driver,
        recursive=state.read_only_recursively,
    )
    sync = PodSync(
        cri=cri,
        runtime=Runtime(cri),
        runtime_state=state,
        recorder=recorder,
        writer=StatusManager(api),
        prober=Prober(cri, recorder.pod_event),
        images=ImageManager(
            cri, Backoff(BACKOFF_S * scale, BACKOFF_LONGEST_S * scale), Pulled(options.root / "pulled-images.json")
        ),
        objects=objects,
        volumes=VolumeManager(volumes, recorder, scale),
        cgroups=cgroups,
        configuration=configuration,
        crashes=Backoff(BACKOFF_S * scale, BACKOFF_LONGEST_S * scale),
        host_ip=options.host_ip,
        time_scale=scale,
    )
    admission = Admission(
        api, options.node_name, node_machine.labels(options.node_name), allocatable, apparmor=apparmor_enabled()
    )
    kubelet = Kubelet(options.node_name, api, sync, pleg, admission)
    housekeeping = Housekeeping(cri, configuration, volumes, cgroups)
    CleanupLoop(kubelet, housekeeping, Eviction(cri, volumes, options.logs), recorder).start()
    NodeStatus(api, cri, facts, state, recorder).start()
    Server(cri, options.run, options.node_name, api.pod).start()
    return kubelet


def _node_dns() -> dns.Dns | None:
    try:
        return dns.of_node(Path("/etc/resolv.conf").read_text())
    except OSError:
        return None


def end_with(failed: threading.ExceptHookArgs) -> None:
    """A thread that dies takes the kubelet with it: the owner starts another, which takes up the Pods, where one without that
    thread would be deaf or idle for ever."""
    log.critical("the thread %s failed; the kubelet ends", failed.thread.name if failed.thread else "", exc_info=failed.exc_value)
    os._exit(1)


def wait_for(kubeconfig: Path) -> None:
    """Until the file is there. A kubelet that was started beforehand, on a machine that was then saved, begins with it."""
    if not kubeconfig.exists():
        log.info("waiting for %s", kubeconfig)
    while not kubeconfig.exists():
        time.sleep(LOOK_EVERY_S)


def runtime_lock(endpoint: str) -> TextIO:
    """The lock file of a runtime's one kubelet, next to the socket: only users who can reach the runtime can lock it."""
    place = Path(endpoint.removeprefix("unix://"))
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
    return open(place.with_name(f"{place.name}.kubelet"), "a", encoding="utf-8", opener=owners_alone)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    start_log(format="%(asctime)s %(levelname)s %(threadName)s %(message)s")
    if not 0 < options.time_scale <= 10:
        print(f"--time-scale {options.time_scale} is out of range.\nGive a number up to 10, e.g. 0.1.", file=sys.stderr)
        return 2
    os.umask(0o022)  # what containers see of its files does not depend on who started it
    options.root.mkdir(parents=True, exist_ok=True)
    lock = open(options.root / "kubelet.lock", "w", encoding="utf-8", opener=owners_alone)  # noqa: SIM115
    locks = [lock, runtime_lock(options.endpoint)]  # held until this process ends
    try:
        fcntl.flock(locks[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"Another kubelet runs with --root {options.root}.\nStop it first, or give this one another root.", file=sys.stderr)
        return 1
    try:
        fcntl.flock(locks[1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        words = "each would remove the other's Pods.\nStop it first, or give this one another runtime."
        print(f"Another kubelet runs Pods at {options.endpoint}: {words}", file=sys.stderr)
        return 1
    wait_for(options.kubeconfig)
    try:
        kubelet = build(options)
    except CriError as error:
        print(error, file=sys.stderr)
        return 1
    if options.time_scale != 1.0:
        node = {"kind": "Node", "name": options.node_name, "uid": options.node_name}
        words = f"back-offs are multiplied by {options.time_scale}: no real kubelet does that"
        kubelet.pod_sync.recorder.event(node, "Warning", "TimeScale", words)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    threading.excepthook = end_with
    threading.Thread(target=kubelet.run, name="kubelet", daemon=True).start()
    ended.wait()
    kubelet.pod_sync.recorder.flush(1.0)
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # threads that wait in the runtime must not hold the process
