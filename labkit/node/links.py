"""The Pods' bridge: made, found and removed by rtnetlink (man 7 rtnetlink), through pyroute2."""

from __future__ import annotations

import ipaddress

from pyroute2 import IPRoute


def networks_in_use() -> list[str]:
    """Addresses and routes of this machine in CIDR form, IPv4; the default route is left out."""
    with IPRoute() as ip:
        addresses = [f"{m.get_attr('IFA_ADDRESS')}/{m['prefixlen']}" for m in ip.get_addr(family=2)]
        routes = [f"{m.get_attr('RTA_DST')}/{m['dst_len']}" for m in ip.get_routes(family=2) if m.get_attr("RTA_DST")]
    return addresses + routes


def bridge_subnet(bridge: str) -> ipaddress.IPv4Network | None:
    """The subnet of a bridge that is there already, else None."""
    with IPRoute() as ip:
        for index in ip.link_lookup(ifname=bridge):
            for m in ip.get_addr(index=index, family=2):
                return ipaddress.IPv4Network(f"{m.get_attr('IFA_ADDRESS')}/{m['prefixlen']}", strict=False)
    return None


def make_bridge(bridge: str, subnet: ipaddress.IPv4Network) -> None:
    """Make the bridge, give it the subnet's first address, bring it up. Idempotent.

    Its link address is set, since one that was not takes the lowest of its ports' (Linux, br_stp_recalculate_bridge_id): it would
    change when a Pod comes or goes, and what other Pods send to the one that they remember would be lost.
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
    """Delete the bridge and what is plugged into it; the names deleted."""
    removed = []
    for name in links_of(bridge):
        with IPRoute() as ip:
            for index in ip.link_lookup(ifname=name):
                ip.link("del", index=index)
                removed.append(name)
    return removed
