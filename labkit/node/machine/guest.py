"""The machine's own files: what it runs from the kernel's start to a containerd that answers.

busybox is its init (BusyBox's examples/inittab), its shell and its tools. Nothing in here is secret: what only one user may know
is told to the machine after its start, over the control line.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

from labkit.node.host.config import CONTAINERD, cni_config
from labkit.node.state.home import Home

ADDRESS, DOOR_PORT = "10.0.2.15", 2000
"""Of the machine, in qemu's own user-mode network, which leads nowhere but to this machine's loopback."""
NAME = "sim-worker"
GATEWAY = "10.88.0.1"
"""The node as its Pods reach it."""
SOCKET = "/run/containerd/containerd.sock"
KUBELET_SOCKET = "/run/labkit/kubelet.sock"
"""Where the machine's kubelet answers; the door leads there."""
API, API_PORT, API_NAME = "10.0.2.100", 6443, "kubernetes.default.svc"
"""Where the machine finds the Kubernetes API, which runs outside of it; the name is in the API's certificate."""
DIRECTORY, RUN = Path("/var/lib/labkit"), Path("/run/labkit")
RELEASES, CHOSEN = DIRECTORY / "containerd", DIRECTORY / "containerd" / "chosen"
"""Where other versions of containerd are put, each in a directory of its own, and a link to that which is to run."""
AWAY, CONTAINERD_PID = Path("/run/containerd.away"), Path("/run/containerd.pid")
CONTAINERD_LOG = Path("/var/log/containerd.log")
UNIT = Path("/usr/lib/systemd/system/containerd.service")
"""The unit that came with containerd's package: to be read, since the machine has no systemd."""
STORAGE = Path("/usr/share/labkit/registry")
PORTS = {"registry": 5000, "registry-private": 5001}
CERTS = Path("/etc/containerd/certs.d")
MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "squashfs", "overlay", "bridge", "veth")
"""What Debian's cloud kernel does not have built in; what these depend on comes along."""

CGROUP_ROOT = "/labkit"
CONTROL_TTY = "/dev/ttyS1"

INITRAMFS_INIT = """\
#!/bin/busybox sh
# The kernel's first program: runc cannot pivot_root from an initramfs, so another root has to be mounted.
# The disk is read-only; what is written lies in memory, above it.
export PATH=/bin
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/$module"; done </modules/order
mount -t squashfs -o ro /dev/vda /disk
mount -t tmpfs -o mode=755 tmpfs /memory
mkdir /memory/upper /memory/work
mount -t overlay -o lowerdir=/disk,upperdir=/memory/upper,workdir=/memory/work overlay /root
umount /proc
mount --move /dev /root/dev
exec switch_root /root /sbin/init
"""

INITTAB = f"""\
::sysinit:/etc/rc
::respawn:/sbin/containerd-service >>{CONTAINERD_LOG} 2>&1
::respawn:docker-registry serve /etc/labkit/registry.yml >>/var/log/registry.log 2>&1
::respawn:docker-registry serve /etc/labkit/registry-private.yml >>/var/log/registry-private.log 2>&1
::respawn:socat TCP-LISTEN:{DOOR_PORT},bind={ADDRESS},reuseaddr,fork EXEC:/sbin/door,nofork 2>>/var/log/door.log
::respawn:/sbin/control
::respawn:/sbin/kubelet >>/var/log/kubelet.log 2>&1
ttyS0::respawn:-/bin/ash
"""

RC = f"""\
#!/bin/sh
# Before anything else: the kernel's file systems, the network, cgroup v2.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
for directory in /dev/shm /run /tmp /var/lib /var/log; do mount -t tmpfs tmpfs $directory; done
chmod 1777 /tmp /dev/shm
mount -t tracefs tracefs /sys/kernel/tracing
mount -t cgroup2 cgroup2 /sys/fs/cgroup
sed 's/[a-z_]*/+&/g' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
mkdir -p -m 700 /run/door
mkdir -p {DIRECTORY} {RUN} /run/netns
hostname {NAME}
ip link set lo up
ip address add {ADDRESS}/24 dev eth0
ip link set eth0 up
ip link add labkit0 type bridge
ip address add {GATEWAY}/16 dev labkit0
ip link set labkit0 up
"""

CONTAINERD_SERVICE = f"""\
#!/bin/sh
# containerd, of the version that was chosen last; while it is to stay away there is a FIFO, at which this waits.
while [ -p {AWAY} ]; do read -r _ <{AWAY}; done
if [ -e {CHOSEN} ]; then
    chosen=$(readlink -f {CHOSEN})
    export PATH=$chosen/bin:$PATH LD_LIBRARY_PATH=$chosen/lib
fi
echo $$ >{CONTAINERD_PID}
exec containerd --config /etc/containerd/config.toml
"""

