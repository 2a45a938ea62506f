"""An image's reference: its parts, and what the kubelet adds to it.

Knowledge: distribution/reference, kubelet's images/image_manager.go (applyDefaultImageTag).
"""

from __future__ import annotations

import re

HOST = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
DOMAIN = rf"(?:{HOST}(?:\.{HOST})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
REFERENCE = re.compile(
    rf"(?:(?P<domain>{DOMAIN})/)?(?P<path>{PART}(?:/{PART})*)(?::(?P<tag>[\w][\w.-]{{0,127}}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?"
)
HUB = "docker.io"


def with_tag(name: str) -> str:
    """The reference, with :latest where it has neither tag nor digest. Raises ValueError for what is no reference."""
    match = REFERENCE.fullmatch(name)
    if match is None:
        repository = _remainder(name).partition(":")[0]
        if repository != repository.lower():
            raise ValueError(f"invalid reference format: repository name ({repository}) must be lowercase")
        raise ValueError("invalid reference format")
    return name if match["tag"] or match["digest"] else f"{name}:latest"


def _remainder(name: str) -> str:
    """What follows the registry in a name (distribution's splitDockerDomain)."""
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        return rest if first != HUB or "/" in rest else f"library/{rest}"
    return name if slash else f"library/{name}"


def registry_path(name: str) -> str:
    """ "busybox:1" → "docker.io/library/busybox": registry and path, without tag and digest."""
    match = REFERENCE.fullmatch(name)
    if match is None:
        return name
    domain, path = match["domain"], match["path"]
    if domain and not ("." in domain or ":" in domain or domain == "localhost"):
        domain, path = None, f"{domain}/{path}"
    if domain is None:
        domain, path = HUB, path if "/" in path else f"library/{path}"
    return f"{domain}/{path}"
