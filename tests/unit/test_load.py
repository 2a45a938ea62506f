"""The client that asks on and on: against a real server on loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from labkit.figures.runtime.load import Load
from tests.waits import wait_for


class Web(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setattr("labkit.figures.runtime.load.PATIENCE_S", 60.0)
    class Own(Web):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Own) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def asked(server: ThreadingHTTPServer, enough: int = 20) -> Load:
    with Load(lambda: socket.create_connection(server.server_address), rate=1000) as load:
        wait_for(lambda: len(load.answers) >= enough)
    return load


def test_every_request_is_counted_on_both_kinds_of_connection(server: ThreadingHTTPServer) -> None:
    load = asked(server)
    assert len(load.answers) >= 20 and load.failed == []
    assert {a.connection for a in load.answers} == {"kept", "new"}
    assert all(a.took_ns > 0 for a in load.answers)


def test_an_answer_that_is_no_200_has_failed(server: ThreadingHTTPServer) -> None:
    server.RequestHandlerClass.status = 503
    load = asked(server)
    assert len(load.failed) == len(load.answers) and "503" in load.failed[0].error


def test_a_server_that_is_gone_fails_each_request_and_the_client_goes_on() -> None:
    with socket.socket() as bound:  # nobody listens, and nobody else can have the port
        bound.bind(("127.0.0.1", 0))
        with Load(lambda: socket.create_connection(bound.getsockname()), rate=1000) as load:
            wait_for(lambda: len(load.answers) >= 5)
    assert len(load.failed) == len(load.answers) >= 5
