"""What is asked of the kubelet for logs and streams, and what is refused before it is asked."""

from __future__ import annotations

from typing import Any

import pytest
from tornado.httputil import HTTPHeaders

from labkit.apiserver.api_errors import ApiError
from labkit.apiserver.http import kubelet_proxy


def pod(*containers: str, init: tuple[str, ...] = (), phase: str = "Running", node: str = "sim-worker") -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"name": name} for name in containers]}
    spec |= {"initContainers": [{"name": name} for name in init]} if init else {}
    spec |= {"nodeName": node} if node else {}
    return {"metadata": {"name": "p", "namespace": "ns"}, "spec": spec, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, "/containerLogs/ns/p/app"),
        ({"follow": ["true"], "tailLines": ["3"], "x": ["y"]}, "/containerLogs/ns/p/app?follow=true&tailLines=3"),
    ],
)
def test_logs(query: dict[str, list[str]], expected: str) -> None:
    assert kubelet_proxy.log_path(pod("app"), query) == expected


def test_streams() -> None:
    query = {"command": ["sh", "-c", "a b"], "stdin": ["true"], "stdout": ["1"], "stderr": ["false"], "container": ["side"]}
    expected = "/exec/ns/p/side?input=1&output=1&command=sh&command=-c&command=a+b"
    assert kubelet_proxy.stream_path(pod("app", "side"), "exec", query) == expected
    with_terminal = {"stdout": ["true"], "tty": ["true"]}
    assert kubelet_proxy.stream_path(pod("app"), "attach", with_terminal) == "/attach/ns/p/app?output=1&tty=1"
    assert kubelet_proxy.stream_path(pod("app"), "portforward", {"ports": ["80,81"]}) == "/portForward/ns/p?port=80&port=81"
    assert kubelet_proxy.stream_path(pod("app"), "portforward", {}) == "/portForward/ns/p"


OUT = {"stdout": ["true"]}


@pytest.mark.parametrize(
    ("what", "of", "query", "words"),
    [
        ("log", pod("app", node=""), {}, "pod p does not have a host assigned"),
        ("log", pod("a", "b", init=("i",)), {}, "for pod p, choose one of: [a b] or one of the init containers: [i]"),
        ("log", pod("app"), {"container": ["x"]}, "container x is not valid for pod p"),
        ("log", pod("app"), {"tailLines": ["many"]}, 'strconv.ParseInt: parsing "many": invalid syntax'),
        ("log", pod("app"), {"tailLines": [f"{1 << 63}"]}, 'strconv.ParseInt: parsing "9223372036854775808": value out of range'),
        ("log", pod("app"), {"sinceTime": ["now"]},
         'parsing time "now" as "2006-01-02T15:04:05Z07:00": cannot parse "now" as "2006"'),
        ("exec", pod("app"), OUT, "at least one command"),
        ("exec", pod("app"), {"command": ["ls"]}, "at least 1 of stdin, stdout, stderr"),
        ("exec", pod("app", phase="Succeeded"), OUT, "completed pod; current phase is Succeeded"),
        ("attach", pod("app", node=""), OUT, "does not have a host assigned"),
        ("portforward", pod("app"), {"ports": ["0"]}, "must be between 1 and 65535"),
        ("portforward", pod("app"), {"ports": ["80,x"]}, "must be between 1 and 65535"),
    ],
)
def test_refused(what: str, of: dict[str, Any], query: dict[str, list[str]], words: str) -> None:
    with pytest.raises(ApiError) as refused:
        if what == "log":
            kubelet_proxy.log_path(of, query)
        else:
            kubelet_proxy.stream_path(of, what, query)
    assert refused.value.code == 400 and words in refused.value.message


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"tailLines": "-5"}, "tailLines: Invalid value: -5: must be greater than or equal to 0"),
        ({"limitBytes": "0"}, "limitBytes: Invalid value: 0: must be greater than 0"),
        ({"sinceSeconds": "0"}, "sinceSeconds: Invalid value: 0: must be greater than 0"),
        ({"sinceSeconds": "0", "sinceTime": "2026-01-02T03:04:05Z"},
         "[]: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"),
        ({"stream": "Stdin"}, 'stream: Unsupported value: "Stdin": supported values: "All", "Stderr", "Stdout"'),
        ({"stream": "Stderr", "tailLines": "1"},
         "[]: Forbidden: `tailLines` and specific `stream` are mutually exclusive for now"),
    ],
)
def test_options_of_a_log_that_make_no_sense(query: dict[str, str], words: str) -> None:
    with pytest.raises(ApiError) as refused:
        kubelet_proxy.log_path(pod("app"), {name: [value] for name, value in query.items()})
    assert (refused.value.code, refused.value.message) == (422, f'PodLogOptions "p" is invalid: {words}')


def test_upgrades_that_the_runtime_understands() -> None:
    kubelet_proxy.check_protocols(HTTPHeaders({"Upgrade": "SPDY/3.1"}))
    websocket = {"Upgrade": "websocket", "Sec-WebSocket-Protocol": "v5.channel.k8s.io, v4.channel.k8s.io"}
    kubelet_proxy.check_protocols(HTTPHeaders(websocket))
    for headers in ({}, {"Upgrade": "websocket", "Sec-WebSocket-Protocol": "v5.channel.k8s.io"}):
        with pytest.raises(ApiError, match="pgrade"):
            kubelet_proxy.check_protocols(HTTPHeaders(headers))


def test_a_clients_credential_is_not_passed_on_to_the_kubelet() -> None:
    sent = [("Authorization", "Bearer client"), ("Host", "api"), ("X-Stream-Protocol-Version", "v4.channel.k8s.io")]
    sent.append(("Upgrade", "SPDY/3.1"))
    lines = kubelet_proxy.request_head("POST", "/exec/ns/p/app", sent, upgrade=True).decode().split("\r\n")
    assert lines == [
        "POST /exec/ns/p/app HTTP/1.1", "Host: localhost", "Connection: Upgrade",
        "X-Stream-Protocol-Version: v4.channel.k8s.io", "Upgrade: SPDY/3.1", "", "",
    ]
