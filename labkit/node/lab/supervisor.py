"""The background process that owns a private node: `python -m labkit.node.lab.supervisor`.

Notebooks come and go, and this process stays. It makes the bridge and the configuration, starts the two registries, containerd,
the Kubernetes API and the kubelet, restarts and logs what dies, and takes everything down on SIGTERM. It writes its state to
`node.json`, which `labkit status` and `labkit.connect` read.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import time

from labkit.node.host import containerd_setup, lab_processes, links
from labkit.node.host.services import Service, limit_size
from labkit.node.lab import kubernetes, owner_process
from labkit.node.lab.control import Control
from labkit.node.lab.garbage_collection import GarbageCollector
from labkit.node.lab.runtime_controller import PrivateRuntimeController
from labkit.node.state import status
from labkit.node.state.home import Home
from labkit.util.errors import NodeError

log = logging.getLogger("labkit")

LOOK_EVERY_S, LOGS_EVERY_S = 0.1, 10.0
START_AGAIN_S = 5.0
"""The time until a program that could not be started (full disk, too many processes) is tried again."""


class Stop(Exception):
    """The owner was asked to stop, and can stop here."""


class StopRequest:
    """Whether SIGTERM or SIGINT came. It interrupts nothing: `check_stop` is called where it is safe to stop."""

    def __init__(self) -> None:
        self.to_stop = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.on_signal)

    def on_signal(self, number: int, frame: object) -> None:
        self.to_stop = True

    def check_stop(self) -> None:
        if self.to_stop:
            raise Stop


def main() -> int:
    """Own the node of the home that the environment names, until SIGTERM. Exit code 1 when another process owns it."""
    home = Home.find()
    stop_request = StopRequest()
    lock = owner_process.become_owner(home, "labkit")
    if lock is None:
        return 1
    services: list[Service] = []
    control = None
    code = 0
    try:
        status.write(home, time_scale=kubernetes.time_scale())
        lab_processes.end_orphaned_daemons(home)
        control = Control(home)
        services = [*containerd_setup.services(home), *kubernetes.services(home)]
        collector = GarbageCollector(home)
        controller = PrivateRuntimeController(home, services, lambda each: each.wait_ready(stop_request.check_stop), collector)
        bring_up(home, services, stop_request)
        log.info("node is ready")
        watch(home, services, stop_request, control, controller)
    except Stop:
        log.info("asked to stop")
    except (NodeError, OSError, ValueError) as error:
        log.error("%s", error)
        status.write(home, state="failed", error=str(error))
        code = 1
    except Exception as error:
        log.exception("the node failed")
        status.write(home, state="failed", error=f"{type(error).__name__}: {error}")
        code = 1
    if control:
        control.close()
    for service in reversed(services):
        service.stop()
    with contextlib.suppress(OSError):
        links.remove_links(home.bridge)
    if code == 0:
        status.remove(home)
    log.info("node is down")
    return code


def bring_up(home: Home, services: list[Service], stop_request: StopRequest) -> None:
    """Start every service and wait until each answers."""
    stop_request.check_stop()
    containerd_setup.prepare(home)
    for service in services:
        stop_request.check_stop()
        service.start()
    for service in services:
        service.wait_ready(stop_request.check_stop)
    kubernetes.wait_node_ready(home)
    version = containerd_setup.runtime_version(home.socket)
    status.write(home, state="ready", runtime=version, processes={s.name: s.process.pid for s in services if s.process})


def watch(
    home: Home, services: list[Service], stop_request: StopRequest, control: Control, controller: PrivateRuntimeController
) -> None:
    """Restart what dies, carry out requests, and limit the size of logs, until a stop is requested."""
    logs_at = time.monotonic()
    while True:
        stop_request.check_stop()
        if time.monotonic() > logs_at:
            logs_at = time.monotonic() + LOGS_EVERY_S
            for file in (home.log_file, *(service.output for service in services)):
                limit_size(file)
        for service in services:
            if service.due():
                try:
                    service.start()
                except OSError as error:
                    log.error("%s cannot be started now: %s", service.name, error)
                    service.not_before = time.monotonic() + START_AGAIN_S
                    continue
                status.write(home, state="restarting", restarting=service.name)
                try:
                    service.wait_ready(stop_request.check_stop)
                except NodeError as error:
                    log.error("%s", error)
                    continue
                log.info("%s answers again", service.name)
                state = "stopped" if any(s.held for s in services) else "ready"
                status.write(home, state=state, restarting=None, processes={s.name: s.process.pid for s in services if s.process})
        if request := control.next(LOOK_EVERY_S):
            controller.answer(request)
        controller.collect_garbage()


if __name__ == "__main__":
    sys.exit(main())
