"""What a Pod's dnsPolicy stands for."""

from types import SimpleNamespace

import pytest

from labkit.kubelet.containers.configuration import Configuration
from labkit.kubelet.core.actions import Actions
from labkit.kubelet.core.sync import PodSync
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
    text = "nameserver 192.0.2.53\ndomain old.example\n  # search none.example\noptions ndots:1 ndots:2\noptions rotate ndots:3\n"
    assert dns.of_node(text) == {"servers": ["192.0.2.53"], "searches": [], "options": ["ndots:3", "rotate"]}
    assert (dns.of_node("nameserver 192.0.2.53\nsearch . lab.example.\n") or {})["searches"] == [".", "lab.example"]
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


def test_what_is_left_out_is_said():
    own = {"nameservers": ["192.0.2.1", "192.0.2.2", "192.0.2.53"], "searches": ["lab.example", "more.example"]}
    whole = dns.with_own(pod(dnsConfig=own)["spec"], NODE)
    assert dns.within_limits(whole) == ({**whole}, [])
    whole["servers"].append("192.0.2.4")
    whole["searches"].append(f"{'a' * 254}")
    left, words = dns.within_limits(whole)
    assert left == {"servers": whole["servers"][:3], "searches": whole["searches"][:2], "options": ["timeout:1"]}
    assert words == [
        "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "
        "192.0.2.53 192.0.2.1 192.0.2.2",
        "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "
        "lab.example more.example",
    ]
    long = {"servers": [], "searches": [f"{'a' * 200}{n}.example" for n in range(12)], "options": []}
    assert dns.within_limits(long)[0]["searches"] == long["searches"][:9]


@pytest.mark.parametrize(("of_node", "events"), [(["192.0.2.8"], 0), (["192.0.2.8", "192.0.2.9"], 1)])
def test_the_kubelet_makes_an_event_of_it(of_node, events):
    web, told = pod(dnsConfig={"nameservers": ["192.0.2.1", "192.0.2.2"]}), []
    node = SimpleNamespace(dns={"servers": of_node, "searches": [], "options": []})
    configuration = SimpleNamespace(sandbox=lambda *_: None, dns_words=lambda it: Configuration.dns_words(node, it))
    sync = SimpleNamespace(configuration=configuration, recorder=SimpleNamespace(pod_event=lambda *event: told.append(event)))
    box = SimpleNamespace(id="box", ips=["192.0.2.7"])
    state = SimpleNamespace(pod=web, first_seen="", runtime=SimpleNamespace(sandboxes=[box]))
    PodSync.need_sandbox(sync, state, Actions())
    assert [event[:3] for event in told] == [(web, "Warning", "DNSConfigForming")] * events


def test_dns_config_comes_after_what_the_policy_gives():
    options = [{"name": "timeout", "value": "2"}, {"name": "rotate"}]
    own = {"nameservers": ["192.0.2.1"], "searches": ["lab.example"], "options": options}
    assert dns.with_own(pod(dnsConfig=own)["spec"], NODE) == {
        "servers": ["192.0.2.53", "192.0.2.1"], "searches": ["lab.example"], "options": ["timeout:2", "rotate"],
    }
    assert dns.with_own(pod(dnsConfig=own, dnsPolicy="None")["spec"], NODE) == {
        "servers": ["192.0.2.1"], "searches": ["lab.example"], "options": ["timeout:2", "rotate"],
    }
    assert dns.with_own(pod()["spec"], None) is None
