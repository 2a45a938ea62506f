"""The Pods' bridge: made, found and removed by rtnetlink (man 7 rtnetlink), through pyroute2."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from labkit.node.host.subnet import Taken, networks

RESOLV_CONF = Path("/etc/resolv.conf")
RTN_THROW = 9
"""A route that says to look in another table (linux/rtnetlink.h)."""
IFF_UP = 1


def taken(bridge: str = "", resolv_conf: Path = RESOLV_CONF) -> Taken:
    """What this machine reaches by IPv4, without the lab's own `bridge`: see `labkit.node.host.subnet`.

    It has the routes of every table, since rules may lead to each of them; routes of type blackhole or unreachable, which reserve
    a range; and the destinations of rules. A route's gateway and a DNS server may be covered by the default route only.
    """
    addresses, routes, hosts = [], [], dns_servers(resolv_conf)
    with IPRoute() as ip:
        own = ip.link_lookup(ifname=bridge) if bridge else []
        for m in ip.get_addr(family=socket.AF_INET):
            if m["index"] not in own:
                # At a point-to-point link IFA_ADDRESS is the other end's.
                ends = {m.get_attr("IFA_ADDRESS"), m.get_attr("IFA_LOCAL")} - {None}
                addresses += [f"{end}/{m['prefixlen']}" for end in sorted(ends)]
        for m in ip.get_routes(family=socket.AF_INET):
            if m.get_attr("RTA_OIF") in own or m["type"] == RTN_THROW:
                continue
            hosts += [m.get_attr("RTA_GATEWAY")] if m.get_attr("RTA_GATEWAY") else []
            routes += [f"{m.get_attr('RTA_DST')}/{m['dst_len']}"] if m.get_attr("RTA_DST") else []
        for m in ip.get_rules(family=socket.AF_INET):
            routes += [f"{m.get_attr('FRA_DST')}/{m['dst_len']}"] if m.get_attr("FRA_DST") else []
    return Taken(networks(addresses), networks(routes), networks(hosts))


def dns_servers(resolv_conf: Path) -> list[str]:
    """The IPv4 addresses of the DNS servers in a resolv.conf; none where it cannot be read."""
    try:
        lines = resolv_conf.read_text(errors="replace").splitlines()
    except OSError:
        return []
    servers = [words[1] for line in lines if len(words := line.split()) > 1 and words[0] == "nameserver"]
    return [server for server in servers if is_ipv4(server)]


def is_ipv4(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 4
    except ValueError:
        return False


def loopback_is_up() -> bool:
    with IPRoute() as ip:
        return any(link["flags"] & IFF_UP for index in ip.link_lookup(ifname="lo") for link in ip.get_links(index))


def way_to(address: str) -> str:
    """The name of the interface through which this machine sends to an address; "" where there is none."""
    with IPRoute() as ip:
        try:
            found = ip.route("get", dst=address)
        except NetlinkError:
            return ""
        links = [link for m in found for link in ip.get_links(m.get_attr("RTA_OIF") or 0)]
        return str(links[0].get_attr("IFLA_IFNAME")) if links else ""


def bridge_subnet(bridge: str) -> ipaddress.IPv4Network | None:
    """The subnet of an existing bridge, else None."""
    with IPRoute() as ip:
        for index in ip.link_lookup(ifname=bridge):
            for m in ip.get_addr(index=index, family=2):
                return ipaddress.IPv4Network(f"{m.get_attr('IFA_ADDRESS')}/{m['prefixlen']}", strict=False)
    return None


def make_bridge(bridge: str, subnet: ipaddress.IPv4Network) -> None:
    """Make the bridge, give it the first address of the subnet, bring it up. Idempotent.

    Its link address is set explicitly. Otherwise it would be the lowest one of its ports (Linux, br_stp_recalculate_bridge_id)
    and change when a Pod comes or goes, and packets of other Pods to the old address would be lost.
    """
    with IPRoute() as ip:
        found = ip.link_lookup(ifname=bridge)
        if not found:
            ip.link("add", ifname=bridge, kind="bridge")
            found = ip.link_lookup(ifname=bridge)
        if bridge_subnet(bridge) is None:
            ip.addr("add", index=found[0], address=str(subnet[1]), prefixlen=subnet.prefixlen)
        ip.link("set", index=found[0], address="0a:58:" + ":".join(f"{byte:02x}" for byte in subnet[1].packed))
        ip.link("set", index=found[0], state="up")


def links_of(bridge: str) -> list[str]:
    """The bridge itself and the host's ends of the Pods' veth pairs plugged into it."""
    with IPRoute() as ip:
        found = ip.link_lookup(ifname=bridge)
        if not found:
            return []
        ports = [m.get_attr("IFLA_IFNAME") for m in ip.get_links() if m.get_attr("IFLA_MASTER") == found[0]]
    return [*ports, bridge]


def remove_links(bridge: str) -> list[str]:
    """Delete the bridge and the links plugged into it. Returns their names."""
    removed = []
    for name in links_of(bridge):
        with IPRoute() as ip:
            for index in ip.link_lookup(ifname=name):
                ip.link("del", index=index)
                removed.append(name)
    return removed
