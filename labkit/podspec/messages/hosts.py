"""A Pod's hostname, and the /etc/hosts that a kubelet writes for it (pkg/kubelet/kubelet_pods.go, ensureHostsFile)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

HOSTNAME_LENGTH = 63
HEAD = """\
# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""
HEAD_ON_HOST = "# Kubernetes-managed hosts file (host network).\n"
ALIASES = "\n# Entries added by HostAliases.\n"


def hostname(pod: Mapping[str, Any]) -> str:
    """What a Pod that is not on the host's network is called: by default its name."""
    spec = pod["spec"]
    name: str = spec.get("hostnameOverride") or spec.get("hostname") or pod["metadata"]["name"]
    return name[:HOSTNAME_LENGTH].rstrip("-.")


def hosts_file(pod: Mapping[str, Any], ips: Sequence[str], of_node: Callable[[], str]) -> str:
    """The text of the file: a line for each address of the Pod, as far as it is known, and its hostAliases. `of_node` reads the
    node's own file, which a Pod on the host's network gets."""
    if pod["spec"].get("hostNetwork"):
        text = HEAD_ON_HOST + of_node()
    else:
        text = HEAD + "".join(f"{ip}\t{hostname(pod)}\n" for ip in ips if ip)
    aliases = pod["spec"].get("hostAliases") or ()
    return text + (ALIASES if aliases else "") + "".join("\t".join([a["ip"], *a.get("hostnames", ())]) + "\n" for a in aliases)
