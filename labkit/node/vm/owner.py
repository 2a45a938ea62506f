"""The background process that owns a virtual machine: `python -m labkit.node.vm.owner HOME`.

Notebooks come and go; this process stays, and the machine ends with it, however it ends. It resumes the machine from its saved
state, boots it where that does not fit, keeps its clock right, and says in `node.json` how it is: also when qemu has ended.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from labkit.node.host import containerd_setup, lab_processes
from labkit.node.host.services import Service, limit_size
from labkit.node.lab import kubernetes, owner_process
from labkit.node.lab.control import Control
from labkit.node.machine import build, machine
from labkit.node.machine.machine import Machine, MachineError
from labkit.node.machine.packages import find_tools
from labkit.node.machine.tools import Tools
from labkit.node.state import status
from labkit.node.state.home import Home
from labkit.node.vm import clock, vm_cluster
from labkit.node.vm import vm_pods as vm_pods
from labkit.node.vm.vm_home import MachinePaths
from labkit.node.vm.vm_runtime_controller import VmRuntimeController

log = logging.getLogger("labkit")

LOOK_EVERY_S = 0.5
OFF_S = 0.5
"""The two clocks of this machine, of which one stands still while it sleeps, differ by more than before: it has slept."""


def main() -> int:
    """Own the machine of the home that the environment names, until SIGTERM. Exit code 1 when another process owns it."""
    home = Home.find()
    places = MachinePaths(home)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: sys.exit(0))
    lock = owner_process.become_owner(places.home, "labkit-vm")
    if lock is None:
        return 1
    running: list[Machine] = []
    services: list[Service] = []
    control = Control(places.home)
    try:
        own(home, places, running, services, control)
    except SystemExit:
        log.info("asked to stop")
        status.remove(places.home)
        places.noted.unlink(missing_ok=True)
        return 0
    except Exception as error:
        log.exception("the machine failed")
        status.write(places.home, state="failed", error=str(error) or type(error).__name__)
        return 1
    finally:
        control.close()
        places.door.unlink(missing_ok=True)
        for each in running:
            each.quit()
        vm_cluster.part(places)
        for service in services:
            service.stop()
    return 0


def own(home: Home, places: MachinePaths, running: list[Machine], services: list[Service], control: Control) -> None:
    """Start the machine and its cluster's API, then watch both. Returns by an exception only."""
    tools, image = find_tools(home.cache), build.find(home.cache)
    if tools is None or image is None:
        raise MachineError("The virtual machine is not built.")
    began, since = time.monotonic(), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    lab_processes.end(p for p in lab_processes.own_processes(places.home) if p.role == "daemon")
    places.sockets.mkdir(exist_ok=True, mode=0o700)
    services.append(vm_cluster.api(places))
    services[0].start()
    accelerator = machine.accelerator(tools)
    made, how = started(image, tools, accelerator, places.sockets, running)
    places.write_door(*made.door)
    set_clock(places)
    services[0].wait_ready()
    lost = lost_pods(places)
    noted = vm_pods.Noted(places.noted)
    noted.follow(places.door)
    vm_cluster.join(places, made, since, lambda: alive(made, noted, places))
    took = round(time.monotonic() - began, 1)
    log.info("the machine runs, %s, after %.1f s (%s)", how, took, accelerator)
    containerd_setup.choose(places.home, None)  # what was put into an earlier machine is gone with it
    status.write(
        places.home, state="ready", accelerator=accelerator, how=how, seconds=took, image=image.key, memory_mb=machine.MEMORY_MB,
        containerd=image.versions.get("containerd"), processes=processes(made, services[0]), time_scale=kubernetes.time_scale(),
        lost=lost or None,
    )
    watch(made, places, services[0], noted, VmRuntimeController(places), control)


def lost_pods(places: MachinePaths) -> list[str]:
    """The names of the Pods that an earlier machine had when it ended by accident, and that the API does not know."""
    noted = vm_pods.left_in(places.noted)
    return vm_pods.without(noted, known_to_api(places)) if noted else []


def known_to_api(places: MachinePaths) -> set[str]:
    pods = json.loads(kubernetes.ask(places.home.kubeconfig, "/api/v1/pods"))["items"]
    return {pod["metadata"]["uid"] for pod in pods}


def processes(made: Machine, api: Service) -> dict[str, int]:
    return {"qemu": made.process.pid, **({api.name: api.process.pid} if api.process else {})}


def set_clock(places: MachinePaths) -> None:
    try:
        log.info("the machine's clock is set, to %.1f ms", 1000 * clock.set_right(places.door))
    except (OSError, ValueError) as error:
        log.warning("the machine's clock could not be set: %s", error)


def started(
    image: build.MachineImage, tools: Tools, accelerator: str, sockets: Path, running: list[Machine]
) -> tuple[Machine, str]:
    """A machine that lets us in, and whether it was "resumed" or "booted": what was saved by another qemu, or is damaged, is
    not taken for an obstacle."""
    state = image.state(tools, accelerator)
    if state.exists():
        try:
            running.append(Machine(tools, image.disks, sockets, accelerator, incoming=state))
            running[-1].wait_for_state()
            running[-1].let_in(machine.RESUME_WITHIN_S)
            return running[-1], "resumed"
        except MachineError as error:
            log.warning("the saved state does not fit (%s); booting", error)
            running.pop().quit()
    running.append(Machine(tools, image.disks, sockets, accelerator))
    running[-1].let_in(machine.BOOT_WITHIN_S)
    running[-1].tell(build.READY, machine.BOOT_WITHIN_S)
    return running[-1], "booted, since no saved state fits"


def watch(
    made: Machine, places: MachinePaths, api: Service, noted: vm_pods.Noted, controller: VmRuntimeController, control: Control
) -> None:
    """Until qemu ends, which is an error with what it said; keep the machine's clock right and the API running, and do what is
    asked for."""
    ahead = time.time() - time.monotonic()
    while True:
        if request := control.next(LOOK_EVERY_S):
            controller.answer(request)
        controller.collect_garbage()
        alive(made, noted, places)
        if abs(time.time() - time.monotonic() - ahead) > OFF_S:
            ahead = time.time() - time.monotonic()
            log.info("the clock of this machine was set, or it has slept: setting the virtual one's")
            set_clock(places)
        limit_size(api.output)
        if api.due():
            api.start()
            status.write(places.home, processes=processes(made, api))


def alive(made: Machine, noted: vm_pods.Noted, places: MachinePaths) -> None:
    """Raises MachineError when qemu has ended, with what is lost."""
    if not (words := made.ended()):
        return
    lost = []
    with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
        lost = vm_pods.without(noted.sandboxes, known_to_api(places))
    raise MachineError(f"The virtual machine has ended: {words}" + (f" Lost with it: {', '.join(lost)}." if lost else ""))


if __name__ == "__main__":
    sys.exit(main())
