"""The kubelet's own server: logs, exec, attach, port-forward, and what is used, for the API and nobody else.

It listens on a Unix socket of mode 0600 in its run directory and on nothing else: who may connect is the kernel's decision, so no
token is sent to a port that somebody else may have bound. Paths and parameters are the real kubelet's (pkg/kubelet/server), and
those of the metrics API for `kubectl top`.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tornado import httpserver, web

from labkit.cri import CriClient
from labkit.kubelet.server.handlers import (
    ContainerLogs,
    Elsewhere,
    GetPod,
    Healthz,
    NodeMetrics,
    PodMetrics,
    ResourceMetrics,
    Served,
    Summary,
)
from labkit.kubelet.server.stats import Stats
from labkit.kubelet.server.streaming import Attach, ExecStream, PortForward
from labkit.util.unix_sockets import private_socket

SOCKET = "kubelet.sock"
THREADS = 256
"""Calls of the runtime at a time. asyncio by itself takes few more than there are processors, and keeps the others waiting."""
METRICS = "/apis/metrics.k8s.io/v1beta1"
ROUTES: list[tuple[str, type[web.RequestHandler]]] = [
    (r"/healthz", Healthz),
    (r"/containerLogs/([^/]+)/([^/]+)/([^/]+)", ContainerLogs),
    (r"/exec/([^/]+)/([^/]+)/([^/]+)", ExecStream),
    (r"/attach/([^/]+)/([^/]+)/([^/]+)", Attach),
    (r"/portForward/([^/]+)/([^/]+)", PortForward),
    (r"/stats/summary", Summary),
    (r"/metrics/resource", ResourceMetrics),
    (METRICS + r"/nodes(?:/([^/]+))?", NodeMetrics),
    (METRICS + r"/pods", PodMetrics),
    (METRICS + r"/namespaces/([^/]+)/pods(?:/([^/]+))?", PodMetrics),
]


class Server(threading.Thread):
    """Serves in a thread of its own. The socket is there once it is made; `start()` begins to answer."""

    def __init__(self, cri: CriClient, run: Path, node: str, get_pod: GetPod) -> None:
        super().__init__(name="server", daemon=True)
        self.served = Served(cri, get_pod, Stats(cri, node))
        self.socket = private_socket(run / SOCKET)
        self.socket.setblocking(False)

    def run(self) -> None:
        asyncio.run(self.serve())

    async def serve(self) -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "server"))
        served = {"served": self.served}
        routes = [(path, handler, served) for path, handler in ROUTES]
        application = web.Application(routes, log_function=lambda handler: None, default_handler_class=Elsewhere,
                                      default_handler_args=served)
        httpserver.HTTPServer(application).add_socket(self.socket)
        await asyncio.Event().wait()
