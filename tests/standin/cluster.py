"""Kubernetes on a stand-in: the lab's API and kubelet run in the node, as a kind cluster's own do, and are reached from
outside as those are, by a published port and the context `kind-CLUSTER` of a kubeconfig.

The node has no Python. It sees this one, with this course, in the places where they are on this machine, and may not write there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT
from tests.standin.engine import Engine, User
from tests.standin.node import StandIn, running
from tests.standin.system import run, wait_for

SERVING_PORT, OWN_PORT = 6443, 6444
LIBRARIES = Path("/usr/local/lib/course")
COMPILED = ("cryptography", "google", "grpc", "tornado")
DATA, RUN = "/var/lib/kubeapi", "/run/kubernetes"
OF_LIBC = ("ld-linux", "libc.so", "libm.so", "libdl.so", "librt.so", "libpthread.so", "linux-vdso", "libresolv.so", "libutil.so")
"""The node has its own of these, and two of a kind do not mix (man 8 ld.so)."""

SCRIPT = """#!/bin/sh
# {name}, by init. One that is started as "kubelet" is called so by the kernel, too.
export LD_LIBRARY_PATH={libraries} PYTHONPATH={path} PYTHONDONTWRITEBYTECODE=1
mkdir -p {run}
exec /usr/bin/{name} -m {command} >>/var/log/{name}.log 2>&1
"""


@dataclass(frozen=True)
class KindCluster:
    """A cluster of one node. `kubeconfig` is as `kind create cluster` writes it, and root's."""

    node: StandIn
    kubeconfig: Path

    @property
    def context(self) -> str:
        return f"kind-{self.node.cluster}"

    def give(self, user: User) -> None:
        """Put the kubeconfig where kubectl looks for a user's own."""
        directory = user.home / ".kube"
        directory.mkdir(exist_ok=True)
        config = Path(shutil.copy2(self.kubeconfig, directory / "config"))
        for path in (directory, config):
            os.chown(path, user.uid, user.gid)

    def kubectl(self, *arguments: str) -> str:
        """`kubectl ARGUMENTS` by root, with this cluster's kubeconfig."""
        from labkit.node.pods.kubectl import program

        return run([program(), *arguments], env={"KUBECONFIG": str(self.kubeconfig)})


@contextlib.contextmanager
def kind_cluster(
    engine: Engine, name: str = "kind-control-plane", cluster: str = "kind", kind: type[StandIn] = StandIn
) -> Iterator[KindCluster]:
    """A cluster for as long as the block lasts; its node, of the older kind or a SystemdNode, is Ready."""
    with running(kind(engine, name, cluster, flags=flags(engine))) as node:
        start(node)
        made = KindCluster(node, engine.base / f"{name}.kubeconfig")
        write_kubeconfig(made)
        wait_for(lambda: "True" in made.kubectl("get", "nodes", "-o", READY), f"{name} to be Ready", 60)
        try:
            yield made
        finally:
            made.kubeconfig.unlink()


READY = "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}"


def flags(engine: Engine) -> list[str]:
    """For `docker run`: the published port, this Python, this course, and the libraries that Python wants."""
    places = [ROOT, Path(sys.base_prefix), Path(sysconfig.get_path("purelib"))]
    mounts = {place: place for place in places} | {libraries(engine): LIBRARIES}
    binds = [f"{here}:{there}:ro" for here, there in mounts.items()]
    return ["--publish", f"127.0.0.1::{SERVING_PORT}", *(word for bind in binds for word in ("--volume", bind))]


def libraries(engine: Engine) -> Path:
    """A directory with the libraries of this Python and of the extension modules that API and kubelet use, as ldd finds them."""
    directory = engine.base / "libraries"
    directory.mkdir(exist_ok=True)
    modules = [*Path(sysconfig.get_path("stdlib"), "lib-dynload").glob("*.so")]
    for package in COMPILED:
        modules += Path(sysconfig.get_path("platlib"), package).rglob("*.so")
    said = subprocess.run(["ldd", sys.executable, *modules], capture_output=True, text=True, check=True).stdout
    for line in set(said.splitlines()):
        name, _, path = (word.strip() for word in line.partition("=>"))
        if path.startswith("/") and not name.startswith(OF_LIBC):
            shutil.copy(path.split(" ")[0], directory / name)
    return directory


def start(node: StandIn) -> None:
    """Have the node's init run the API, what publishes it, and the kubelet."""
    address = node.exec("hostname", "-i").split()[0]
    services = {
        "kubeapi": f"labkit.apiserver --data {DATA} --run {RUN} --port {OWN_PORT}",
        "kubelet": f"labkit.kubelet --kubeconfig {RUN}/kubeconfig --endpoint unix:///run/containerd/containerd.sock"
        f" --node-name {node.name} --host-ip {address} --root /var/lib/kubelet --logs /var/log/pods --run {RUN}"
        f" --cgroup-root /kubelet --cgroup-driver {node.cgroup_driver} --host-paths /var/lib/labkit/hostpath",
    }
    path = f"{ROOT}:{sysconfig.get_path('purelib')}"
    for name, command in services.items():
        script = SCRIPT.format(name=name, command=command, libraries=LIBRARIES, path=path, run=RUN)
        node.write_files({f"/usr/local/lib/{name}.sh": script.encode()})
        node.exec("ln", "-sf", os.path.realpath(sys.executable), f"/usr/bin/{name}")
        node.run_service(name, f"/bin/sh /usr/local/lib/{name}.sh")
    node.run_service("publish", f"/usr/bin/socat TCP-LISTEN:{SERVING_PORT},fork,reuseaddr TCP:127.0.0.1:{OWN_PORT}")
    wait_for(lambda: node.exec("cat", f"{RUN}/kubeconfig", check=False), f"the API on {node.name}", 60)


def write_kubeconfig(cluster: KindCluster) -> None:
    """The API's own kubeconfig, with the published port and with kind's names."""
    config = json.loads(cluster.node.exec("cat", f"{RUN}/kubeconfig"))
    (port,) = cluster.node.engine.run("port", cluster.node.name, str(SERVING_PORT)).splitlines()
    config["clusters"][0]["cluster"]["server"] = f"https://{port}"
    for section in ("clusters", "users", "contexts"):
        config[section][0]["name"] = cluster.context
    config["contexts"][0]["context"] |= {"cluster": cluster.context, "user": cluster.context}
    config["current-context"] = cluster.context
    cluster.kubeconfig.touch(mode=0o600)
    cluster.kubeconfig.write_text(json.dumps(config))
