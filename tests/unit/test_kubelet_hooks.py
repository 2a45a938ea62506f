"""What probes and hooks ask of a port, and Go's words for what they find there."""

from __future__ import annotations

import socket
import threading

import pytest

from labkit.kubelet.hooks import HookError, HookFailed, http_get, port_of


@pytest.fixture
def answering():
    """answering(text): a server on loopback that answers once, in plain text; its port."""
    servers = []

    def start(answer):
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return server.getsockname()[1]

    yield start
    for server in servers:
        server.close()


def found(port, **action):
    with pytest.raises(HookFailed) as caught:
        http_get({"port": port, **action}, {}, "127.0.0.1", 5, "test")
    return str(caught.value)


def test_a_port_by_number_or_name():
    named = {"ports": [{"name": "web", "containerPort": 80}]}
    assert port_of("web", named) == port_of(80, {}) == port_of("80", {}) == 80
    for given, words in (("web", 'strconv.Atoi: parsing "web": invalid syntax'), (0, "invalid port number: 0")):
        with pytest.raises(HookError) as caught:
            port_of(given, {})
        assert str(caught.value) == words


def test_an_answer_that_is_a_failure(answering):
    port = answering(b"HTTP/1.1 503 no\r\nContent-Length: 0\r\n\r\n")
    assert found(port) == "HTTP probe failed with statuscode: 503"


def test_plain_http_where_tls_is_asked_for(answering):
    port = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert found(port, scheme="HTTPS") == f'Get "https://127.0.0.1:{port}/": http: server gave HTTP response to HTTPS client'


def test_no_answer_and_no_http(answering):
    silent, odd = answering(b""), answering(b"220 mail\r\n")
    assert found(silent) == f'Get "http://127.0.0.1:{silent}/": EOF'
    broken = 'net/http: HTTP/1.x transport connection broken: malformed HTTP response "220 mail"'
    assert found(odd) == f'Get "http://127.0.0.1:{odd}/": {broken}'


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert found(port) == f'Get "http://127.0.0.1:{port}/": dial tcp 127.0.0.1:{port}: connect: connection refused'
