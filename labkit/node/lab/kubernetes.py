"""The lab's own Kubernetes on a private node: its API and its kubelet, as services of the node's owner.

Each is a Python process of its own. The kubelet finds the API by the kubeconfig, and the API finds the kubelet by the socket in
the run directory. The API's objects survive `labkit down`: the next `up` starts its Pods again, as after a reboot.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from labkit.node.host.lab_processes import KUBEAPI, KUBELET, own_processes
from labkit.node.host.services import Service
from labkit.node.state.home import Home
from labkit.util.errors import NodeError
from labkit.util.progress import attempts
from labkit.util.termination import signal_all

NODE_NAME = "sim-worker"
TIME_SCALE = "LABKIT_TIME_SCALE"
"""Set by `labkit up --time-scale`, and read by the node's owner, which inherits it."""
READY_WITHIN_S = 60.0
ASK_WITHIN_S = 5.0
NO_HEADERS: Mapping[str, str] = {}


def services(home: Home) -> list[Service]:
    """kubeapi and kubelet, not started yet."""
    return [
        api_service(home),
        Service("kubelet", lambda: kubelet_argv(home), home.data / "kubelet.log", lambda: kubelet_answers(home)),
    ]


def api_service(home: Home, *more: str) -> Service:
    """kubeapi, not started yet; `more` goes on its command line."""
    argv = (sys.executable, "-m", KUBEAPI, "--data", str(home.data / "kubeapi"), "--run", str(home.run), *more)
    return Service("kubeapi", lambda: argv, home.data / "kubeapi.log", lambda: ask(home.kubeconfig, "/readyz"))


def kubelet_argv(home: Home) -> tuple[str, ...]:
    """The kubelet's command line. The node's network must be made: the node's address, at which Pods reach it, is the
    bridge's."""
    address = (home.data / "cni" / "address").read_text()
    return (
        sys.executable, "-m", KUBELET, "--kubeconfig", str(home.kubeconfig), "--endpoint", f"unix://{home.socket}",
        "--node-name", NODE_NAME, "--host-ip", address, "--root", str(home.kubelet_root),
        "--logs", str(home.log_root), "--cgroup-root", home.cgroup_root, "--run", str(home.run),
        "--time-scale", str(time_scale()),
    )


def time_scale() -> float:
    """The factor for the kubelet's back-offs that the node was brought up with (TIME_SCALE), 1.0 by default. Raises NodeError."""
    text = os.environ.get(TIME_SCALE) or "1"
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0 < scale <= 10:
        raise NodeError(f"The time scale {text} is not a number above 0 and up to 10.", "Give one such as 0.1, or none.")
    return scale


def wait_node_ready(home: Home, since: str = "", check_stop: Callable[[], None] = lambda: None) -> None:
    """Wait until the API has the node and calls it Ready. Raises NodeError.

    since: only what the kubelet said from then on counts (RFC 3339). check_stop: is called again and again, and may
    raise what ends the waiting.
    """
    reason = "the API does not answer"
    for _ in attempts(READY_WITHIN_S):
        check_stop()
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            ready = ready_condition(json.loads(ask(home.kubeconfig, f"/api/v1/nodes/{NODE_NAME}")))
            if ready.get("status") == "True" and ready.get("lastHeartbeatTime", "") >= since:
                return
            reason = ready.get("message") or reason
    log = home.data / "kubelet.log"
    raise NodeError(f"The node did not become Ready within {READY_WITHIN_S:.0f} s: {reason}", f"Its kubelet's log is {log}.")


def ready_condition(node: Any) -> dict[str, str]:
    return next((c for c in (node.get("status") or {}).get("conditions") or [] if c["type"] == "Ready"), {})


@contextlib.contextmanager
def kubelet_stopped(home: Home) -> Iterator[None]:
    """Suspend the kubelet while the block removes Pods, so that it does not start them again, and end it with the block.

    When the block fails, the kubelet resumes.
    """
    pids = [p.pid for p in own_processes(home) if p.module == KUBELET]
    signal_all(pids, signal.SIGSTOP)
    try:
        yield
    except BaseException:
        signal_all(pids, signal.SIGCONT)
        raise
    signal_all(pids, signal.SIGKILL)


def ask(kubeconfig: Path, path: str, within_s: float = ASK_WITHIN_S) -> bytes:
    """GET a path of the API. Raises OSError, ValueError or HTTPException; an answer other than 200 is an OSError."""
    config = json.loads(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cadata=b64decode(cluster["certificate-authority-data"]).decode())
    host = cluster["server"].removeprefix("https://")
    bearer = {"Authorization": f"Bearer {user['token']}"}
    return got(http.client.HTTPSConnection(host, timeout=within_s, context=context), path, bearer)


def kubelet_answers(home: Home, within_s: float = ASK_WITHIN_S) -> None:
    """Ask the kubelet's own server. Raises as `ask` does. It does not ask whether the node is Ready."""
    got(UnixConnection(home.kubelet_socket, within_s), "/healthz")


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket that only the lab's owner can have made, so no secret is needed to know who answers."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


def got(connection: http.client.HTTPConnection, path: str, headers: Mapping[str, str] = NO_HEADERS) -> bytes:
    """The body of an answer with status 200. Raises OSError for any other status."""
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = response.read()
    if response.status != 200:
        raise OSError(f"{path} answered {response.status}: {body[:200].decode(errors='replace')}")
    return body
