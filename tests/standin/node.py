"""Nodes under kind's names and labels, run as `kind create cluster` runs them: the older of the two; systemd.py has the other."""

from __future__ import annotations

import contextlib
import io
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

from labkit.node.packages.programs import ensure_programs
from labkit.node.registry.course_images import pause_image
from labkit.node.registry.oci import Image, write_archive
from tests.standin import image, kubelet_like, system
from tests.standin.engine import Engine
from tests.standin.packages import cache

SOCKET = "/run/containerd/containerd.sock"
KNOWN_UIDS = "/etc/kubernetes/known-uids"

# kind's own flags (pkg/cluster/internal/providers/docker/provision.go) ...
AS_KIND_DOES = (
    "--tty", "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--cgroupns=private",
    "--tmpfs", "/tmp", "--tmpfs", "/run", "--volume", "/var", "--network", "kind", "--restart", "on-failure:1", "--init=false",
)
PRIVILEGED = ("--privileged", "--volume", "/lib/modules:/lib/modules:ro")
# ... but for --privileged, without which the older stand-in shows how labkit gets on.
INSTEAD_OF_PRIVILEGED = ("--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE", "--security-opt", "systempaths=unconfined")


@dataclass(frozen=True)
class StandIn:
    """One node: a container called `name`, of the cluster `cluster`, made with `flags` besides kind's. The engine's `docker` does
    what no method here does."""

    image: ClassVar[image.NodeImage] = image.OLDER
    pause_image: ClassVar[str] = "registry.k8s.io/pause:3.10"
    privileges: ClassVar[Sequence[str]] = INSTEAD_OF_PRIVILEGED
    cgroup_driver: ClassVar[str] = "cgroupfs"

    engine: Engine
    name: str = "kind-control-plane"
    cluster: str = "kind"
    role: str = "control-plane"
    flags: Sequence[str] = ()

    def create(self) -> None:
        """Make the container with its image and network, and start it. Returns when its containerd answers."""
        self.image.load(self.engine)
        if not self.engine.run("network", "ls", "--quiet", "--filter", "name=^kind$"):
            self.engine.run("network", "create", "kind")
        labels = {"cluster": self.cluster, "role": self.role}
        label_flags = [word for key, value in labels.items() for word in ("--label", f"io.x-k8s.kind.{key}={value}")]
        self.engine.run(
            "run", "--detach", "--name", self.name, "--hostname", self.name, *label_flags, *AS_KIND_DOES, *self.privileges,
            *self.flags, self.image.reference,
        )
        self.wait_ready()
        self.import_images([pause_image(ensure_programs(cache().parent).catatonit, self.pause_image)])

    def start(self) -> None:
        self.engine.run("start", self.name)
        self.wait_ready()

    def stop(self) -> None:
        self.engine.run("stop", self.name)

    def restart(self) -> None:
        self.engine.run("restart", self.name)
        self.wait_ready()

    def pause(self) -> None:
        self.engine.run("pause", self.name)

    def unpause(self) -> None:
        self.engine.run("unpause", self.name)

    def kill(self) -> None:
        self.engine.run("kill", self.name)

    def remove(self) -> None:
        """Remove the container with its volume, running or not. Removed already is fine."""
        self.engine.run("rm", "--force", "--volumes", self.name, check=False)

    def exec(self, *command: str, input: bytes | None = None, check: bool = True) -> str:
        """What the command wrote to stdout on the node. Raises AssertionError with its words if it fails and `check`."""
        return self.engine.run("exec", "--interactive", self.name, *command, input=input, check=check)

    def wait_ready(self) -> None:
        """Return when its containerd answers. Raises AssertionError, with the console's last words if it has ended."""
        answer = system.wait_for(
            lambda: self.exec("ctr", "version", check=False) or (not self.pid and "ended"), f"containerd on {self.name}"
        )
        assert answer != "ended", f"{self.name} has ended: {self.engine.run('logs', '--tail', '20', self.name)}"

    @property
    def pid(self) -> int:
        """The pid of the node's PID 1 on this machine; 0 if it is not running."""
        return int(self.engine.run("inspect", "--format", "{{.State.Pid}}", self.name))

    @property
    def socket(self) -> Path:
        """The CRI socket as this machine's root can reach it."""
        return Path(f"/proc/{self.pid}/root{SOCKET}")

    def import_images(self, images: Sequence[Image]) -> None:
        """Put images into the node's containerd where its CRI plugin sees them, as `kind load` does."""
        with tempfile.TemporaryDirectory() as directory:
            archive = Path(directory, "images.tar")
            write_archive(archive, images)
            self.exec("ctr", "--namespace", "k8s.io", "images", "import", "-", input=archive.read_bytes())

    def start_kubelet(self, known_uids: Sequence[str] = ()) -> None:
        """Start the process called kubelet, which from now on removes every sandbox whose Pod's uid is not in `known_uids`. It is
        started again when it ends, also by a restart of the node."""
        self.write_files({f"/usr/local/share/kubelet/{name}": data for name, data in kubelet_like.calls().items()})
        self.write_files({KNOWN_UIDS: "".join(f"{uid}\n" for uid in known_uids).encode()})
        self.run_service("kubelet", "/usr/local/bin/kubelet")
        system.wait_for(lambda: self.kubelet_pid(), f"the kubelet on {self.name}")

    def stop_kubelet(self) -> None:
        """End it for good."""
        self.end_service("kubelet")
        system.wait_for(lambda: not self.kubelet_pid(), f"the kubelet on {self.name} to end")

    def run_service(self, name: str, command: str) -> None:
        """Have the node's init run a command, and start it again when it ends."""
        self.exec("sh", "-c", "cat >>/etc/inittab && kill -HUP 1", input=f"::respawn:{command}\n".encode())

    def end_service(self, name: str) -> None:
        self.exec("sed", "-i", f"/{name}/d", "/etc/inittab")
        self.exec("sh", "-c", f"kill -HUP 1; sleep 0.2; pkill -KILL -x {name}; true")

    def kubelet_pid(self) -> int:
        """Its pid as the node counts; 0 if there is none."""
        return int(self.exec("pgrep", "--oldest", "--exact", "kubelet", check=False) or 0)

    def write_files(self, files: dict[str, bytes]) -> None:
        """Files on the node by absolute path, not below /run or /tmp; their directories are made."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for path, data in files.items():
                member = tarfile.TarInfo(path.lstrip("/"))
                member.size, member.mode = len(data), 0o644
                archive.addfile(member, io.BytesIO(data))
        self.engine.run("cp", "-", f"{self.name}:/", input=packed.getvalue())


Node = TypeVar("Node", bound=StandIn)


@contextlib.contextmanager
def running(made: Node) -> Iterator[Node]:
    """A node that runs for as long as the block lasts."""
    try:
        made.create()
        yield made
    finally:
        made.remove()


def node(
    engine: Engine, name: str = "kind-control-plane", cluster: str = "kind", role: str = "control-plane"
) -> AbstractContextManager[StandIn]:
    """A running node of the older kind for as long as the block lasts."""
    return running(StandIn(engine, name, cluster, role))
