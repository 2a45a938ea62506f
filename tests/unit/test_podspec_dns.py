"""What a Pod's dnsPolicy stands for."""

import pytest

from labkit.node.pods.node_dns import KubeletDns
from labkit.podspec import with_defaults
from labkit.podspec.messages import dns, sandbox_config

NODE = {"servers": ["192.0.2.53"], "searches": ["lab.example"], "options": ["timeout:1"]}
CLUSTER = {"servers": ["10.96.0.10"], "domain": "cluster.local"}


def pod(**spec):
    containers = [{"name": "app", "image": "x:1"}]
    return with_defaults({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"containers": containers, **spec}})


def test_the_nodes_own_resolv_conf():
    text = "# made by hand\nsearch old.example\nnameserver 192.0.2.53 # first\nnameserver 2001:db8::53\n"
    text += "search lab.example other.example\noptions ndots:2 rotate\noptions timeout:1\nsortlist 192.0.2.0\nnameserver\n"
    assert dns.of_node(text) == {
        "servers": ["192.0.2.53", "2001:db8::53"],
        "searches": ["lab.example", "other.example"],
        "options": ["ndots:2", "rotate", "timeout:1"],
    }
    assert dns.of_node("search lab.example\n") is None


@pytest.mark.parametrize(
    ("spec", "of_cluster"),
    [
        ({}, True),
        ({"hostNetwork": True}, False),
        ({"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}, True),
        ({"dnsPolicy": "Default"}, False),
    ],
)
def test_a_policy_chooses_between_cluster_and_node(spec, of_cluster):
    made = dns.of_pod(pod(**spec), NODE, **CLUSTER)
    if of_cluster:
        searches = ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "lab.example"]
        assert made == {"servers": ["10.96.0.10"], "searches": searches, "options": ["ndots:5"]}
    else:
        assert made == NODE


def test_without_cluster_dns_each_policy_means_the_nodes_own_and_without_both_nothing():
    assert dns.of_pod(pod(), NODE) == NODE and dns.of_pod(pod(), None) is None
    assert list(sandbox_config(pod(), dns=dns.of_pod(pod(), NODE)).dns_config.servers) == ["192.0.2.53"]


def test_a_kind_node_has_the_servers_that_its_kubelet_is_configured_with():
    node = KubeletDns(None)
    node.__dict__.update(own=NODE, configuration={"clusterDNS": ["10.96.0.10"], "clusterDomain": "cluster.local"})
    assert node.of_pod(pod()) == dns.of_pod(pod(), NODE, **CLUSTER) != NODE
    node.__dict__["configuration"] = {}
    assert node.of_pod(pod()) == NODE


def test_a_pod_gets_as_many_servers_and_searches_as_a_kubelet_leaves():
    many = {"servers": [f"192.0.2.{n}" for n in range(20)], "searches": [f"a{n}.example" for n in range(40)], "options": []}
    config = sandbox_config(pod(), dns=many).dns_config
    assert list(config.servers) == many["servers"][:3] and list(config.searches) == many["searches"][:32]
    assert dns.of_node("nameserver fe80::1%eth0\n") == {"servers": ["fe80::1%eth0"], "searches": [], "options": []}
