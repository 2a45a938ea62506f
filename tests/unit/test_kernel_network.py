"""Interfaces of network namespaces made for the test, against `ip` run inside them. Most are skipped without root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.kernel import Interface, LocalKernel
from labkit.kernel.parse import parse_ip_address

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make network namespaces")
MISSING_PID = 4194304  # the kernel's PID_MAX_LIMIT: no process can have it

_LINKS = """
ip link set lo up
ip link add eth0 type veth peer name other netns $$ && ip link set other mtu 1400
ip link add cni0 type bridge && ip link set eth0 master cni0 && ip link set eth0 up
ip addr add 10.9.0.2/16 dev eth0 && ip addr add 10.9.0.3/16 dev eth0 && ip -6 addr add fd00:9::2/64 dev eth0 nodad
ip addr add 10.7.0.1 peer 10.7.0.2/32 dev other
# Not every kernel has vlan; where it does, its link to cni0 must not be taken for a peer.
ip link add link cni0 name vlan7 type vlan id 7 2>/dev/null || true
ip tuntap add dev tun0 mode tun
"""


@pytest.fixture
def pin(tmp_path) -> Iterator[str]:
    """Path of a bind-mounted network namespace with a bridge, a veth pair and a tun, seen by nothing else."""
    path = tmp_path / "net"
    path.touch()
    try:
        subprocess.run(["unshare", f"--net={path}", "sh", "-ec", _LINKS], check=True)
        yield str(path)
    finally:
        subprocess.run(["umount", str(path)], check=True)


def told_by_ip(pin: str) -> tuple[Interface, ...]:
    command = ["nsenter", f"--net={pin}", "ip", "-j", "-d", "address"]
    return tuple(sorted(parse_ip_address(subprocess.check_output(command, text=True)), key=lambda interface: interface.index))


@needs_root
def test_interfaces_of_a_bind_mount_as_ip_tells(pin):
    interfaces = LocalKernel().interfaces(pin)
    assert interfaces == told_by_ip(pin)
    by_name = {interface.name: interface for interface in interfaces}
    assert by_name["eth0"].peer_index == by_name["other"].index
    assert by_name["eth0"].addresses[:2] == ("10.9.0.2/16", "10.9.0.3/16")
    assert (by_name["tun0"].mac, by_name["tun0"].kind, by_name["other"].mtu) == ("", "tun", 1400)


@needs_root
def test_interfaces_of_a_process_and_a_peer_in_another_namespace(pin):
    with subprocess.Popen(["unshare", "--net", "sleep", "60"]) as process:
        try:
            own = os.stat("/proc/self/ns/net").st_ino
            while os.stat(f"/proc/{process.pid}/ns/net").st_ino == own:
                assert process.poll() is None
            move = f"ip link add far type veth peer name near netns {process.pid}"
            subprocess.run(["nsenter", f"--net={pin}", "sh", "-ec", move], check=True)
            near = {interface.name: interface for interface in LocalKernel().interfaces(process.pid)}["near"]
            far = {interface.name: interface for interface in LocalKernel().interfaces(pin)}["far"]
            assert (near.peer_index, far.peer_index) == (far.index, near.index)
            assert near.kind == "veth"
            assert LocalKernel().interfaces(pin) == told_by_ip(pin)
        finally:
            process.kill()


@needs_root
def test_asking_moves_nobody_and_leaks_nothing(pin):
    namespace, files = os.stat("/proc/self/ns/net").st_ino, set(os.listdir("/proc/self/fd"))
    for _ in range(50):
        LocalKernel().interfaces(pin)
        with pytest.raises(OSError):
            LocalKernel().interfaces(MISSING_PID)
    assert os.stat("/proc/self/ns/net").st_ino == namespace
    assert len(set(os.listdir("/proc/self/fd")) - files) < 50  # a thread of another test may have opened one meanwhile


@needs_root
def test_many_interfaces_come_in_several_pieces(pin):
    links = "\n".join(f"link add a{number} type veth peer name b{number}" for number in range(100))
    subprocess.run(["nsenter", f"--net={pin}", "ip", "-batch", "-"], input=links, text=True, check=True)
    assert LocalKernel().interfaces(pin) == told_by_ip(pin)


def test_own_interfaces_need_no_privilege():
    def told() -> set[str]:
        return {line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]}

    before = told()
    names = {interface.name for interface in LocalKernel().interfaces(os.getpid())}
    after = told()  # those of other tests' Pods come and go meanwhile
    assert before & after <= names <= before | after


def test_no_such_process():
    with pytest.raises(ProcessLookupError, match=f"There is no process {MISSING_PID}"):
        LocalKernel().interfaces(MISSING_PID)


def test_no_such_path():
    with pytest.raises(FileNotFoundError, match="There is no /run/netns/labkit-no-such"):
        LocalKernel().interfaces("/run/netns/labkit-no-such")


@needs_root
@pytest.mark.parametrize("kind", ["file", "uts"])
def test_path_of_something_else(tmp_path, kind):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(OSError, match="could not be entered as a network namespace"):
        LocalKernel().interfaces("/proc/self/ns/uts" if kind == "uts" else str(path))
