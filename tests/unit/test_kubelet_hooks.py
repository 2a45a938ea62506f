"""What probes and hooks ask of a port, and Go's words for what they find there."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from labkit.cri import CriError
from labkit.kubelet.containers.hooks import (
    HookError,
    HookFailed,
    Until,
    grpc_check,
    health_request,
    http_get,
    port_of,
    run_command,
    run_hook,
    url_path,
)
from labkit.podspec.go_text import go_quote
from labkit.podspec.messages.container_env import pod_field

POD = {"metadata": {"name": "p", "namespace": "default", "uid": "u"}, "spec": {"containers": [{"name": "app"}]}}


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
        http_get({"port": port, **action}, {}, "127.0.0.1", 60, "test")
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


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, ["User-Agent: test", "Accept: */*"]),
        ({"X-B": ["2", "1"], "x-a": ["é"]}, ["User-Agent: test", "Accept: */*", "X-A: é", "X-B: 2", "X-B: 1"]),
        ({"Accept": [""], "user-agent": [""]}, []),
        ({"Accept-Encoding": ["gzip"], "Accept": ["a/b"]}, ["User-Agent: test", "Accept: a/b", "Accept-Encoding: gzip"]),
        ({"Host": ["web.example"], "Content-Length": ["5"]}, ["Host: web.example", "User-Agent: test", "Accept: */*"]),
    ],
)
def test_the_headers_of_a_probe_are_those_that_go_sends(given, sent):
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                heard.append(connection.recv(4096).decode())
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        headers = [{"name": name, "value": value} for name, values in given.items() for value in values]
        port = server.getsockname()[1]
        assert http_get({"port": port, "path": "/a b?c=%20", "httpHeaders": headers}, {}, "127.0.0.1", 60, "test") == ""
        thread.join()
    own = [] if "Host" in given else [f"Host: 127.0.0.1:{port}"]
    assert heard[0].split("\r\n") == ["GET /a%20b?c=%20 HTTP/1.1", *own, *sent, "Connection: close", "", ""]


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/a%zz?b", "/a%25zz%3Fb"), ("a", "/a"), ("/a%20b?c#d", "/a%20b?c#d"), ("/é", "/%C3%A9"), ("a:b", "/a:b")],
)
def test_a_path_that_no_url_can_have_is_escaped_as_a_whole(path, expected):
    assert url_path(path) == expected


def test_a_redirect_to_another_host_is_a_success_with_a_warning(answering):
    port = answering(b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 2\r\n\r\nhi")
    assert http_get({"port": port}, {}, "127.0.0.1", 60, "test") == "Probe terminated redirects, Response body: hi"


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://[", "failed to parse Location header"),
        ("http://127.0.0.1:99999/", "failed to parse Location header"),
        ("ftp://127.0.0.1/", 'Get "ftp://127.0.0.1/": unsupported protocol scheme "ftp"'),
    ],
)
def test_a_redirect_to_what_is_no_place_is_a_failure(answering, location, words):
    port = answering(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
    assert words in found(port)


def test_redirects_that_never_end():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve():
            for _ in range(10):
                with server.accept()[0] as connection:
                    connection.recv(4096)
                    connection.sendall(b"HTTP/1.1 307 Again\r\nLocation: again\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        assert found(port, path="/b/c") == 'Get "again": stopped after 10 redirects'


def test_a_length_is_written_as_protobuf_does():
    assert health_request("") == b""
    assert [health_request("s" * number)[1:-number].hex() for number in (127, 128, 300)] == ["7f", "8001", "ac02"]


def test_annotations_are_written_into_a_volume_as_go_quotes_them():
    pod = {"metadata": {"annotations": {"b": "\x01\x7f\U000e0001\a", "a": "x"}}}
    assert pod_field(pod, "metadata.annotations") == 'a="x"\nb="\\x01\\x7f\\U000e0001\\a"'


def test_go_quotes_what_is_not_printable():
    assert go_quote('a"\\\a\x00\x7f\x85\u200bé\U000e0001\udcff') == '"a\\"\\\\\\a\\x00\\x7f\\u0085\\u200bé\\U000e0001\\xff"'


def test_plain_http_where_tls_is_asked_for(answering):
    port = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert found(port, scheme="HTTPS") == f'Get "https://127.0.0.1:{port}/": http: server gave HTTP response to HTTPS client'


def test_no_answer_and_no_http(answering):
    silent, odd = answering(b""), answering(b"220 mail\r\n")
    assert found(silent) == f'Get "http://127.0.0.1:{silent}/": EOF'
    broken = 'net/http: HTTP/1.x transport connection broken: malformed HTTP response "220 mail"'
    assert found(odd) == f'Get "http://127.0.0.1:{odd}/": {broken}'


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"], ids=["headers", "body"])
def test_an_answer_that_comes_byte_by_byte_has_no_more_time_than_others(head):
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(4096)
                connection.sendall(head)
                while not over.wait(0.05):
                    connection.sendall(b"x")

        def probe():
            with contextlib.suppress(HookFailed):
                http_get({"port": server.getsockname()[1]}, {}, "127.0.0.1", 0.2, "test")

        threading.Thread(target=serve, daemon=True).start()
        probing = threading.Thread(target=probe, daemon=True)
        probing.start()
        probing.join(20)
        assert not probing.is_alive()
        over.set()


def test_what_is_there_already_comes_no_more_after_the_time():
    """Each "100 Continue" may be followed by another at once, so that a socket's own timeout never ends."""
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 2)
        assert Until(time.monotonic() + 60, reader).readinto(bytearray(20)) == 20
        with pytest.raises(TimeoutError):
            Until(time.monotonic() - 1, reader).readinto(bytearray(20))


