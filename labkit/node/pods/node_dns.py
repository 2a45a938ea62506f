"""`node.dns`: what the names of Pods are looked up with on a node."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from labkit.node.host.access import Shell
from labkit.podspec.messages import dns
from labkit.podspec.messages.hosts import CLUSTER_DOMAIN
from labkit.util.errors import NodeError

KUBELET_CONFIGURATION = "/var/lib/kubelet/config.yaml"


class NodeDns:
    """The node's own servers; a Pod gets no others, since no kubelet with a cluster's runs there."""

    def __init__(self, host: Shell) -> None:
        self.host = host

    @property
    def cluster_domain(self) -> str:
        """What the full names of Pods with a subdomain end in."""
        return CLUSTER_DOMAIN

    def of_pod(self, pod: Mapping[str, Any]) -> dns.Dns | None:
        """What the dnsPolicy of a Pod stands for on this node. pod: a manifest with its defaults."""
        return dns.of_pod(pod, self.own)

    @cached_property
    def own(self) -> dns.Dns | None:
        """What the node's own /etc/resolv.conf says; None where it cannot be read or names no server. LABKIT_RESOLV_CONF names
        another file on the node, as a kubelet's --resolv-conf does."""
        with contextlib.suppress(NodeError):
            return dns.of_node(self.host.shell(["cat", os.environ.get("LABKIT_RESOLV_CONF") or "/etc/resolv.conf"]))
        return None


class KubeletDns(NodeDns):
    """With the cluster's own servers, where the node's kubelet has such."""

    @cached_property
    def configuration(self) -> dict[str, Any]:
        """The KubeletConfiguration of the node's kubelet, as kubeadm writes it; {} where there is none."""
        import yaml

        with contextlib.suppress(NodeError, yaml.YAMLError):
            return dict(yaml.safe_load(self.host.shell(["cat", KUBELET_CONFIGURATION])) or {})
        return {}

    @property
    def cluster_domain(self) -> str:
        return str(self.configuration.get("clusterDomain") or super().cluster_domain)

    def of_pod(self, pod: Mapping[str, Any]) -> dns.Dns | None:
        servers, domain = self.configuration.get("clusterDNS") or (), self.configuration.get("clusterDomain") or ""
        return dns.of_pod(pod, self.own, servers, domain)
