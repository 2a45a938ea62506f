"""The Pods of a node, read again: which questions the runtime gets, and that no change escapes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import grpc
import pytest

from labkit.cri import CriError
from labkit.cri.pods import PodReader
from labkit.cri.v1 import api_pb2 as pb
from labkit.kernel import Mount, Process, Snapshot, assemble

ID = {"sandbox": "a" * 64, "container": "b" * 64}
NETNS = "/run/netns/cni-1"


class Runtime:
    """Answers the questions of a PodReader from what a test sets, and counts them."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.state, self.sandbox_state = pb.CONTAINER_RUNNING, pb.SANDBOX_READY
        self.tags, self.ip, self.exit_code, self.gone = ["app:1"], "10.0.0.2", 0, False

    def unrecorded(self) -> Runtime:
        return self

    def list_images(self) -> Any:
        self.asked["ListImages"] += 1
        return pb.ListImagesResponse(images=[pb.Image(id="sha256:1", repo_tags=self.tags)])

    def list_containers(self, filter: Any) -> Any:
        container = pb.Container(id=ID["container"], pod_sandbox_id=ID["sandbox"], state=self.state)
        return pb.ListContainersResponse(containers=[container])

    def list_pod_sandbox(self, filter: Any) -> Any:
        return pb.ListPodSandboxResponse(items=[pb.PodSandbox(id=ID["sandbox"], state=self.sandbox_state)])

    def container_status(self, container_id: str, verbose: bool) -> Any:
        self.asked["ContainerStatus"] += 1
        if self.gone:
            raise CriError("ContainerStatus", grpc.StatusCode.NOT_FOUND.name, "gone", "")
        image = pb.ImageSpec(image=self.tags[0] if self.tags else "sha256:1")
        status = pb.ContainerStatus(
            id=container_id, state=self.state, image=image, exit_code=self.exit_code, metadata=pb.ContainerMetadata(name="app")
        )
        return pb.ContainerStatusResponse(status=status, info={"info": json.dumps({"pid": 30})})

    def pod_sandbox_status(self, pod_sandbox_id: str, verbose: bool) -> Any:
        self.asked["PodSandboxStatus"] += 1
        network = pb.PodSandboxNetworkStatus(ip=self.ip)
        status = pb.PodSandboxStatus(id=pod_sandbox_id, state=self.sandbox_state, network=network)
        info = {"pid": 20, "runtimeSpec": {"linux": {"namespaces": [{"type": "network", "path": f"/var{NETNS}"}]}}}
        return pb.PodSandboxStatusResponse(status=status, info={"info": json.dumps(info)})


def process(pid: int, ppid: int, *argv: str, cgroup: str = "/", start_ns: int = 0) -> Process:
    return Process(pid, ppid, argv[0][:15], argv, "S", start_ns or pid, 0, 0, (pid,), {"net": 7}, {"": cgroup}, argv[0])


SHIM = process(10, 1, "containerd-shim-runc-v2", "-id", ID["sandbox"])
PAUSE = process(20, 10, "/pause", cgroup=f"/pods/{ID['sandbox']}")
APP = process(30, 10, "app", cgroup=f"/pods/{ID['container']}")
PINNED = Mount(1, 0, "0:4", "net:[7]", NETNS, "nsfs", "nsfs", ("rw",))


def kernel(*processes: Process, mounts: tuple[Mount, ...] = (PINNED,)) -> Snapshot:
    return assemble(0, processes or (SHIM, PAUSE, APP), mounts)


@pytest.fixture
def runtime() -> Runtime:
    return Runtime()


@pytest.fixture
def reader(runtime) -> PodReader:
    """One that has read the Pod, with the questions so far forgotten."""
    reader: Any = PodReader(runtime)
    (pod,) = reader.read(kernel())
    assert [p.role for p in pod.processes] == ["shim", "pause", "application"]
    assert (pod.state, pod.ip, pod.container("app").image) == ("Ready", "10.0.0.2", "app:1")
    assert [(pin.inode, pin.path) for pin in pod.pinned] == [(7, NETNS)]
    assert runtime.asked == {"ListImages": 1, "ContainerStatus": 1, "PodSandboxStatus": 1}
    runtime.asked.clear()
    return reader


