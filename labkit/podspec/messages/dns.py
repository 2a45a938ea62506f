"""What a Pod's dnsPolicy stands for: servers, searches and options, as the kubelet works them out.

Knowledge: man 5 resolv.conf; kubelet's network/dns/dns.go (getPodDNSType, generateSearchesForDNSClusterFirst).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Dns = Mapping[str, Sequence[str]]
"""The fields of CRI's DNSConfig: servers, searches, options."""


def of_node(resolv_conf: str) -> dict[str, list[str]] | None:
    """What a node's own resolv.conf says; None where it names no server."""
    found: dict[str, list[str]] = {"servers": [], "searches": [], "options": []}
    for line in resolv_conf.splitlines():
        words = line.split("#")[0].split()
        if len(words) > 1 and words[0] == "nameserver":
            found["servers"].append(words[1])
        elif len(words) > 1 and words[0] in ("search", "domain"):
            found["searches"] = words[1:]
        elif len(words) > 1 and words[0] == "options":
            found["options"] += words[1:]
    return found if found["servers"] else None


def of_pod(pod: Mapping[str, Any], node: Dns | None, servers: Sequence[str] = (), domain: str = "") -> Dns | None:
    """What a Pod gets.

    pod: a manifest with its defaults. servers, domain: the kubelet's clusterDNS and clusterDomain, empty where it has none; then
    ClusterFirst, too, means the node's own.
    """
    spec = pod["spec"]
    of_cluster = spec["dnsPolicy"] == "ClusterFirstWithHostNet" or (
        spec["dnsPolicy"] == "ClusterFirst" and not spec.get("hostNetwork")
    )
    if not of_cluster or not servers:
        return node
    own = [f"{pod['metadata']['namespace']}.svc.{domain}", f"svc.{domain}", domain] if domain else []
    searches = dict.fromkeys([*own, *(node or {}).get("searches", ())])
    return {"servers": list(servers), "searches": list(searches), "options": ["ndots:5"]}
