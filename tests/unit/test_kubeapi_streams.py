"""Streams to a kubelet that plays its part on the real socket: clients that mean harm, that leave, and that do not read."""

from __future__ import annotations

import asyncio
import os
import struct
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_unix_socket

from labkit.apiserver.api_resources import BY_PLURAL
from labkit.apiserver.http.exchange import Context
from labkit.apiserver.http.server import application
from labkit.apiserver.objects.rest import Api
from labkit.apiserver.storage.store import Store
from labkit.util.unix_sockets import private_socket

POD = "/api/v1/namespaces/default/pods/p"
EXEC = f"{POD}/exec?command=cat&stdin=1&stdout=1"
CHANNELS, TUNNEL = "v5.channel.k8s.io", "SPDY/3.1+portforward.k8s.io"
TEXT, BINARY, CLOSE = 1, 2, 8
WITHIN_S = 20


class Kubelet:
    """Agrees to every upgrade, and keeps what comes after it."""

    def __init__(self) -> None:
        self.open, self.seen = 0, b""
        self.speaks: Callable[[asyncio.StreamWriter], Awaitable[None]] | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
            if self.speaks:
                await self.speaks(writer)
            while data := await reader.read(65536):
                self.seen += data
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            writer.close()


@asynccontextmanager
async def api(directory: Path) -> AsyncIterator[tuple[Path, Kubelet]]:
    """An API with one Pod, served in plain HTTP, and its kubelet."""
    made, kubelet = Api(Store(directory / "objects.sqlite")), Kubelet()
    made.create(BY_PLURAL["nodes"], "", {"metadata": {"name": "n"}})
    spec = {"nodeName": "n", "containers": [{"name": "app", "image": "x"}]}
    made.create(BY_PLURAL["pods"], "default", {"metadata": {"name": "p"}, "spec": spec})
    answering = await asyncio.start_unix_server(kubelet.serve, sock=private_socket(directory / "kubelet.sock"))
    server = HTTPServer(application(Context(made, directory, "token")), max_body_size=1 << 40)
    server.add_socket(bind_unix_socket(str(directory / "api")))
    try:
        yield directory / "api", kubelet
    finally:
        server.stop()
        await server.close_all_connections()
        answering.close()
        made.store.close()


def upgrade(path: str = EXEC, protocol: str = CHANNELS, token: str = "token", **more: str) -> bytes:
    headers = {
        "Host": "x", "Connection": "Upgrade", "Upgrade": "websocket", "Authorization": f"Bearer {token}",
        "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Protocol": protocol,
    }
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    return "".join([f"GET {path} HTTP/1.1\r\n", *(f"{k}: {v}\r\n" for k, v in headers.items()), "\r\n"]).encode()


def frame(data: bytes, kind: int = BINARY) -> bytes:
    """One message of a client (RFC 6455, 5.2)."""
    return head(len(data), kind) + b"\0" * 4 + data


def head(length: int, kind: int = BINARY) -> bytes:
    return bytes([0x80 | kind, 0x80 | length]) if length < 126 else bytes([0x80 | kind, 0x80 | 127]) + struct.pack(">Q", length)


def run(directory: Path, attack: Callable[[Path, Kubelet], Awaitable[Any]]) -> Any:
    async def all_of_it() -> Any:
        async with api(directory) as (address, kubelet):
            return await asyncio.wait_for(attack(address, kubelet), WITHIN_S)

    return asyncio.run(all_of_it())


