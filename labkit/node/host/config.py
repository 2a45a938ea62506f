"""The configuration of a private containerd and of its CNI network, for what this machine allows."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labkit.node.state.home import Home


SYSTEM_DIRECTORIES = (
    "/run/containerd",
    "/run/containerd/s",
    "/var/lib/cni",
    "/var/lib/cni/results",
    "/var/lib/cni/cache",
    "/opt/containerd",
    "/etc/containerd",
    "/run/netns",
)
"""Directories outside the home that containerd, its shims or CNI's library make whatever their configuration is."""

SOCKETS_OF_SHIMS = Path("/run/containerd/s")
"""containerd 1.x puts each shim's socket here whatever its own state directory is (pkg `defaults`, runtime/v2/shim)."""

CONTAINERD = """\
version = 2
root = "{root}"
state = "{state}"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.blockfile", "io.containerd.internal.v1.tracing",
  "io.containerd.internal.v1.restart", "io.containerd.monitor.container.v1.restart", "io.containerd.nri.v1.nri",
]

[grpc]
  address = "{socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{opt}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.lab/pause:1"
  restrict_oom_score_adj = {restrict_oom_score_adj}
  disable_apparmor = true
  tolerate_missing_hugetlb_controller = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_bin}"
    conf_dir = "{cni_conf}"

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{certs}"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "{runc}"
        Root = "{runc_root}"
"""


def may_lower_oom_score() -> bool:
    """Whether a process here may make itself less likely to be killed (needs CAP_SYS_RESOURCE, man 5 proc).

    Tried, not assumed: without it runc dies over a sandbox's oom_score_adj of -998.
    """
    return subprocess.run(["sh", "-c", "echo -998 >/proc/self/oom_score_adj"], stderr=subprocess.DEVNULL).returncode == 0


def containerd_config(
    home: Home, *, runc: str, cni_bin: str, restrict_oom_score_adj: bool, snapshotter: str = "overlayfs"
) -> str:
    """containerd's config.toml (version 2, which 1.6, 1.7 and 2.x read) for a containerd that shares nothing with the
    system's."""
    return CONTAINERD.format(
        root=home.data / "containerd",
        state=home.containerd_state,
        socket=home.socket,
        opt=home.data / "opt",
        cni_bin=cni_bin,
        cni_conf=home.data / "cni" / "net.d",
        certs=home.data / "certs.d",
        runc=runc,
        runc_root=home.run / "runc",
        snapshotter=snapshotter,
        restrict_oom_score_adj=str(restrict_oom_score_adj).lower(),
    )


def cni_config(home: Home, subnet: ipaddress.IPv4Network) -> str:
    """A network that leaves the host's iptables and sysctls alone.

    ipMasq and isGateway are off: the first would write iptables rules, the second switch on IP forwarding for the whole machine.
    labkit gives the bridge its address itself, so Pods reach each other and the node, and nothing else.
    """
    gateway = str(subnet[1])
    return (
        json.dumps(
            {
                "cniVersion": "0.4.0",
                "name": home.network,
                "plugins": [
                    {
                        "type": "bridge",
                        "bridge": home.bridge,
                        "isGateway": False,
                        "ipMasq": False,
                        "hairpinMode": True,
                        "ipam": {
                            "type": "host-local",
                            "dataDir": str(home.data / "cni" / "networks"),
                            "ranges": [[{"subnet": str(subnet), "gateway": gateway}]],
                            "routes": [{"dst": "0.0.0.0/0", "gw": gateway}],
                        },
                    }
                ],
            },
            indent=2,
        )
        + "\n"
    )