CONTROL = f"""\
#!/bin/ash
# Lines of shell from the other end of the serial line, which is a socket that only the machine's owner can open.
exec <>{CONTROL_TTY} >&0 2>/dev/null
stty raw -echo
while read -r line; do eval "$line"; done
"""

KUBELET = f"""\
#!/bin/sh
# It waits for its kubeconfig, which comes with each start of the machine: until then it has opened no connection.
export PYTHONPATH=/usr/lib/labkit PYTHONDONTWRITEBYTECODE=1
exec python3 -S -m labkit.kubelet --kubeconfig {RUN}/kubeconfig --endpoint unix://{SOCKET} \\
    --node-name {NAME} --host-ip {GATEWAY} \\
    --root {DIRECTORY}/kubelet --logs {DIRECTORY}/log/pods --run {RUN} --cgroup-root {CGROUP_ROOT} \\
    --time-scale "$(cat {RUN}/time-scale 2>/dev/null || echo 1)"
"""

JOIN_CLUSTER = f"""
umask 077
(umask 022; printf %s "$2" >/etc/resolv.conf; echo "$3" >/etc/machine-id)
if [ "$4" != 1 ]; then
    echo "$4" >{RUN}/time-scale
    kill $(pidof python3)
fi
printf %s "$1" >{RUN}/kubeconfig.new
mv {RUN}/kubeconfig.new {RUN}/kubeconfig
"""
"""What the machine's owner tells it, after the time: kubeconfig, resolv.conf, machine-id, --time-scale."""

DOOR = """\
#!/bin/ash
# One connection: a word that only the owner knows, then `stream` or `run MARK`, then a command in the shell's quotes.
# stream: the connection is the command's input and output. run: after the output MARK, what it said on stderr, and its exit code.
IFS=' ' read -r -t 10 token verb words
read -r known </run/door/token
[ "$known" ] && [ "$token" = "$known" ] || exit 1
cd /
case $verb in
stream)
    eval "exec /usr/bin/env $words" 2>/dev/null ;;
run)
    mark=${words%% *}
    { said=$({ eval "exec /usr/bin/env ${words#* }"; } 2>&1 >&3 3>&-); code=$?; } 3>&1
    printf '\\n%s %s %03d' "$mark" "$said" $code ;;
esac
"""

ETC = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnobody:x:65534:\n",
    "etc/hosts": f"127.0.0.1 localhost\n{ADDRESS} {NAME}\n{API} {API_NAME}\n",
    "etc/resolv.conf": "",
    "etc/hostname": f"{NAME}\n",
    "etc/profile": "export PATH=/usr/sbin:/usr/bin:/sbin:/bin\n",
}
DIRECTORIES = ("dev", "proc", "sys", "run", "tmp", "root", "opt", "var/lib", "var/log", "disk", "memory", "mnt")
LINKS = {"var/run": "/run", "etc/mtab": "/proc/mounts"}


def texts() -> dict[str, tuple[str, int]]:
    """Path in the machine's root, without the leading slash → (text, mode)."""
    home = Home(RUN, DIRECTORY, DIRECTORY)
    subnet = ipaddress.IPv4Network("10.88.0.0/16")
    return {
        **{path: (text, 0o644) for path, text in ETC.items()},
        "etc/inittab": (INITTAB, 0o644),
        "etc/rc": (RC, 0o755),
        "sbin/containerd-service": (CONTAINERD_SERVICE, 0o755),
        "sbin/control": (CONTROL, 0o755),
        "sbin/door": (DOOR, 0o755),
        "sbin/kubelet": (KUBELET, 0o755),
        "etc/containerd/config.toml": (containerd_toml(), 0o644),
        "etc/cni/net.d/10-labkit.conflist": (cni_config(home, subnet), 0o644),
    }


def containerd_toml() -> str:
    """containerd's configuration, that of a private node with a distribution's usual paths."""
    return CONTAINERD.format(
        root="/var/lib/containerd", state="/run/containerd", socket=SOCKET, opt="/opt/containerd", cni_bin="/usr/lib/cni",
        cni_conf="/etc/cni/net.d", certs=CERTS, runc="/usr/sbin/runc", runc_root="/run/runc", snapshotter="overlayfs",
        restrict_oom_score_adj="false",
    )
