"""Websockets that the runtimes do not know: translated here into SPDY/3.1, which they do, as kube-apiserver does.

`v5.channel.k8s.io` (exec and attach) has what version 4 lacks: a client can say that its input ends. Each message begins with the
number of its channel; 255 and a number close that channel (KEP-4006, apiserver's pkg/util/proxy/streamtranslator.go).
`SPDY/3.1+portforward.k8s.io` carries SPDY itself in its messages (streamtunnel.go).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.iostream import IOStream, StreamClosedError
from tornado.routing import Matcher
from tornado.web import stream_request_body
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from labkit.apiserver import api_errors
from labkit.apiserver.http import kubelet_proxy
from labkit.apiserver.http.exchange import Exchange
from labkit.apiserver.http.spdy import Session
from labkit.apiserver.requests import paths
from labkit.apiserver.requests.paths import flag
from labkit.util.streams import CHUNK

CHANNELS = "v5.channel.k8s.io"
TUNNEL = "SPDY/3.1+portforward.k8s.io"
UPSTREAM = {CHANNELS: "v4.channel.k8s.io", TUNNEL: "portforward.k8s.io"}
"""The protocol on SPDY that each becomes."""

NAMES = ("stdin", "stdout", "stderr", "error", "resize")
"""Streams by the number of their channel."""
OF_CLIENT = (NAMES.index("stdin"), NAMES.index("resize"))
"""Channels on which a client may send; what comes on others is dropped."""

END_OF_CHANNEL = 255
LARGEST_HEAD = 65536


class Translated(Matcher):
    """The requests that come here: a websocket with one of our protocols."""

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        return {} if protocol(request) else None


def protocol(request: HTTPServerRequest) -> str:
    """The protocol that is spoken with this client, "" where nothing has to be translated: a port-forward by the channels of
    version 5, which some clients offer, is none of ours."""
    if request.headers.get("Upgrade", "").lower() != "websocket":
        return ""
    ours = TUNNEL if request.path.rstrip("/").endswith("/portforward") else CHANNELS
    offered = [word.strip() for word in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    return ours if ours in offered else ""


@stream_request_body
class WebSocket(Exchange, WebSocketHandler):
    """One exec, attach or port-forward. It has no body; one that is sent is not kept (`Exchange.data_received`)."""

    upstream: IOStream
    session: Session
    streams: dict[int, int]
    """The stream of each channel."""
    task: asyncio.Task[None] | None = None

    async def get(self, *args: Any, **kwargs: Any) -> None:
        self.spoken = protocol(self.request)
        try:
            self.check()
            self.check_handshake()
            if not await self.connect():
                return
        except api_errors.ApiError as error:
            return self.refuse(error)
        except StreamClosedError:
            return self.refuse(api_errors.unavailable("The kubelet hung up; its log, kubelet.log, may say why."))
        await super().get(*args, **kwargs)
        if self.ws_connection is None:
            self.upstream.close()

    def check_handshake(self) -> None:
        """Nothing is asked of the kubelet, and no command begins, for a client that cannot follow. Raises ApiError (400)."""
        headers = self.request.headers
        if not headers.get("Sec-WebSocket-Key") or headers.get("Sec-WebSocket-Version") != "13":
            needs = "the headers Sec-WebSocket-Key and Sec-WebSocket-Version: 13 (RFC 6455)"
            raise api_errors.bad_request(f"a websocket needs {needs}")

    async def connect(self) -> bool:
        """Ask the kubelet for the streams. False when it refused, and the client has got its answer."""
        target = paths.target(self.path)
        if target is None or target.resource.plural != "pods" or target.sub not in ("exec", "attach", "portforward"):
            raise api_errors.not_served()
        pod = self.context.api.get(target.resource, target.namespace, target.name).obj
        path = kubelet_proxy.stream_path(pod, target.sub, self.query)
        headers = [("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", UPSTREAM[self.spoken])]
        asked, store, run = kubelet_proxy.request_head("POST", path, headers, upgrade=True), self.context.store, self.context.run
        self.upstream, head = await kubelet_proxy.ask(
            store, run, pod["spec"]["nodeName"], asked, lambda stream: stream.read_until(b"\r\n\r\n", max_bytes=LARGEST_HEAD)
        )
        first, _, rest = head.decode("latin-1").partition("\r\n")
        code = int(first.split(" ")[1])
        if code == 101:
            return True
        fields = HTTPHeaders.parse(rest.strip())
        length = fields.get("Content-Length")  # the kubelet keeps the connection open
        answer = await (self.upstream.read_bytes(int(length)) if length else self.upstream.read_until_close())
        self.upstream.close()
        self.set_status(code)
        self.set_header("Content-Type", fields.get("Content-Type", "text/plain"))
        self.finish(answer)
        return False

    def check_origin(self, origin: str) -> bool:
        return True  # the token, which no page of another origin has, was checked before

    def select_subprotocol(self, subprotocols: list[str]) -> str:
        return self.spoken

    async def open(self, *args: str, **kwargs: str) -> None:
        if self.spoken == CHANNELS:
            self.session, self.streams = Session(self.upstream), {}
            tty = flag(self.query, "tty")
            asked = {name: flag(self.query, name) for name in ("stdin", "stdout", "stderr")}
            asked |= {"error": True, "resize": tty, "stderr": asked["stderr"] and not tty}
            with contextlib.suppress(StreamClosedError):
                for name in ("error", "stdin", "stdout", "stderr", "resize"):  # the order of client-go
                    if asked[name]:
                        self.streams[NAMES.index(name)] = await self.session.open({"streamtype": name})
        self.task = asyncio.ensure_future(self.pass_on())

    async def pass_on(self) -> None:
        """From the runtime to the client, until there is nothing more."""
        with contextlib.suppress(StreamClosedError, WebSocketClosedError):
            await (self.from_channels() if self.spoken == CHANNELS else self.from_tunnel())
        self.upstream.close()
        self.close(1000)

    async def from_channels(self) -> None:
        channels = {stream: channel for channel, stream in self.streams.items()}
        speaking = {stream for stream, channel in channels.items() if NAMES[channel] in ("stdout", "stderr", "error")}
        async for stream, data, ends in self.session.received():
            if data and stream in channels:
                await self.write_message(bytes([channels[stream]]) + data, binary=True)
            if ends:
                speaking.discard(stream)
            if not speaking:
                return

    async def from_tunnel(self) -> None:
        while True:
            await self.write_message(await self.upstream.read_bytes(CHUNK, partial=True), binary=True)

    async def on_message(self, message: str | bytes) -> None:
        data = message.encode() if isinstance(message, str) else message
        with contextlib.suppress(StreamClosedError):  # the runtime has ended; `pass_on` closes
            if self.spoken == TUNNEL:
                await self.upstream.write(data)
                return
            ends = data[:1] == bytes([END_OF_CHANNEL])
            channel = next(iter(data[ends:]), -1)
            if channel in self.streams and channel in OF_CLIENT and (ends or len(data) > 1):
                await self.session.send(self.streams[channel], b"" if ends else data[1:], end=ends)

    def on_close(self) -> None:
        if hasattr(self, "upstream"):  # the client may have gone before the kubelet was asked
            self.upstream.close()
