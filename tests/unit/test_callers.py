"""Who made a call that only the runtime's log has: the one program that holds a connection to the socket."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from labkit.node.observe.callers import caller, clients, stops
from labkit.util.errors import NodeError

SOCKET = "/run/containerd/containerd.sock"
SS = """\
u_str LISTEN 0      4096   /run/containerd/containerd.sock 3001              * 0     users:(("containerd",pid=161,fd=8))
u_str ESTAB  0      0      /run/containerd/containerd.sock 3101              * 3100  users:(("containerd",pid=161,fd=13))
u_str ESTAB  0      0                              * 3100              * 3101  users:(("kubelet",pid=208,fd=11))
u_str ESTAB  0      0      /run/containerd/containerd.sock 3201              * 3200  users:(("containerd",pid=161,fd=14))
u_str ESTAB  0      0                              * 3200              * 3201  users:(("kubelet",pid=208,fd=12))
u_str ESTAB  0      0      /run/containerd/containerd.sock 3301              * 3300  users:(("containerd",pid=161,fd=15))
u_str ESTAB  0      0                              * 3300              * 3301  users:(("socat",pid=900,fd=5),("sh",pid=9,fd=5))
u_str ESTAB  0      0          /run/systemd/journal/stdout 3401              * 3400  users:(("systemd-journal",pid=143,fd=3))
u_str ESTAB  0      0                              * 3400              * 3401  users:(("coredns",pid=981,fd=3))
"""
CRICTL = """\
u_str ESTAB  0      0      /run/containerd/containerd.sock 3501              * 3500  users:(("containerd",pid=161,fd=16))
u_str ESTAB  0      0                              * 3500              * 3501  users:(("crictl",pid=1000,fd=3))
"""


class Node:
    def __init__(self, ss: str, stats: str = "208 (kubelet) S 1 208\n") -> None:
        self.said = {"ss": ss, "sh": stats}

    def shell(self, argv: Sequence[str], *, timeout: float = 30.0) -> str:
        if argv[0] not in self.said:
            raise NodeError("no")
        return self.said[argv[0]]


def test_the_other_ends_of_the_connections() -> None:
    assert clients(SS, SOCKET) == {("kubelet", 208), ("socat", 900), ("sh", 9)}
    assert clients(SS, "/var/run/containerd/containerd.sock") == clients(SS, SOCKET)
    assert clients("", SOCKET) == clients("u_str ESTAB\nnonsense", SOCKET) == set()


def test_a_kubelet_that_alone_is_connected_made_the_calls() -> None:
    assert caller(Node(SS), SOCKET) == "kubelet"


@pytest.mark.parametrize(
    "node",
    [Node(SS + CRICTL), Node(""), Node(SS, "208 (kubelet) T 1 208\n"), Node(SS.replace("208", str(os.getpid())))],
    ids=["crictl too", "nobody", "held still", "only we"],
)
def test_where_it_cannot_be_known_nobody_is_named(node: Node) -> None:
    assert caller(node, SOCKET) == "?"


def test_a_lab_s_own_program_has_its_name() -> None:
    assert caller(Node(SS.replace('"kubelet"', '"python"')), SOCKET, {208: "kubelet"}) == "kubelet"


def test_a_node_without_ss() -> None:
    node = Node(SS)
    del node.said["ss"]
    assert caller(node, SOCKET) == "?"


def test_processes_that_a_signal_has_stopped() -> None:
    assert stops("7 (a b) T 1\n8 (x) S 1\n9 (t) t 1\n10 (Z T) S 1\n") == {7, 9}
