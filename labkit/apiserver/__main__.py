"""`python -m labkit.apiserver --data DIR --run DIR [--port N]`: serve until SIGTERM.

`data` keeps the objects, the token and the certificate; `run` gets the kubeconfig once the API answers. With `--socket` it also
serves connections that others accepted and hand over there (see `take_over`): those of a machine that cannot reach its port.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from tornado.httpserver import HTTPServer
from tornado.netutil import add_accept_handler, bind_sockets

from labkit.apiserver.controllers.claims import Binder
from labkit.apiserver.controllers.event_expiry import EventExpiry
from labkit.apiserver.controllers.namespaces import NamespaceController
from labkit.apiserver.controllers.nodes import NodeLifecycleController
from labkit.apiserver.controllers.owner_references import DependentsCollector
from labkit.apiserver.controllers.pod_claims import EphemeralClaims, StorageProtection
from labkit.apiserver.controllers.scheduler import Scheduler
from labkit.apiserver.controllers.taints import TaintEviction
from labkit.apiserver.http import credentials
from labkit.apiserver.http.connections import Connections
from labkit.apiserver.http.exchange import Context
from labkit.apiserver.http.server import application
from labkit.apiserver.objects.rest import Api
from labkit.apiserver.storage.store import Store
from labkit.util.showable import start_log
from labkit.util.unix_sockets import private_socket

log = logging.getLogger("kubeapi")

HOST = "127.0.0.1"
IDLE_S = 90.0
"""How long a connection may be idle between two requests, as in kube-apiserver (k8s.io/apiserver, IdleTimeout)."""
BODY_WITHIN_S = 60.0
HANDED_WITHIN_S = 0.5
LOCK_WITHIN_S = 5.0
CONTROLLERS = (
    Scheduler, Binder, NodeLifecycleController, TaintEviction, NamespaceController, DependentsCollector, EphemeralClaims,
    StorageProtection, EventExpiry,
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m labkit.apiserver", description="labkit's stand-in for kube-apiserver")
    parser.add_argument("--data", type=Path, required=True, help="directory for what must last")
    parser.add_argument("--run", type=Path, required=True, help="directory for the kubeconfig")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0: the last one, or any")
    parser.add_argument("--socket", type=Path, help="Unix socket on which connections are handed over")
    arguments = parser.parse_args()
    start_log()
    logging.getLogger("tornado.access").disabled = True
    for directory in (arguments.data, arguments.run):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.umask(0o077)
    asyncio.run(serve(arguments.data, arguments.run, arguments.port, arguments.socket))


async def serve(data: Path, run: Path, port: int, handed_over: Path | None = None) -> None:
    """Serve the API on loopback until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    lock = await only_one(data)
    kubeconfig = run / "kubeconfig"
    kubeconfig.unlink(missing_ok=True)
    context, token = credentials.tls(data), credentials.token(data)
    store = Store(data / "objects.sqlite")
    api = Api(store)
    shared = Context(api, run, token)
    server = HTTPServer(application(shared), max_body_size=1 << 40, idle_connection_timeout=IDLE_S, body_timeout=BODY_WITHIN_S)
    connections = Connections(server, context)
    shared.prove = connections.prove
    (listening,) = listen(data, port)
    endings = [connections.accept_from(listening)]
    if handed_over:
        endings.append(take_over(handed_over, connections.take))
    jobs = [asyncio.create_task(controller(api).run()) for controller in CONTROLLERS]
    credentials.write_kubeconfig(kubeconfig, listening.getsockname()[1], data, token)
    log.info("serving on %s:%d", *listening.getsockname())
    await stop.wait()
    kubeconfig.unlink(missing_ok=True)
    for end_accepting in endings:
        end_accepting()
    for job in jobs:
        job.cancel()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(server.close_all_connections(), 2)
    listening.close()
    store.close()
    lock.close()
    log.info("ended")


def take_over(path: Path, greet: Callable[[socket.socket, Any], None]) -> Callable[[], None]:
    """Serve each connection whose file descriptor comes with a byte (man 7 unix, SCM_RIGHTS) on the socket `path`, mode 0600.

    Returns what ends that.
    """
    listening = private_socket(path)
    listening.setblocking(False)

    def receive(giver: socket.socket, address: Any) -> None:
        giver.settimeout(HANDED_WITHIN_S)
        with giver, contextlib.suppress(OSError):
            for descriptor in socket.recv_fds(giver, 1, 1)[1]:
                connection = socket.socket(fileno=descriptor)
                greet(connection, connection.getpeername())

    end = add_accept_handler(listening, receive)

    def close() -> None:
        end()
        listening.close()
        path.unlink(missing_ok=True)

    return close


async def only_one(data: Path) -> TextIO:
    """A lock on the directory, which two processes would spoil; one that is just ending is waited for. Raises SystemExit."""
    file = (data / "lock").open("w")
    for _ in range(int(LOCK_WITHIN_S * 10)):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except OSError:
            await asyncio.sleep(0.1)
    raise SystemExit(f"Another API serves {data}. End that one first.")


def listen(data: Path, port: int) -> list[socket.socket]:
    """A listening socket, on the port of the last time if nobody took it: kubeconfigs that were copied stay right."""
    kept = data / "port"
    wanted = [port] if port else []
    with contextlib.suppress(OSError, ValueError):
        wanted.append(int(kept.read_text()))
    for each in [*wanted, 0]:
        try:
            sockets = bind_sockets(each, HOST, socket.AF_INET)
        except (OSError, OverflowError):
            continue
        credentials.write_private(kept, str(sockets[0].getsockname()[1]))
        return sockets
    raise SystemExit(f"No port on {HOST} can be listened on.")


if __name__ == "__main__":
    main()
