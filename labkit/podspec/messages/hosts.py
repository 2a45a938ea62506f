"""A Pod's hostname and domain, and the /etc/hosts that a kubelet writes for it.

Knowledge: kubelet_pods.go (GeneratePodHostNameAndDomain, ensureHostsFile), pkg/kubelet/util (GetNodenameForKernel).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

HOSTNAME_LENGTH, FQDN_LENGTH = 63, 64
CLUSTER_DOMAIN = "cluster.local"
"""The domain of clusters made with kubeadm or kind, and of the lab's own."""
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


class HostnameError(ValueError):
    """A Pod's full name is longer than the kernel allows."""


def hostname(pod: Mapping[str, Any]) -> str:
    """The short name of a Pod that is not on the host's network: by default the Pod's own."""
    spec = pod["spec"]
    name: str = spec.get("hostnameOverride") or spec.get("hostname") or pod["metadata"]["name"]
    return name[:HOSTNAME_LENGTH].rstrip("-.")


def domain(pod: Mapping[str, Any], cluster_domain: str = CLUSTER_DOMAIN) -> str:
    """What follows the hostname in a Pod's full name; "" for a Pod without a subdomain."""
    spec = pod["spec"]
    if spec.get("hostnameOverride") or not spec.get("subdomain"):
        return ""
    return f"{spec['subdomain']}.{pod['metadata']['namespace']}.svc.{cluster_domain}"


def kernel_hostname(pod: Mapping[str, Any], cluster_domain: str = CLUSTER_DOMAIN) -> str:
    """What `hostname` prints in the Pod: with setHostnameAsFQDN the full name. Raises HostnameError where the kernel has no room
    for that."""
    name, follows = hostname(pod), domain(pod, cluster_domain)
    if not (follows and pod["spec"].get("setHostnameAsFQDN")):
        return name
    full = f"{name}.{follows}"
    if len(full) > FQDN_LENGTH:
        raise HostnameError(
            f"failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long "
            f"({FQDN_LENGTH} characters is the max, {len(full)} characters requested)"
        )
    return full


def hosts_file(
    pod: Mapping[str, Any], ips: Sequence[str], of_node: Callable[[], str], cluster_domain: str = CLUSTER_DOMAIN
) -> str:
    """The text of the file: a line for each address of the Pod, as far as it is known, and its hostAliases. `of_node` reads the
    node's own file, which a Pod on the host's network gets."""
    if pod["spec"].get("hostNetwork"):
        text = HEAD_ON_HOST + of_node()
    else:
        name, follows = hostname(pod), domain(pod, cluster_domain)
        names = f"{name}.{follows}\t{name}" if follows else name
        text = HEAD + "".join(f"{ip}\t{names}\n" for ip in ips if ip)
    aliases = pod["spec"].get("hostAliases") or ()
    return text + (ALIASES if aliases else "") + "".join("\t".join([a["ip"], *a.get("hostnames", ())]) + "\n" for a in aliases)
