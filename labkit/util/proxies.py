"""Which HTTP proxy a client uses for a URL: the rule of kubectl and every other Go program (golang.org/x/net/http/httpproxy).

Python's clients differ from it: they use a proxy for loopback too, and know ALL_PROXY.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

PORTS = {"http": 80, "https": 443}


def proxy_for(url: str, environ: Mapping[str, str] | None = None) -> str | None:
    """The proxy that the environment names for `url`; None where the connection is direct, as it always is to this machine."""
    environ = os.environ if environ is None else environ
    parts = urlsplit(url)
    name = f"{parts.scheme}_proxy"
    proxy = environ.get(name.upper()) or environ.get(name) or ""
    host, port = (parts.hostname or "").lower(), parts.port or PORTS.get(parts.scheme, 0)
    no_proxy = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    if not proxy or not host or is_loopback(host) or excepted(host, port, no_proxy):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def is_loopback(host: str) -> bool:
    """ "localhost", 127.0.0.0/8 or ::1; no other name, whatever it resolves to."""
    address = as_address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def excepted(host: str, port: int, no_proxy: str) -> bool:
    """Whether NO_PROXY has an entry for this host: "*", an address or a domain, with a port or not, or a network."""
    for entry in (entry.strip().lower() for entry in no_proxy.split(",")):
        if entry == "*" or (entry and matches(host, port, entry)):
            return True
    return False


def matches(host: str, port: int, entry: str) -> bool:
    address = as_address(host)
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            pass
    if as_address(entry) is None and entry.rpartition(":")[2].isdigit():
        entry, _, wanted = entry.rpartition(":")
        if int(wanted) != port:
            return False
    entry = entry.removeprefix("[").removesuffix("]")
    if (excepted_address := as_address(entry)) is not None:
        return address == excepted_address
    entry = entry.removeprefix("*")  # "*.lab" and ".lab" are the domain's hosts; "lab" is also the domain itself
    return bool(entry.strip(".")) and (host.endswith("." + entry.removeprefix(".")) or host == entry)


def as_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
