"""What somebody without the token can do to the API: take its connections, its descriptors, its log. Nothing of it may last."""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.apiserver.http.connections import UNPROVEN_MOST
from tests.live.test_kubeapi import Served, serve, until

HALF_A_HELLO = b"\x16\x03\x01\x02\x00\x01\x00"
DESCRIPTORS = 200


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Served]:
    yield from serve(tmp_path)


@contextlib.contextmanager
def crowd(port: int, how_many: int, says: bytes = b"") -> Iterator[list[socket.socket]]:
    """Clients that connect, say something and then nothing."""
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(how_many):
            clients.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)))
            with contextlib.suppress(OSError):
                clients[-1].sendall(says)
        yield clients


def descriptors(api: Served) -> int:
    assert api.process is not None
    return len(list(Path(f"/proc/{api.process.pid}/fd").iterdir()))


@pytest.mark.parametrize("says", [b"", HALF_A_HELLO], ids=["silent", "half a hello"])
def test_strangers_do_not_keep_the_apis_descriptors(api: Served, says: bytes) -> None:
    before = descriptors(api)
    with crowd(api.port, 4 * UNPROVEN_MOST, says):
        until(lambda: descriptors(api) <= before + UNPROVEN_MOST + 10, "the oldest strangers to be dropped")
        assert api.ask("GET", "/api/v1/namespaces/default")[0] == 200


def test_requests_without_the_token_do_not_keep_connections(api: Served) -> None:
    before = descriptors(api)
    context = ssl.create_default_context(cafile=str(api.base / "ca.crt"))
    with contextlib.ExitStack() as stack:
        for _ in range(2 * UNPROVEN_MOST):
            plain = stack.enter_context(socket.create_connection(("127.0.0.1", api.port), timeout=10))
            with contextlib.suppress(OSError):
                client = stack.enter_context(context.wrap_socket(plain, server_hostname="127.0.0.1"))
                client.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert client.recv(100).startswith(b"HTTP/1.1 200")
        until(lambda: descriptors(api) <= before + UNPROVEN_MOST + 10, "the oldest strangers to be dropped")


def test_those_who_showed_the_token_stay(api: Served) -> None:
    context = ssl.create_default_context(cafile=str(api.base / "ca.crt"))
    with socket.create_connection(("127.0.0.1", api.port), timeout=30) as plain:
        client = context.wrap_socket(plain, server_hostname="127.0.0.1")
        request = f"GET /api/v1/namespaces/default HTTP/1.1\r\nHost: x\r\nAuthorization: {api.headers['Authorization']}\r\n\r\n"
        for _ in range(2):
            client.sendall(request.encode())
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
            with crowd(api.port, 2 * UNPROVEN_MOST, HALF_A_HELLO):
                pass


def test_without_descriptors_it_neither_spins_nor_fills_its_log(api: Served) -> None:
    assert api.process is not None
    resource.prlimit(api.process.pid, resource.RLIMIT_NOFILE, (before := descriptors(api) + 20, before))
    with crowd(api.port, DESCRIPTORS, HALF_A_HELLO):
        began, cpu = time.monotonic(), processor_time(api)
        until(lambda: time.monotonic() - began > 3, "three seconds of it", 10)
        assert processor_time(api) - cpu < 0.5 * (time.monotonic() - began)
        assert api.ask("GET", "/api/v1/namespaces/default")[0] == 200
    log = (api.base / "log").read_text()
    assert log.count("no connection can be taken") == 1 and len(log) < 20_000


def processor_time(api: Served) -> float:
    """Seconds of processor time so far."""
    assert api.process is not None
    fields = Path(f"/proc/{api.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
