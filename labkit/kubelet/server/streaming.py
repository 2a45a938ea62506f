"""Exec, attach and port-forward: streams that the runtime itself serves.

CRI answers each with a URL on the runtime's own loopback port; the upgraded connection (SPDY/3.1 or websocket) is passed on to it
byte for byte. Knowledge: kubelet's pkg/kubelet/server/server.go, CRI's Exec, Attach and PortForward.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from tornado.iostream import StreamClosedError
from tornado.tcpclient import TCPClient

from labkit.kubelet.server import containers
from labkit.kubelet.server.containers import NoContainer
from labkit.kubelet.server.handlers import KubeletHandler
from labkit.util.streams import relay


class Streaming(KubeletHandler):
    """An upgraded connection to the runtime's own streaming server."""

    async def pass_on(self, url: str) -> None:
        """Repeat the request there, and from then on copy what comes, both ways."""
        target = urlsplit(url)
        try:
            runtime = await TCPClient().connect(target.hostname or "127.0.0.1", target.port or 80, timeout=5)
        except (OSError, StreamClosedError, TimeoutError) as error:
            raise NoContainer(500, "InternalError", f"the runtime's streaming server does not answer: {error}") from None
        path = f"{target.path}?{target.query}" if target.query else target.path
        lines = [f"{self.request.method} {path} HTTP/1.1", f"Host: {target.netloc}"]
        kept = ((k, v) for k, v in self.request.headers.get_all() if k.lower() not in ("host", "authorization", "content-length"))
        head = "\r\n".join([*lines, *(f"{name}: {value}" for name, value in kept)]) + "\r\n\r\n"
        client = self.detach()
        await runtime.write(head.encode("latin-1"))
        await relay(client, runtime)

    def asked(self, name: str) -> bool:
        return self.get_query_argument(name, "") in ("1", "true")


class ExecStream(Streaming):
    """/exec/NAMESPACE/POD/CONTAINER?command=…&input=1&output=1&error=1&tty=1"""

    async def get(self, namespace: str, pod: str, container: str) -> None:
        found = await asyncio.to_thread(containers.running, self.cri, namespace, pod, container)
        tty = self.asked("tty")
        streams = {"stdin": self.asked("input"), "stdout": self.asked("output"), "stderr": self.asked("error") and not tty}
        command = self.get_query_arguments("command", strip=False)
        answer = await asyncio.to_thread(lambda: self.cri.exec(container_id=found, cmd=command, tty=tty, **streams))
        await self.pass_on(answer.url)

    post = get


class Attach(Streaming):
    """/attach/NAMESPACE/POD/CONTAINER?input=1&output=1&error=1: whether there is a terminal was settled when it was made"""

    async def get(self, namespace: str, pod: str, container: str) -> None:
        manifest = await asyncio.to_thread(self.served.get_pod, namespace, pod)
        found, tty = await asyncio.to_thread(containers.attached, self.cri, manifest, container)
        streams = {"stdin": self.asked("input"), "stdout": self.asked("output"), "stderr": self.asked("error") and not tty}
        answer = await asyncio.to_thread(lambda: self.cri.attach(container_id=found, tty=tty, **streams))
        await self.pass_on(answer.url)

    post = get


class PortForward(Streaming):
    """/portForward/NAMESPACE/POD?port=…"""

    async def get(self, namespace: str, pod: str) -> None:
        found = await asyncio.to_thread(containers.ready_sandbox, self.cri, namespace, pod)
        ports = [int(port) for port in self.get_query_arguments("port")]
        answer = await asyncio.to_thread(lambda: self.cri.port_forward(pod_sandbox_id=found, port=ports))
        await self.pass_on(answer.url)

    post = get
