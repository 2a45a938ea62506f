"""Which subnet the Pods have beside the routes of VPNs, Docker, clouds and other labs."""

from __future__ import annotations

import pytest

from labkit.node import NodeError
from labkit.node.host.subnet import Network, Taken, choose, networks

HOME = "default via 192.168.1.1 dev wlan0\n192.168.1.0/24 dev wlan0 proto kernel scope link src 192.168.1.5\n"
"""As `ip route show table all` prints it; `default` is 0.0.0.0/0."""
OPENVPN = """\
0.0.0.0/1 via 10.8.0.5 dev tun0
10.8.0.1 via 10.8.0.5 dev tun0
10.8.0.5 dev tun0 proto kernel scope link src 10.8.0.6
128.0.0.0/1 via 10.8.0.5 dev tun0
203.0.113.7 via 192.168.1.1 dev wlan0
"""
WIREGUARD = "default dev wg0 table 51820 scope link\n10.13.13.0/24 dev wg0 proto kernel scope link src 10.13.13.2\n"
QUARTERS = "0.0.0.0/2 dev tun0\n64.0.0.0/2 dev tun0\n128.0.0.0/2 dev tun0\n192.0.0.0/2 dev tun0\n"
EIGHTHS = "".join(f"{first}.0.0.0/8 dev tun0\n" for first in range(256))
COMPANY = "10.0.0.0/8 via 10.20.0.1 dev tun0\n"
PRIVATE = COMPANY + "172.16.0.0/12 via 10.20.0.1 dev tun0\n192.168.0.0/16 via 10.20.0.1 dev tun0\n"
DOCKER = "172.17.0.0/16 dev docker0 proto kernel scope link src 172.17.0.1 linkdown\n"
CALICO = "blackhole 10.88.61.128/26 proto bird\nunreachable 10.89.0.0/16 metric 4278198272\n"
LAB = "10.88.0.0/16 dev labkit-15b2c5 proto kernel scope link src 10.88.0.1 linkdown\n"


def taken(text: str, *hosts: str) -> Taken:
    """What `links.taken` reads of a machine with these routes."""
    routes, addresses = [], []
    for line in text.splitlines():
        words = [word for word in line.split() if word not in ("blackhole", "unreachable")]
        if words[0] != "default":
            routes.append(words[0])
        if "src" in words:
            prefix = words[0].partition("/")[2] or "32"
            addresses.append(f"{words[words.index('src') + 1]}/{prefix}")
    return Taken(networks(addresses), networks(routes), networks(hosts))


@pytest.mark.parametrize(
    ("routes", "subnet"),
    [
        ("", "10.88.0.0/16"),
        (HOME, "10.88.0.0/16"),
        (HOME + OPENVPN, "10.88.0.0/16"),
        (HOME + WIREGUARD, "10.88.0.0/16"),
        (HOME + QUARTERS, "10.88.0.0/16"),
        (HOME + EIGHTHS, "10.88.0.0/16"),
        (HOME + COMPANY, "172.31.0.0/16"),
        (HOME + OPENVPN + COMPANY, "172.31.0.0/16"),
        (HOME + COMPANY + "172.16.0.0/12 dev tun0\n", "192.168.255.0/24"),
        (HOME + PRIVATE, "198.19.0.0/16"),
        (HOME + DOCKER + LAB, "10.89.0.0/16"),
        (HOME + CALICO, "10.90.0.0/16"),
        ("".join(f"10.{second}.7.0/24 dev tun0\n" for second in range(256)), "172.31.0.0/16"),
    ],
    ids=["nothing", "home", "def1", "wireguard", "quarters", "all-the-eighths", "company", "company-and-def1", "two-companies",
         "all-private", "docker-and-a-lab", "calico", "a-bit-of-each"],
)
def test_the_subnet_beside_these_routes(routes: str, subnet: str) -> None:
    assert choose(taken(routes), {}) == Network(subnet)


def test_a_dns_server_behind_the_default_route_is_not_hidden() -> None:
    assert choose(taken(HOME, "10.88.0.53"), {}) == Network("10.89.0.0/16")


def test_where_all_is_taken_the_message_names_the_way_out() -> None:
    with pytest.raises(NodeError, match=r"Every private IPv4 network is in use.* LABKIT_SUBNET"):
        choose(taken(PRIVATE + "198.18.0.0/15 dev utun\n"), {})


@pytest.mark.parametrize("text", ["10.200.0.0/16", " 192.168.7.0/24 ", "100.64.0.0/16"])
def test_a_named_subnet_is_taken_also_out_of_a_wider_route(text: str) -> None:
    assert choose(taken(HOME + PRIVATE), {"LABKIT_SUBNET": text}) == Network(text.strip())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ten", "'ten', which is no IPv4 network"),
        ("10.200.0.0/99", "no IPv4 network"),
        ("10.200.0.1/16", "no IPv4 network .*host bits"),
        ("fd00::/64", "no IPv4 network"),
        ("10.200.0.0\n/16", "no IPv4 network"),
        ("10.200.0.0", "too small"),
        ("10.200.0.0/28", "too small"),
        ("0.0.0.0/0", "cannot be Pods'"),
        ("127.5.0.0/16", "cannot be Pods'"),
        ("169.254.0.0/16", "cannot be Pods'"),
        ("224.0.0.0/16", "cannot be Pods'"),
        ("192.168.0.0/16", r"overlaps 192\.168\.1\.0/24, where this machine has an address"),
        ("10.0.0.0/8", r"reaches 10\.8\.0\.1/32 by another route"),
    ],
)
def test_a_named_subnet_that_cannot_be_used_is_refused_in_a_sentence(text: str, why: str) -> None:
    with pytest.raises(NodeError, match=why) as refused:
        choose(taken(HOME + OPENVPN.replace("src 10.8.0.6", "")), {"LABKIT_SUBNET": text})
    assert "LABKIT_SUBNET" in str(refused.value)


def test_an_empty_name_is_none() -> None:
    assert choose(taken(HOME), {"LABKIT_SUBNET": " "}) == Network("10.88.0.0/16")
