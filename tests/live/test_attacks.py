"""Attacks on a running lab that no single part is there to stop: from inside a Pod, and by another user of the machine.

`test_fence.py` has those on volumes, `test_strangers.py` those on sockets, ports and files.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from labkit.cri.v1 import api_pb2
from labkit.kubelet.api import ApiClientError
from labkit.node import Home
from labkit.node.host import containerd_setup
from labkit.node.lab.residue import shim_sockets
from labkit.node.machine import machine
from labkit.node.state import locks
from labkit.node.vm import enter
from tests.conftest import labkit
from tests.live import exposed
from tests.live.cluster import Cluster, wait_for
from tests.live.test_strangers import DROP, OF_A_RELEASE, OPEN, as_stranger

pytestmark = pytest.mark.live

IMAGE = "registry.lab/busybox:1"
DISKS = "mknod /tmp/disk b 8 0; mknod /tmp/kmem c 1 1; mknod /tmp/kmsg c 1 11; cd /tmp; head -c 1 disk kmem kmsg"
NAMESPACES = """
mkdir /tmp/m
for options in "-t tmpfs x" "-t proc p" "-t sysfs s" "-t cgroup -o memory c" "-o bind /proc" "-o remount,rw /proc/sys"; do
    mount $options /tmp/m && echo "got: mount $options"
done
unshare -m true && echo got: a mount namespace
unshare -Ur sh -c 'mount -o remount,rw /proc/sys; true >>/proc/sys/kernel/core_pattern' && echo got: as root of a user namespace
"""
KERNEL = """
for file in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/net/ipv4/ip_forward /proc/sysrq-trigger \\
    /sys/kernel/uevent_helper /sys/module/*/parameters/* /proc/irq/*/smp_affinity; do
    [ -f $file ] && true >>$file && echo got: $file
