"""A node that was brought up from the worst of shells is the same as any other, and its Pods are."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.node import Home
from tests.conftest import labkit, make_home
from tests.live.cluster import Cluster, wait_for

NOWHERE = "http://127.0.0.1:1"
SHELL = """
umask 077
ulimit -Sn 256
ulimit -Sf 40960
trap '' HUP PIPE CHLD TERM
exec 0<&-
/bin/mkdir /tmp/lk-gone-$$ && cd /tmp/lk-gone-$$ && /bin/rmdir /tmp/lk-gone-$$
"""
VARIABLES = {
    **{name: NOWHERE for word in ("http", "https", "all", "grpc") for name in (f"{word}_proxy", f"{word}_PROXY".upper())},
    "NO_PROXY": "", "no_proxy": "", "PATH": ".:relative", "LC_ALL": "C", "LANG": "tr_TR.UTF-8", "TMPDIR": "/nowhere", "TERM": "",
    "LD_PRELOAD": "", "PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "2", "PYTHONPATH": "/nowhere", "PYTHONHASHSEED": "1",
    "REGISTRY_HTTP_ADDR": "127.0.0.1:1", "REQUESTS_CA_BUNDLE": "/nowhere", "KUBERNETES_SERVICE_HOST": "192.0.2.9",
    "KUBERNETES_SERVICE_PORT": "1", "CONTAINERD_NAMESPACE": "nobody", "POSIXLY_CORRECT": "1", "CDPATH": "/tmp", "COLUMNS": "10",
    "SOURCE_DATE_EPOCH": "1", "GRPC_DNS_RESOLVER": "native", "XDG_RUNTIME_DIR": "/nowhere", "HOME": "/nowhere",
}


def in_that_shell(*argv: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """A command as the shell starts it. `stdin` comes from a file, since the shell's is closed."""
    script = f"{SHELL}\nexec {shlex.join([sys.executable, *argv])}"
    if stdin is not None:
        script += f" <<'END'\n{stdin}\nEND\n"
    return subprocess.run(["/bin/sh", "-c", script], env={**os.environ, **VARIABLES}, capture_output=True, text=True, timeout=180)


POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "user"},
    "spec": {
        "securityContext": {"runAsUser": 1000, "runAsGroup": 1000},
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "app", "image": "registry.lab/busybox:1", "command": ["sleep", "1000000"],
            "volumeMounts": [{"name": name, "mountPath": f"/{name}"} for name in ("settings", "all", "room")],
        }],
        "volumes": [
            {"name": "settings", "configMap": {"name": "settings", "items": [{"key": "colour", "path": "deep/colour"}]}},
            {"name": "all", "projected": {"sources": [
                {"configMap": {"name": "settings"}},
                {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
            ]}},
            {"name": "room", "emptyDir": {}},
        ],
    },
}
SETTINGS = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"colour": "türkis"}}
LOOK = """
cat /settings/deep/colour /all/colour /all/name
echo mine >/room/file && echo done >/dev/termination-log && cat /etc/hosts /etc/resolv.conf >/dev/null && echo read
stat -c '%a %n' / /bin /etc /settings /settings/..data/deep /settings/deep/colour /all/name /room /etc/hosts /dev/termination-log
umask; ulimit -Sn; ulimit -Sf; ulimit -Hn; grep -E 'Sig(Ign|Blk)' /proc/self/status; env | grep -v '^HOSTNAME=' | sort
"""
BY_HAND = """
import labkit
node = labkit.connect("containerd", lesson="shell")
print([n.metadata.name for n in node.kube.list_node().items])
mount, volume = {"name": "room", "mountPath": "/room"}, {"name": "room", "emptyDir": {}}
app = {"name": "app", "image": node.images["busybox"], "command": ["sleep", "1000000"], "volumeMounts": [mount]}
spec = {"securityContext": {"runAsUser": 1000}, "volumes": [volume], "containers": [app]}
pod = node.start_pod({"metadata": {"name": "hand"}, "spec": spec})
words = ["sh", "-c", "cat /etc/hosts >/dev/null && echo x >/room/x && ls /room"]
print(node.cri.exec_sync(container_id=next(c for c in pod.containers if c.name == "app").id, cmd=words).stdout.decode())
print(node.cluster.kubectl("get", "configmap", "settings", "-o", "jsonpath={.data.colour}"))
node.close()
"""


def look(cluster: Cluster) -> str:
    wait_for(lambda: cluster.phase("user") == "Running", "the Pod of user 1000 to run")
    return labkit("kubectl", "exec", "user", "--", "sh", "-c", LOOK).stdout


@pytest.fixture
def usual(node: Any) -> Iterator[str]:
    """What a Pod sees on the session's node, which the tests' own shell brought up."""
    cluster = Cluster.of(Home.find())
    for each in (SETTINGS, POD):
        labkit_apply(each)
    yield look(cluster)
    labkit("kubectl", "delete", "pod/user", "configmap/settings")


def labkit_apply(manifest: dict[str, Any]) -> None:
    file = Path(f"/tmp/lk-{os.getpid()}.json")
    file.write_text(json.dumps(manifest))
    try:
        labkit("kubectl", "apply", "-f", str(file))
    finally:
        file.unlink()


def test_a_node_and_its_pods_do_not_depend_on_the_shell(usual: str, programs: Path) -> None:
    base = make_home(programs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_HOME", str(base))
        try:
            up = in_that_shell("-m", "labkit.cli", "up", "--node", "containerd", "--json")
            assert up.returncode == 0, up.stderr
            assert json.loads(up.stdout)["state"] == "ready"
            for each in (SETTINGS, POD):
                applied = in_that_shell("-m", "labkit.cli", "kubectl", "apply", "-f", "-", stdin=json.dumps(each))
                assert applied.returncode == 0, applied.stderr
            assert look(Cluster.of(Home.find())) == usual
            by_hand = in_that_shell("-c", BY_HAND)
            assert by_hand.stdout.split() == ["['sim-worker']", "x", "türkis"], by_hand.stderr
            down = in_that_shell("-m", "labkit.cli", "clean", "--json")
            assert down.returncode == 0 and json.loads(down.stdout)["left"] == [], down.stderr
        finally:
            labkit("clean", check=False)
            (base / "cache").unlink(missing_ok=True)
            base.rmdir()
