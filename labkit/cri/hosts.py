"""The /etc/hosts that a kubelet writes for a Pod (pkg/kubelet/kubelet_pods.go, managedHostsFileContent)."""

from __future__ import annotations

from collections.abc import Sequence

HEAD = """\
# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


def hosts_file(ips: Sequence[str], hostname: str) -> str:
    """The text of the file; a line for each address of the Pod, as far as it is known."""
    return HEAD + "".join(f"{ip}\t{hostname}\n" for ip in ips if ip)
