"""Chooses the Pods' subnet so that it hides no network that this machine reaches by a route of its own.

Pure functions over the data of `labkit.node.host.links`. The most specific route wins (RFC 1812, 5.2.4.3), so the Pods' subnet
may lie in a wider route. Where that route leads to a network of somebody's, such as a VPN's 10.0.0.0/8, the Pods would hide a
part of it.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from labkit.util.errors import NodeError

Network = ipaddress.IPv4Network

SUBNET = "LABKIT_SUBNET"
"""Names the Pods' subnet, e.g. "10.200.0.0/16"."""
NARROWEST = 24
"""The kubelet allows 110 Pods on a node, and an address is not used again at once."""
WIDEST = 8
"""No network of somebody's own is wider (10.0.0.0/8, RFC 1918). A route that is wider is a part of a default route: 0.0.0.0/1 and
128.0.0.0/1 are what OpenVPN makes for `redirect-gateway def1`."""
EVERYTHING = Network("0.0.0.0/0")
EXAMPLE = f"Set {SUBNET} to one that is free, such as 10.200.0.0/16."


@dataclass(frozen=True)
class Taken:
    """What this machine reaches: its own addresses with their prefixes; routes to others; hosts, such as DNS servers."""

    addresses: tuple[Network, ...] = ()
    routes: tuple[Network, ...] = ()
    hosts: tuple[Network, ...] = ()


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Addresses and networks in CIDR form, e.g. "192.0.2.2/24"; a host without a prefix is a /32."""
    return tuple(Network(text, strict=False) for text in texts)


def choose(taken: Taken, environ: Mapping[str, str] | None = None) -> Network:
    """The subnet that LABKIT_SUBNET names, else the first of `candidates` that overlaps nothing. Raises NodeError."""
    environ = os.environ if environ is None else environ
    if text := environ.get(SUBNET, "").strip():
        return named(text, taken)
    used = (*taken.addresses, *somebodys(taken.routes), *taken.hosts)
    for candidate in candidates():
        if not any(candidate.overlaps(network) for network in used):
            return candidate
    raise NodeError("Every private IPv4 network is in use on this machine, by its addresses or its routes.",
                    f"Set {SUBNET} to one that the Pods may hide, such as 10.200.0.0/16.")


def candidates() -> Iterator[Network]:
    """In the order in which they are tried. Docker and others take theirs from the lower end, so the upper end comes first.

    Not 100.64.0.0/10 (RFC 6598): those addresses are a provider's, as of a cloud's DNS servers, and a VPN's, as Tailscale's.
    198.18.0.0/15 is for benchmarks in a laboratory (RFC 2544), and is routed nowhere.
    """
    yield from (Network(f"10.{second}.0.0/16") for second in (*range(88, 256), *range(1, 88)))
    yield from (Network(f"172.{second}.0.0/16") for second in range(31, 15, -1))
    yield from (Network(f"192.168.{third}.0/24") for third in range(255, -1, -1))
    yield from (Network("198.19.0.0/16"), Network("198.18.0.0/16"))


def somebodys(routes: Iterable[Network]) -> list[Network]:
    """The routes that lead to a network of somebody's own: not those that are, alone or together, a default route."""
    found = [route for route in routes if route.prefixlen >= WIDEST]
    return [] if EVERYTHING in ipaddress.collapse_addresses(found) else found


def named(text: str, taken: Taken) -> Network:
    """The subnet that the learner named. Raises NodeError where it is no subnet, or where the Pods could not use it.

    It may be a part of a wider route: that is why it can be named.
    """
    try:
        subnet = Network(text)
    except ValueError as error:
        raise NodeError(f"{SUBNET} is {text!r}, which is no IPv4 network ({error}).", EXAMPLE) from None
    if subnet.prefixlen > NARROWEST:
        raise NodeError(f"{SUBNET} is {subnet}, too small for a node's Pods: they need a /{NARROWEST} or wider.", EXAMPLE)
    if subnet.prefixlen < WIDEST or not may_be_pods(subnet):
        raise NodeError(f"{SUBNET} is {subnet}, and those addresses cannot be Pods'.", EXAMPLE)
    for address in taken.addresses:
        if subnet.overlaps(address):
            raise NodeError(f"{SUBNET} is {subnet}, which overlaps {address}, where this machine has an address.", EXAMPLE)
    for route in (*somebodys(taken.routes), *taken.hosts):
        if route.subnet_of(subnet):
            raise NodeError(f"{SUBNET} is {subnet}, in which this machine reaches {route} by another route.", EXAMPLE)
    return subnet


def may_be_pods(subnet: Network) -> bool:
    special = ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")
    return not any(subnet.overlaps(Network(other)) for other in special)
