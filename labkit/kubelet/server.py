"""The kubelet's own server: logs, exec, attach, port-forward, and what is used, for the API and nobody else.

It listens on 127.0.0.1 only and wants the token that is in its run directory (`kubelet.token`, mode 0600, which it writes unless
who started it did; `kubelet.port` has the port). Paths and parameters are the real kubelet's (pkg/kubelet/server), and those of
the metrics API for `kubectl top`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from pathlib import Path

from tornado import httpserver, netutil, web

from labkit.cri import CriClient
from labkit.kubelet.handlers import ContainerLogs, Elsewhere, GetPod, Healthz, NodeMetrics, PodMetrics, Resource, Served, Summary
from labkit.kubelet.stats import Stats
from labkit.kubelet.streaming import Attach, Exec, PortForward

TOKEN_FILE, PORT_FILE = "kubelet.token", "kubelet.port"
METRICS = "/apis/metrics.k8s.io/v1beta1"
ROUTES: list[tuple[str, type[web.RequestHandler]]] = [
    (r"/healthz", Healthz),
    (r"/containerLogs/([^/]+)/([^/]+)/([^/]+)", ContainerLogs),
    (r"/exec/([^/]+)/([^/]+)/([^/]+)", Exec),
    (r"/attach/([^/]+)/([^/]+)/([^/]+)", Attach),
    (r"/portForward/([^/]+)/([^/]+)", PortForward),
    (r"/stats/summary", Summary),
    (r"/metrics/resource", Resource),
    (METRICS + r"/nodes(?:/([^/]+))?", NodeMetrics),
    (METRICS + r"/pods", PodMetrics),
    (METRICS + r"/namespaces/([^/]+)/pods(?:/([^/]+))?", PodMetrics),
]


class Server(threading.Thread):
    """Serves in a thread of its own. `port` is known once it is made; `start()` begins to answer."""

    def __init__(self, cri: CriClient, run: Path, node: str, get_pod: GetPod, port: int = 0) -> None:
        super().__init__(name="server", daemon=True)
        self.served = Served(cri, get_pod, Stats(cri, node), token_in(run / TOKEN_FILE))
        self.sockets = netutil.bind_sockets(port, "127.0.0.1")
        self.port = int(self.sockets[0].getsockname()[1])
        write_private(run / PORT_FILE, str(self.port))

    def run(self) -> None:
        asyncio.run(self.serve())

    async def serve(self) -> None:
        served = {"served": self.served}
        routes = [(path, handler, served) for path, handler in ROUTES]
        application = web.Application(routes, log_function=lambda handler: None, default_handler_class=Elsewhere,
                                      default_handler_args=served)  # fmt: skip
        httpserver.HTTPServer(application).add_sockets(self.sockets)
        await asyncio.Event().wait()


def token_in(path: Path) -> str:
    """The token that is there, else a new one, which is there from now on."""
    if not path.exists() or not path.read_text().strip():
        write_private(path, secrets.token_urlsafe(32))
    return path.read_text().strip()


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    new.replace(path)
