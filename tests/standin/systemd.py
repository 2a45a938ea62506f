"""A stand-in for a node of a kind cluster of today, made after recordings of a real one.

systemd is process 1 of a privileged container and runs containerd 2.1 as a unit, with the systemd cgroup driver. The network is
ptp and portmap, which runs iptables in the node's own network namespace. Each container's createContainer hook runs bash, jq and
cp. The verbose Status names no registry, and `containerd config dump` is, line by line, the real one's.

What is not kind's:
- The system is Debian 12; containerd is Debian unstable's package, runc Debian 12's.
- The entrypoint is four lines of kind's several hundred: no user namespaces, proxies, IPv6, or way to Docker's name server.
- systemd-sysctl, systemd-modules-load and systemd-random-seed do not run: they write to the machine's kernel.
- Units set no limits and no OOMScoreAdjust, and containerd restricts oom_score_adj, for machines without CAP_SYS_RESOURCE. On
  those the engine's runtime takes that capability out of what `--privileged` asks for (runtime.py).
- kindnetd, kube-proxy, CoreDNS and etcd do not run. The CNI file is there from the beginning, and nobody writes it again.
- As a cluster (cluster.py) the lab's own API and kubelet are units: the API is no static Pod. The kubelet is Python. Pods get no
  token of a service account, and the node's own name servers. There is no /var/lib/kubelet/config.yaml.
- The other kubelet (`start_kubelet`) is a shell script, which removes the Pods that it does not know and does nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

from tests.standin import image
from tests.standin.engine import Engine
from tests.standin.node import PRIVILEGED, StandIn, running

UNIT = """
[Unit]
Description={name}, run by the tests
After=containerd.service
StartLimitIntervalSec=0

[Service]
ExecStart={command}
KillMode=process
Restart=always
RestartSec=1
Slice={slice}
"""
SLICES = {"kubelet": "kubelet.slice"}
"""kind's; every other unit is in system.slice."""


@dataclass(frozen=True)
class SystemdNode(StandIn):
    """One node of today. `exec("systemctl", …)` does what no method does."""

    image: ClassVar[image.NodeImage] = image.TODAY
    pause_image: ClassVar[str] = "registry.k8s.io/pause:3.10.2"
    privileges: ClassVar[Sequence[str]] = PRIVILEGED
    cgroup_driver: ClassVar[str] = "systemd"

    def run_service(self, name: str, command: str) -> None:
        """Make a unit of a command and start it."""
        unit = UNIT.format(name=name, command=command, slice=SLICES.get(name, "system.slice"))
        self.write_files({f"/etc/systemd/system/{name}.service": unit.encode()})
        self.exec("systemctl", "daemon-reload")
        self.exec("systemctl", "start", name)

    def end_service(self, name: str) -> None:
        self.exec("systemctl", "kill", "--signal=KILL", name)
        self.exec("systemctl", "stop", name)
        self.exec("rm", f"/etc/systemd/system/{name}.service")
        self.exec("systemctl", "daemon-reload")


def systemd_node(
    engine: Engine, name: str = "kind-control-plane", cluster: str = "kind", role: str = "control-plane"
) -> AbstractContextManager[SystemdNode]:
    """A running node of today for as long as the block lasts."""
    return running(SystemdNode(engine, name, cluster, role))