def test_nobody_there():
    with socket.socket() as bound:  # nobody listens, and nobody else can have the port
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        assert found(port) == f'Get "http://127.0.0.1:{port}/": dial tcp 127.0.0.1:{port}: connect: connection refused'


def test_any_answer_to_a_hook_is_good(answering):
    port = answering(b"HTTP/1.1 404 no\r\nContent-Length: 0\r\n\r\n")
    assert run_hook(None, POD, POD["spec"]["containers"][0], "id", {"httpGet": {"port": port}}, "127.0.0.1") == ""


def test_a_hook_that_meets_no_answer_says_where(answering):
    with pytest.raises(HookFailed) as caught:
        run_hook(None, POD, {"name": "app"}, "id", {"httpGet": {"path": "/x", "port": answering(b"")}}, "127.0.0.1")
    words = 'HTTP lifecycle hook (/x) for Container "app" in Pod "p_default(u)" failed - error: Get "http'
    assert str(caught.value).startswith(words)


def failed_hook(answer):
    """What the status tells of a postStart hook by exec that the runtime answers so."""
    cri = SimpleNamespace(exec_sync=answer)
    with pytest.raises(HookFailed) as caught:
        run_hook(cri, POD, {"name": "app"}, "id", {"exec": {"command": ["sh", "-c", "exit 3"]}}, "127.0.0.1")
    head, _, rest = str(caught.value).partition(" failed - error: ")
    assert head == 'Exec lifecycle hook ([sh -c exit 3]) for Container "app" in Pod "p_default(u)"'
    return rest


def test_a_command_of_a_hook_that_fails_is_told_with_its_exit_code_and_all_that_it_wrote():
    wrote = SimpleNamespace(exit_code=3, stdout=b"out\n\x01\xff", stderr=b'err "1"\n')
    rest = 'command \'sh -c exit 3\' exited with 3: err "1"\n, message: "out\\n\\x01\\xfferr \\"1\\"\\n"'
    assert failed_hook(lambda **_: wrote) == rest


def test_a_command_that_takes_too_long_is_quoted_as_go_quotes_it():
    def late(**_):
        raise CriError("ExecSync", "DEADLINE_EXCEEDED", "", "")

    with pytest.raises(HookFailed) as caught:
        run_command(SimpleNamespace(exec_sync=late), "id", ["sh", "-c", 'echo "a"\nsleep 9'], 1)
    assert str(caught.value) == r'command timed out: "sh -c echo \"a\"\nsleep 9" timed out after 1s'


def test_a_command_of_a_hook_that_cannot_be_run_is_told_in_the_runtimes_words():
    def refused(**_):
        raise CriError("ExecSync", "UNKNOWN", "no such program", "")

    assert failed_hook(refused) == 'rpc error: code = Unknown desc = no such program, message: ""'


def test_a_hook_by_tls_that_meets_plain_http_is_asked_again():
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    asked.append(connection.recv(4096))
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        port = server.getsockname()[1]
        headers = [{"name": "authorization", "value": "Basic c2VjcmV0"}, {"name": "X-Mine", "value": "1"}]
        action = {"port": port, "scheme": "HTTPS", "httpHeaders": headers}
        said = run_hook(None, POD, {"name": "app"}, "id", {"httpGet": action}, "127.0.0.1")
    assert said == f"request to HTTPS lifecycle hook 127.0.0.1:{port} got HTTP response, retry with HTTP succeeded"
    assert b"X-Mine: 1" in asked[-1]
    assert b"uthorization" not in asked[-1]


def test_a_path_is_shown_as_it_was_sent(answering):
    port = answering(b"")
    assert found(port, path="/a b?c=d") == f'Get "http://127.0.0.1:{port}/a%20b?c=d": EOF'


def test_health_by_grpc(answering):
    words = r'timeout: failed to connect service "127.0.0.1:\d+" within 1s: context deadline exceeded'
    with pytest.raises(HookFailed, match=words):
        grpc_check({"port": answering(b"HTTP/1.1 400 Bad Request\r\n\r\n")}, "127.0.0.1", 1)
