"""One Pod's life in a machine before its state is saved: what a Pod needs is then in its memory, and read from its disk no more.

Nothing of the Pod stays: no container, no address, no line in a log. Of its images the pause's does, as on a node that an
installer has made ready; a learner's first Pod pulls its own.
"""

from __future__ import annotations

from pathlib import Path

from labkit.cri import CriClient, CriError
from labkit.node.host import relay
from labkit.node.machine import guest
from labkit.node.machine.machine import Machine, MachineError
from labkit.node.pods import operations
from labkit.node.registry.course_images import BUSYBOX
from labkit.node.state.home import Home
from labkit.node.vm.vm_home import MachinePaths
from labkit.podspec import defaulted
from labkit.podspec.messages import container_config, sandbox_config

NAME = "warm"
WITHIN_S = 120.0
PARENT = f"/{NAME}"
"""The cgroup that the Pod's are below."""
FORGET = f"""
rm -r {guest.DIRECTORY}/cni /var/lib/cni; for log in /var/log/*; do : >$log; done
find /sys/fs/cgroup{PARENT} -depth -type d -exec rmdir {{}} ';'
""".strip().replace("\n", "; ")


def warm(machine: Machine, directory: Path) -> None:
    """Start a Pod in a machine that lets us in, run a command in its container, and remove all of it. `directory`: for sockets.

    Raises MachineError, NodeError.
    """
    places = MachinePaths(Home(directory / "run", directory / "data", directory))
    places.make()
    places.write_door(*machine.door)
    try:
        path = relay.start_relay(places.home, NAME, relay.inside(places.enter_argv(), guest.SOCKET))
        with CriClient(f"unix://{path}", timeout=WITHIN_S) as cri:
            live_once(cri)
    except CriError as error:
        raise MachineError(f"No Pod starts in the machine: {error.message}") from None
    finally:
        relay.stop_relay(places.home, NAME)
    machine.tell(FORGET, WITHIN_S)


def live_once(cri: CriClient) -> None:
    pod = defaulted(
        {"metadata": {"name": NAME}, "spec": {"containers": [{"name": NAME, "image": BUSYBOX, "command": ["sleep", "1000"]}]}}
    )
    sandbox = sandbox_config(pod, cgroup_driver="cgroupfs", cgroup_root=PARENT, log_root=f"/run/{NAME}")
    sandbox_id = cri.run_pod_sandbox(config=sandbox).pod_sandbox_id
    image = operations.pull_if_absent(cri, BUSYBOX)
    config = container_config(pod, NAME, image_ref=image)
    config.ClearField("mounts")  # of files that a kubelet would have made
    container = cri.create_container(pod_sandbox_id=sandbox_id, config=config, sandbox_config=sandbox).container_id
    cri.start_container(container_id=container)
    cri.exec_sync(container_id=container, cmd=["true"], timeout=int(WITHIN_S))
    operations.remove_sandbox(cri, sandbox_id)
    cri.remove_image(image={"image": image})