done
insmod /bin/busybox && echo got: a module
hostname other && echo got: a host name
date -s @0 >/tmp/date; [ $(date +%s) -lt 1000 ] && echo got: the clock
dmesg | grep -q . && echo got: the kernel log
grep -qv '^0* ' /proc/kallsyms && echo got: kernel addresses
head -c 1 /proc/kcore | grep -q . && echo got: memory
"""
CGROUPS = """
for directory in /sys/fs/cgroup/*/; do
    for file in cgroup.procs tasks release_agent notify_on_release devices.allow memory.limit_in_bytes; do
        [ -e $directory$file ] && true >>$directory$file && echo got: $directory$file
    done
    mkdir $directory/own && echo got: $directory/own
done
"""
CONFIG = "ln -sfn /etc /config/..data; true >>/config/key; touch /config/new; [ -e /config/new ] && echo got: a volume"
INSIDE = {"disks": DISKS, "namespaces": NAMESPACES, "kernel": KERNEL, "cgroups": CGROUPS, "configuration": CONFIG}


@pytest.fixture(scope="module")
def cluster(lab_of_its_own: Home) -> Iterator[Cluster]:
    labkit("up", "--node", "containerd")
    cluster = Cluster.of(lab_of_its_own)
    cluster.create({"metadata": {"name": "config"}, "data": {"key": "value"}}, "configmaps")
    config = {"name": "config", "configMap": {"name": "config"}}
    cluster.create(pod("ordinary", volumes=[config], mounts=[{"name": "config", "mountPath": "/config"}]))
    wait_for(lambda: cluster.phase("ordinary") == "Running", "the Pod to run")
    yield cluster


def pod(name: str, command: str = "sleep 1000000", mounts: Any = (), **spec: Any) -> dict[str, Any]:
    app = {"name": "app", "image": IMAGE, "command": ["sh", "-c", command], "volumeMounts": list(mounts)}
    return {"metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [app], **spec}}


def inside(cluster: Cluster, script: str) -> str:
    runs = {"label_selector": {"io.kubernetes.pod.name": "ordinary"}, "state": {"state": api_pb2.CONTAINER_RUNNING}}
    with cluster.cri() as cri:
        wait_for(lambda: cri.list_containers(filter=runs).containers, "the Pod to run, also after down and up")
        (found,) = cri.list_containers(filter=runs).containers
        done = cri.exec_sync(container_id=found.id, cmd=["sh", "-c", f"exec 2>/dev/null\n{script}\necho tried"], timeout=60)
        return str(done.stdout.decode())


@pytest.mark.parametrize("name", INSIDE)
def test_an_ordinary_pod_gets_nothing(cluster: Cluster, name: str) -> None:
    """Root in a container, without a privilege, tries what root on a machine can do."""
    assert inside(cluster, INSIDE[name]).splitlines() == ["tried"]


def test_a_pod_adds_nothing_but_its_shims_socket(cluster: Cluster) -> None:
    sockets, files = exposed.documented("containerd")
    assert exposed.sockets(cluster.home) == sockets
    assert exposed.files(cluster.home) == files - {OF_A_RELEASE}
    sockets = [str(path) for path in shim_sockets(cluster.home)]
    assert sockets and as_stranger(OPEN, input="\0".join(sockets)) == []


def test_a_pod_that_nests_directories_without_end_is_removed(cluster: Cluster) -> None:
    nests = "cd /v; mkdir -p $(printf 'd/%.0s' $(seq 1900)); ln -s / link"
    volume = {"name": "v", "emptyDir": {}}
    made = pod("nests", nests, [{"name": "v", "mountPath": "/v"}], volumes=[volume], restartPolicy="Never")
    made = cluster.create(made)
    wait_for(lambda: cluster.phase("nests") in ("Succeeded", "Failed"), "the directories to be made")
    directory = cluster.home.kubelet_root / "pods" / made["metadata"]["uid"]
    assert directory.exists()
    cluster.delete("nests")
    wait_for(lambda: cluster.pod("nests") is None and not directory.exists(), "the Pod and its files to be gone")


def test_a_termination_message_is_cut_short_and_no_link(cluster: Cluster) -> None:
    """The kubelet reads what the container wrote: not without end, and nothing but that."""
    floods = "yes | head -c 50000000 >/dev/termination-log; ln -sf /etc/shadow /dev/termination-log"
    cluster.create(pod("floods", floods, restartPolicy="Never"))
    wait_for(lambda: cluster.phase("floods") in ("Succeeded", "Failed"), "the Pod to end")
    message = cluster.container("floods")["state"]["terminated"].get("message", "")
    assert len(message) <= 4096 and set(message) <= set("y\n")


@pytest.mark.parametrize("key", ["../escaped", "..", "a/b", "..data", ""])
def test_no_key_of_a_config_map_leaves_its_volume(cluster: Cluster, key: str) -> None:
    with pytest.raises(ApiClientError) as refused:
        cluster.create({"metadata": {"name": "climbs"}, "data": {key: "x"}}, "configmaps")
    assert refused.value.code == 422


def test_a_streaming_url_serves_once(cluster: Cluster) -> None:
    """Whoever saw the URL of an exec cannot use it after its owner did."""
    with cluster.cri() as cri:
        (found,) = cri.list_containers(filter={"label_selector": {"io.kubernetes.pod.name": "ordinary"}}).containers
        url = cri.exec(container_id=found.id, cmd=["id"], stdout=True).url
    assert [streamed(url), streamed(url)] == [101, 404]


def streamed(url: str) -> int:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.netloc, timeout=10)
    upgrade = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v4.channel.k8s.io"}
    connection.request("POST", where.path, headers=upgrade)
    code = connection.getresponse().status
    connection.close()
    return code


GREP = """
import pathlib
secrets, found = json.loads(sys.stdin.read()), []
for process in pathlib.Path("/proc").glob("[0-9]*"):
    for name in ("cmdline", "environ", "maps", "fd/0", "root/etc/passwd", "cwd/kubeconfig"):
        try:
            text = (process / name).read_bytes()
        except OSError:
            continue
        found += [str(process / name) for secret in secrets if secret.encode() in text]
print(json.dumps(found))
"""


def test_no_secret_is_in_what_everybody_reads_of_a_process(cluster: Cluster) -> None:
    token = json.loads(cluster.home.kubeconfig.read_text())["users"][0]["user"]["token"]
    hashed = [path.read_text().strip() for path in cluster.home.data.glob("registries/*/htpasswd")]
    keys = [path.read_text().splitlines()[1] for path in cluster.home.data.glob("*/server.key")]
    assert hashed and keys
    assert as_stranger(GREP, input=json.dumps([token, *hashed, *keys])) == []


