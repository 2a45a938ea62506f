"""What a Pod's dnsPolicy stands for: servers, searches and options, as the kubelet works them out.

Knowledge: man 5 resolv.conf; kubelet's network/dns/dns.go (parseResolvConf, getPodDNSType, generateSearchesForDNSClusterFirst,
appendDNSConfig, formDNSConfigFitsLimits).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MOST_SERVERS, MOST_SEARCHES, SEARCH_LENGTH, SEARCHES_LENGTH = 3, 32, 253, 2048
"""What the kubelet leaves of a longer resolv.conf (validation.MaxDNSNameservers, MaxDNSSearchPaths, MaxDNSSearchListChars; of a
single search DNS1123SubdomainMaxLength)."""
OMITTED = {
    "servers": "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: ",
    "searches": "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: ",
}

Dns = Mapping[str, Sequence[str]]
"""The fields of CRI's DNSConfig: servers, searches, options."""


def of_node(resolv_conf: str) -> dict[str, list[str]] | None:
    """What a node's own resolv.conf says, as the kubelet reads it: no "domain", and of an option the last. None where it names no
    server."""
    found: dict[str, list[str]] = {"servers": [], "searches": [], "options": []}
    options: dict[str, str] = {}
    for line in resolv_conf.splitlines():
        words = [] if line.lstrip().startswith("#") else line.split()
        if len(words) > 1 and words[0] == "nameserver":
            found["servers"].append(words[1])
        elif words and words[0] == "search":
            found["searches"] = [word if word == "." else word.removesuffix(".") for word in words[1:]]
        elif words and words[0] == "options":
            options.update({word.partition(":")[0]: word for word in words[1:]})
    found["options"] = list(options.values())
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


def with_own(spec: Mapping[str, Any], base: Dns | None) -> dict[str, list[str]] | None:
    """What dnsPolicy stands for (`base`; nothing for the policy None), with the Pod's dnsConfig after it; None for neither."""
    own = spec.get("dnsConfig") or {}
    if base is None and not own:
        return None
    first = {field: list((base or {}).get(field, ())) if spec["dnsPolicy"] != "None" else [] for field in ("servers", "searches")}
    options = list((base or {}).get("options", ())) if spec["dnsPolicy"] != "None" else []
    named = {option["name"]: option.get("value") for option in own.get("options") or ()}
    kept = [option for option in options if option.partition(":")[0] not in named]
    more = {"servers": own.get("nameservers") or (), "searches": own.get("searches") or ()}
    merged = {field: list(dict.fromkeys([*first[field], *more[field]])) if own else first[field] for field in first}
    return {**merged, "options": kept + [f"{name}:{value}" if value else name for name, value in named.items()]}


def within_limits(dns: Dns) -> tuple[dict[str, list[str]], list[str]]:
    """What is left of it for a resolv.conf, and the words of the events about what is not."""
    servers, searches = list(dns["servers"])[:MOST_SERVERS], list(dns["searches"])[:MOST_SEARCHES]
    searches = [search for search in searches if len(search) <= SEARCH_LENGTH]
    while len(" ".join(searches)) > SEARCHES_LENGTH:
        searches.pop()
    left = {"servers": servers, "searches": searches}
    words = [OMITTED[field] + " ".join(kept) for field, kept in left.items() if len(kept) < len(dns[field])]
    return {**left, "options": list(dns["options"])}, words
