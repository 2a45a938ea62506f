"""The Pods' bridge beside a VPN's real routes, each time in a network namespace of the test's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import CI

MAKE = """
import json, sys
from labkit.node.host import links, containerd_setup as private
from labkit.node.state.home import Home
home = Home.find()
subnet = private.make_bridge(home)
print(json.dumps({"subnet": str(subnet), "way": links.way_to(str(subnet[2])), "again": str(private.make_bridge(home))}))
"""
NETWORK = """
ip link set lo up
for link in eth0 tun0; do
    ip link add $link type veth peer name peer-$link
    ip link set $link up; ip link set peer-$link up
done
ip addr add 192.168.1.5/24 dev eth0
ip route add default via 192.168.1.1
ip addr add 10.8.0.6 peer 10.8.0.5/32 dev tun0
"""


def made_beside(setup: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What MAKE prints in a network namespace with NETWORK and `setup`."""
    if not shutil.which("unshare") or os.geteuid() != 0:
        assert not CI, "needs root and unshare(1)"
        pytest.skip("needs root and unshare(1)")
    script = f'set -e\n{NETWORK}{setup}\nexec "$0" -c "$1"'
    argv = ["unshare", "--net", "sh", "-c", script, sys.executable, MAKE]
    environment = {**os.environ, "LABKIT_HOME": "/tmp/lk-routes", **environment}
    return subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize(
    ("setup", "subnet"),
    [
        ("ip route add 0.0.0.0/1 dev tun0; ip route add 128.0.0.0/1 dev tun0", "10.88.0.0/16"),
        ("ip route add default dev tun0 table 51820; ip rule add not fwmark 51820 lookup 51820;"
         "ip rule add lookup main suppress_prefixlength 0", "10.88.0.0/16"),
        ("ip route add 10.0.0.0/8 dev tun0", "172.31.0.0/16"),
        ("ip route add 10.0.0.0/8 dev tun0 table 99", "172.31.0.0/16"),
        ("ip route add unreachable 10.0.0.0/8; ip rule add to 172.16.0.0/12 lookup 7", "192.168.255.0/24"),
        ("ip route add default via 10.88.0.1 dev tun0 onlink metric 9", "10.89.0.0/16"),
    ],
    ids=["def1", "wg-quick", "one-10/8", "10/8-in-a-table", "unreachable-and-a-rule", "a-gateway"],
)
def test_the_bridge_gets_a_subnet_that_this_machine_does_not_reach_otherwise(setup: str, subnet: str) -> None:
    done = made_beside(setup)
    assert done.returncode == 0, done.stderr
    bridge = json.loads(done.stdout)
    assert bridge["subnet"] == bridge["again"] == subnet
    assert bridge["way"].startswith("labkit-"), "packets to Pods go by the bridge"


def test_the_subnet_that_is_named_is_the_bridges() -> None:
    done = made_beside("ip route add 10.0.0.0/8 dev tun0", LABKIT_SUBNET="10.200.0.0/16")
    assert json.loads(done.stdout)["subnet"] == "10.200.0.0/16" and json.loads(done.stdout)["way"].startswith("labkit-")


def test_rules_that_keep_packets_from_the_bridge_are_reported_in_the_log() -> None:
    """As Tailscale does with an exit node: a table with a default route comes before the main one."""
    done = made_beside("ip route add default dev tun0 table 52; ip rule add lookup 52")
    assert json.loads(done.stdout)["way"] == "tun0"
    assert "routing rules send what is for Pods (10.88.0.0/16) to tun0" in done.stderr


def test_without_loopback_there_is_a_sentence_instead_of_a_node() -> None:
    done = made_beside("ip link set lo down")
    assert "The loopback interface of this machine is down. Bring it up" in done.stderr