async def until(happened: Callable[[], bool]) -> None:
    while not happened():
        await asyncio.sleep(0.01)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A short name for the test's directory: a Unix socket's path has a limit."""
    monkeypatch.chdir(tmp_path)
    return Path()


@pytest.mark.parametrize("length", ["Content-Length", "chunked"])
def test_a_body_is_not_read_before_the_token(directory: Path, length: str) -> None:
    """It used to be kept in memory, of whatever size: nobody was asked who he is until its end."""

    async def attack(address: Path, kubelet: Kubelet) -> bytes:
        reader, writer = await asyncio.open_unix_connection(address)
        if length == "chunked":
            writer.write(upgrade(token="none", Transfer_Encoding="chunked"))
            with pytest.raises(ConnectionError):
                while True:
                    writer.write(b"100000\r\n" + b"x" * (1 << 20) + b"\r\n")
                    await writer.drain()
            return b""
        writer.write(upgrade(token="none", Content_Length=str(1 << 34)))
        answer = await reader.readline()
        assert kubelet.open == 0
        return answer

    assert run(directory, attack) in (b"HTTP/1.1 401 Unauthorized\r\n", b"")


@pytest.mark.parametrize("path", [EXEC, f"{POD}/portforward", "/readyz", f"{POD}/none"])
@pytest.mark.parametrize("protocol", [CHANNELS, TUNNEL])
def test_nobody_without_the_token_reaches_the_kubelet(directory: Path, path: str, protocol: str) -> None:
    async def attack(address: Path, kubelet: Kubelet) -> int:
        reader, writer = await asyncio.open_unix_connection(address)
        writer.write(upgrade(path, protocol, token="none"))
        answer = await reader.readline()
        assert kubelet.open == 0
        return int(answer.split()[1])

    assert run(directory, attack) in ((200, 401, 404) if path == "/readyz" else (401,))


@pytest.mark.parametrize(
    "says",
    [b"", frame(b"\0x")[:3], frame(b"", CLOSE), b"\xff" * 100, head(1 << 62), head(11 << 20)],
    ids=["nothing", "half a frame", "a close", "noise", "an endless frame", "a huge frame"],
)
def test_who_leaves_or_breaks_the_protocol_leaves_nothing_open(directory: Path, says: bytes) -> None:
    async def attack(address: Path, kubelet: Kubelet) -> None:
        for waits in (False, True):
            for _ in range(20):
                reader, writer = await asyncio.open_unix_connection(address)
                writer.write(upgrade() + says)
                if waits:
                    await reader.readuntil(b"\r\n\r\n")
                if not waits or says in (b"", frame(b"\0x")[:3]):
                    writer.close()
                else:
                    await reader.read()  # the API hangs up by itself
        await until(lambda: kubelet.open == 0)

    run(directory, attack)


def test_channels_that_are_not_open_carry_nothing(directory: Path) -> None:
    async def attack(address: Path, kubelet: Kubelet) -> bytes:
        _, writer = await asyncio.open_unix_connection(address)
        writer.write(upgrade())
        for data in (b"", b"\0", b"\x01no", b"\x02no", b"\x03no", b"\x04no", b"\x09no", b"\xff", b"\xff\x07", b"\xff\xff\xff"):
            writer.write(frame(data) + frame(data, TEXT) if data.isascii() else frame(data))
        writer.write(frame(b"\0yes"))
        await until(lambda: b"yes" in kubelet.seen)
        return kubelet.seen

    assert b"no" not in run(directory, attack)


def test_what_follows_a_request_for_a_log_does_not_reach_the_kubelet(directory: Path) -> None:
    """A second request, hidden behind the first, would come to the kubelet as from the API itself."""
    smuggled = b"GET /exec/default/p/app?command=id&output=1 HTTP/1.1\r\nHost: x\r\n\r\n"

    async def attack(address: Path, kubelet: Kubelet) -> None:
        for body in (b"\r\n", b"Content-Length: 0\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"):
            reader, writer = await asyncio.open_unix_connection(address)
            log = f"GET {POD}/log?follow=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token\r\n".encode()
            writer.write(log + body + smuggled)
            assert await reader.readline() == b"HTTP/1.1 101 Switching Protocols\r\n"
            writer.write(smuggled)
            await writer.drain()
            await asyncio.sleep(0.1)
            writer.close()
            await until(lambda: kubelet.open == 0)
            assert kubelet.seen == b""

    run(directory, attack)


def test_who_does_not_read_holds_up_the_runtime_and_not_the_apis_memory(directory: Path) -> None:
    sent = 0

    async def attack(address: Path, kubelet: Kubelet) -> None:
        nonlocal sent

        async def flood(writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            while True:
                writer.write(struct.pack(">II", 3, 1 << 20) + b"x" * (1 << 20))
                await writer.drain()
                sent += 1 << 20

        kubelet.speaks = flood
        reader, writer = await asyncio.open_unix_connection(address)
        writer.write(upgrade())
        await reader.readuntil(b"\r\n\r\n")
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.3)
        writer.close()

    run(directory, attack)
    assert 0 < sent < 16 << 20
