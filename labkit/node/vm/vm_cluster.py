"""A virtual machine as the node of a cluster: its kubelet, which runs inside, joined to the API, which runs here.

The kubelet was started before the machine was saved, and waits for a kubeconfig: it gets one at each start of the machine, after
the time. Its connections come over qemu's network, which leads nowhere else, and are handed over to the API
(`labkit.node.machine.hand_over`); the API reaches the kubelet's server, for logs and exec, through the door.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from labkit.node.host import relay
from labkit.node.host.services import Service
from labkit.node.lab import kubernetes
from labkit.node.machine import guest
from labkit.node.machine.machine import API_SOCKET, Machine
from labkit.node.vm import enter
from labkit.node.vm.vm_home import MachinePaths

RELAY = "kubelet"
"""The API looks for the kubelet at the socket of that name in the machine's home (`labkit.apiserver.http.kubelet_proxy`)."""
RESOLV_CONF = Path("/etc/resolv.conf")


def api(places: MachinePaths) -> Service:
    """The API, not started yet."""
    return kubernetes.api_service(places.home, "--socket", str(places.sockets / API_SOCKET))


def join(places: MachinePaths, machine: Machine, since: str, check_stop: Callable[[], None]) -> None:
    """Let the machine's kubelet in, and wait until its node is Ready. The API answers already. Raises MachineError, NodeError.

    since: the time before (RFC 3339), for a node of an earlier start is in the API, too. check_stop: raises what ends the
    waiting.
    """
    relay.start_relay(places.home, RELAY, relay.inside(places.enter_argv(), guest.KUBELET_SOCKET))
    # Of many machines that go on from one saved state, each has an id of its own (man 5 machine-id).
    machine_id = hashlib.sha256(str(places.home.run).encode()).hexdigest()[:32]
    arguments = (kubeconfig(places.home.kubeconfig), resolv_conf(), machine_id, f"{kubernetes.time_scale():g}")
    machine.tell(b" ".join(map(enter.quoted, ["sh", "-c", guest.JOIN_CLUSTER, "sh", *arguments])).decode())
    kubernetes.wait_node_ready(places.home, since, check_stop)


def part(places: MachinePaths) -> None:
    """Undo `join`, as far as it is on this side."""
    relay.stop_relay(places.home, RELAY)


def kubeconfig(path: Path) -> str:
    """The API's kubeconfig, for a client in the machine."""
    config = json.loads(path.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://{guest.API_NAME}:{guest.API_PORT}"
    return json.dumps(config)


def resolv_conf() -> str:
    """This machine's, as a runtime's own node would have it; what it names may not be reached from in there."""
    try:
        return RESOLV_CONF.read_text()
    except OSError:
        return ""