def test_no_status_is_asked_for_where_nothing_changed(runtime, reader):
    assert reader.read(kernel()) == PodReader(runtime).read(kernel())
    runtime.asked.clear()
    reader.read(kernel())
    assert runtime.asked == {"ListImages": 1}


def test_what_the_kernel_alone_knows_is_of_this_moment(runtime, reader):
    renamed, unshared = replace(APP, comm="other"), replace(PAUSE, namespaces={"net": 8})
    by_exec = process(40, 10, "sh", cgroup=f"/pods/{ID['container']}")
    (pod,) = reader.read(kernel(SHIM, unshared, renamed, by_exec))
    assert [(p.role, p.comm) for p in pod.processes[2:]] == [("application", "other"), ("exec", "sh")]
    assert pod.processes[1].namespaces == {"net": 8}
    assert runtime.asked == {"ListImages": 1}


def test_a_process_that_wakes_up_changes_no_pod(runtime, reader):
    pods = reader.read(kernel())
    assert reader.read(kernel(SHIM, PAUSE, replace(APP, state="R"))) is pods


@pytest.mark.parametrize(
    "changed",
    [
        replace(APP, state="Z", cmdline=(), cgroups={}),
        replace(APP, state="Z", threads=2),
        replace(APP, ppid=1),
        replace(APP, cmdline=("app", "renamed")),
        replace(APP, comm="renamed"),
        replace(APP, namespaces={"net": 9}),
        replace(APP, cgroups={"": "/elsewhere"}),
    ],
    ids=["zombie", "main thread ended", "parent", "arguments", "comm", "namespaces", "cgroup"],
)
def test_what_is_shown_of_a_process_is_of_this_moment(runtime, reader, changed):
    now = kernel(SHIM, PAUSE, changed)
    assert reader.read(now) == PodReader(runtime).read(now) != PodReader(runtime).read(kernel())
    assert reader.read(kernel()) == PodReader(runtime).read(kernel())


def test_an_end_that_the_runtime_lists(runtime, reader):
    runtime.state, runtime.exit_code = pb.CONTAINER_EXITED, 137
    (pod,) = reader.read(kernel(SHIM, PAUSE))
    assert (pod.container("app").state, pod.container("app").exit_code) == ("Exited", 137)
    runtime.sandbox_state, runtime.ip = pb.SANDBOX_NOTREADY, ""
    (pod,) = reader.read(kernel(SHIM))
    assert (pod.state, pod.ip) == ("NotReady", "")


@pytest.mark.parametrize("first", [None, process(30, 10, "another", start_ns=99)])
def test_an_end_that_only_the_kernel_shows(runtime, reader, first):
    runtime.exit_code = 1
    reader.read(kernel(SHIM, PAUSE, *([first] if first else [])))
    assert runtime.asked["ContainerStatus"] == 1


def test_a_pause_that_has_gone(runtime, reader):
    reader.read(kernel(SHIM, APP))
    assert runtime.asked["PodSandboxStatus"] == 1


def test_an_image_that_lost_its_name(runtime, reader):
    runtime.tags = []
    assert reader.read(kernel())[0].container("app").image == "sha256:1"


def test_an_address_whose_network_namespace_is_unmounted(runtime, reader):
    runtime.ip = ""
    (pod,) = reader.read(kernel(mounts=()))
    assert (pod.ip, pod.pinned) == ("", ())


def test_without_the_list_of_images_each_container_is_asked_for(runtime, reader, monkeypatch):
    def refused() -> Any:
        raise CriError("ListImages", "UNIMPLEMENTED", "no image service here", "")

    monkeypatch.setattr(runtime, "list_images", refused)
    for _ in range(2):
        reader.read(kernel())
    assert runtime.asked == {"ContainerStatus": 2}


def test_a_container_that_is_removed_meanwhile_is_left_out(runtime, reader):
    runtime.state, runtime.gone = pb.CONTAINER_EXITED, True
    assert reader.read(kernel())[0].containers == ()


def test_a_state_that_the_runtime_does_not_know_is_asked_for_each_time(runtime, reader):
    runtime.state = pb.CONTAINER_UNKNOWN
    for _ in range(2):
        reader.read(kernel())
    assert runtime.asked["ContainerStatus"] == 2
