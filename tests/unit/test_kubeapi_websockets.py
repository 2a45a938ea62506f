"""The API's own websockets: translated for a runtime, refused as the kubelet refuses, never a way to fill its memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.websocket import websocket_connect

from labkit.apiserver.http.exchange import Context
from labkit.apiserver.http.server import application
from labkit.apiserver.http.spdy import FIN, SYN_STREAM
from labkit.apiserver.objects.rest import Api
from labkit.apiserver.storage.store import Store

TOKEN = "secret"
EXEC = "/api/v1/namespaces/default/pods/web/exec?command=cat&stdin=1&stdout=1"
HANDSHAKE = (
    f"GET {EXEC} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n"
)
WITHIN_S = 20.0
Kubelet = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def with_api(tmp_path: Path, kubelet: Kubelet, use: Callable[[int], Coroutine[Any, Any, Any]]) -> Any:
    """What `use` returns, called with the port of an API whose node has this kubelet and one Pod."""

    async def run() -> Any:
        store = Store(":memory:")
        store.put("nodes", {"kind": "Node", "metadata": {"name": "node", "uid": "1"}})
        spec = {"nodeName": "node", "containers": [{"name": "app"}]}
        store.put("pods", {"kind": "Pod", "metadata": {"name": "web", "namespace": "default", "uid": "2"}, "spec": spec})
        server = HTTPServer(application(Context(Api(store), tmp_path, TOKEN)), max_body_size=1 << 40)
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        server.add_socket(listening)
        node = await asyncio.start_unix_server(until_hung_up, tmp_path / "kubelet.sock")
        try:
            return await asyncio.wait_for(use(listening.getsockname()[1]), WITHIN_S)
        finally:
            node.close()
            server.stop()
            await server.close_all_connections()
            store.close()

    async def until_hung_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            await kubelet(reader, writer)
            await reader.read()

    return asyncio.run(run())


def upgrade(port: int) -> HTTPRequest:
    return HTTPRequest(f"ws://127.0.0.1:{port}{EXEC}", headers={"Authorization": f"Bearer {TOKEN}"})


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A kubelet that sends back on stdout what comes on stdin, and ends all streams when stdin ends."""
    assert b"Upgrade: SPDY/3.1\r\n" in await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
    streams: list[int] = []  # in the order in which they are opened: error, stdin, stdout
    while True:
        first, second = struct.unpack(">II", await reader.readexactly(8))
        body = await reader.readexactly(second & 0xFFFFFF)
        if first >> 31:
            assert first & 0xFFFF == SYN_STREAM
            streams.append(struct.unpack(">I", body[:4])[0])
            continue
        error, stdin, stdout = streams
        assert first == stdin
        writer.write(struct.pack(">II", stdout, len(body)) + body)
        if second >> 24 & FIN:
            writer.write(struct.pack(">II", stdout, FIN << 24) + struct.pack(">II", error, FIN << 24))
            return


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A kubelet whose container does not run. It keeps the connection, as HTTP/1.1 does."""
    await reader.readuntil(b"\r\n\r\n")
    body = b'{"kind":"Status","message":"it does not run"}'
    head = f"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)


async def nobody(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    raise AssertionError("the kubelet was asked")


def test_input_comes_back_and_its_end_is_passed_on(tmp_path: Path) -> None:
    async def use(port: int) -> list[bytes]:
        client = await websocket_connect(upgrade(port), subprotocols=["v5.channel.k8s.io"])
        await client.write_message(b"\0one", binary=True)
        await client.write_message(b"\0two", binary=True)
        await client.write_message(b"\xff\0", binary=True)
        received = []
        while (message := await client.read_message()) is not None:
            received.append(message)
        return received

    received = with_api(tmp_path, echo, use)
    assert {message[:1] for message in received} == {b"\1"} and b"".join(message[1:] for message in received) == b"onetwo"


def test_a_refusal_of_the_kubelet_reaches_the_client(tmp_path: Path) -> None:
    async def use(port: int) -> Any:
        with pytest.raises(HTTPClientError) as refused:
            await websocket_connect(upgrade(port), subprotocols=["v5.channel.k8s.io"])
        return refused.value

    refused = with_api(tmp_path, refuse, use)
    assert refused.code == 400 and json.loads(refused.response.body)["message"] == "it does not run"


@pytest.mark.parametrize(("token", "code"), [("", b"401"), (TOKEN, b"413")])
def test_a_body_is_refused_before_it_has_come(tmp_path: Path, caplog: pytest.LogCaptureFixture, token: str, code: bytes) -> None:
    async def use(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{HANDSHAKE}Authorization: Bearer {token}\r\nContent-Length: 1000000000\r\n\r\n".encode())
        answer = await reader.read()  # until the API has closed the connection
        writer.close()
        return answer.partition(b"\r\n")[0]

    assert code in with_api(tmp_path, nobody, use)
    assert not caplog.records  # it has closed streams of which it had none


def test_the_kubelet_is_not_asked_for_a_client_that_cannot_follow(tmp_path: Path) -> None:
    asked = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(True)

    async def use(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        without = HANDSHAKE.replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "")
        writer.write(f"{without}Authorization: Bearer {TOKEN}\r\n\r\n".encode())
        answer = await reader.readline()
        writer.close()
        return answer

    assert b"400" in with_api(tmp_path, note, use) and not asked


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


@pytest.mark.parametrize("upgrading", [True, False])
def test_a_kubelet_that_hangs_up_is_named_however_it_was_asked(tmp_path: Path, upgrading: bool) -> None:
    async def use(port: int) -> Any:
        with pytest.raises(HTTPClientError) as refused:
            if upgrading:
                await websocket_connect(upgrade(port), subprotocols=["v5.channel.k8s.io"])
            else:
                url = f"http://127.0.0.1:{port}/api/v1/namespaces/default/pods/web/log"
                await AsyncHTTPClient().fetch(HTTPRequest(url, headers={"Authorization": f"Bearer {TOKEN}"}))
        return refused.value

    refused = with_api(tmp_path, hang_up, use)
    told = json.loads(refused.response.body)["message"]
    assert refused.code == 503 and told == 'The kubelet of node "node" hung up; its log, kubelet.log, may say why.'