SIGNAL = """
errors = []
for pid in sys.argv[1:]:
    for number in (0, 19, 9):
        try:
            os.kill(int(pid), number)
            errors.append(pid)
        except PermissionError:
            pass
print(json.dumps(errors))
"""


def test_another_user_signals_none_of_the_labs_programs(cluster: Cluster) -> None:
    pids = exposed.programs(cluster.home)
    assert len(pids) > 5
    assert as_stranger(SIGNAL, *map(str, pids)) == []


CLIMB = """
url, found = sys.argv[1], {}
where = urllib.parse.urlsplit(url)
for path in ("/../../../../etc/passwd", "/v2/../../../etc/passwd", "/v2/%2e%2e/%2e%2e/etc/passwd", "/v2/busybox/blobs/../../../x",
             "/v2/busybox/manifests/..%2f..%2f..%2fetc%2fpasswd", "/debug/pprof/", "/debug/vars", "/metrics"):
    connection = http.client.HTTPSConnection(where.netloc, timeout=10, context=ssl._create_unverified_context())
    connection.request("GET", path)
    answer = connection.getresponse()
    found[path] = [answer.status, "root:" in answer.read().decode(errors="replace")]
print(json.dumps(found))
"""


def test_a_registry_serves_nothing_but_images(cluster: Cluster) -> None:
    answers = as_stranger(CLIMB, containerd_setup.registry_url(cluster.home))
    assert not [path for path, (code, leaked) in answers.items() if code == 200 or leaked], answers


HOLD = (
    DROP
    + """
holder = socket.socket(socket.AF_UNIX)
holder.bind("\\0labkit-attacked")
print("held", flush=True)
sys.stdin.read()
"""
)


def test_who_holds_the_name_of_a_lock_keeps_nobody_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "WITHIN_S", 0.2)
    holder = subprocess.Popen([sys.executable, "-I", "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin and holder.stdout
    with holder:
        assert holder.stdout.readline() == b"held\n"
        with locks.machine_lock("attacked"):
            pass
        holder.stdin.close()


PLANTED = ("json", "socket", "logging", "encodings", "labkit", "yaml", "tornado", "grpc", "sitecustomize", "usercustomize")


def test_modules_in_the_directory_where_labkit_is_called_are_not_run(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root stands in a directory of somebody else's, which has modules of well-known names."""
    for name in PLANTED:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})\n")
    monkeypatch.chdir(tmp_path)
    program = Path(sys.executable).with_name("labkit")
    for arguments in (["status"], ["ps"], ["down"], ["up", "--node", "containerd"]):
        subprocess.run([program, *arguments], check=True, capture_output=True, timeout=180)
    assert not (tmp_path / "ran").exists()


TAKEN = (
    DROP
    + """
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
connection, _ = listener.accept()
connection.settimeout(20)
print(connection.recv(1000), flush=True)
"""
)


def test_who_has_the_port_of_a_virtual_machine_that_ended_hears_nothing(tmp_path: Path) -> None:
    """The file with the machine's port and word is left where its owner was killed."""
    port = machine.free_port()
    door = tmp_path / "door"
    door.write_text(json.dumps({"port": port, "word": "secret"}))
    taken = subprocess.Popen([sys.executable, "-I", "-c", TAKEN, str(port)], stdout=subprocess.PIPE, text=True)
    assert taken.stdout
    with taken:
        assert taken.stdout.readline() == "listening\n"
        with pytest.raises(ConnectionRefusedError, match="has its port"):
            enter.enter(door, "stream", ["id"])
        assert taken.stdout.readline() == "b''\n"
    with socket.create_server(("127.0.0.1", port)) as own:
        enter.enter(door, "stream", ["id"]).close()
        connection, _ = own.accept()
        with connection:
            assert connection.recv(100).startswith(b"secret stream ")
