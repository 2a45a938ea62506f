"""Where CRI-O differs from containerd, by a recording of one (tests/truth/crio.json): labkit relies on the contract alone."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labkit.course import check, wait_until
from labkit.cri import CriError, verbose
from labkit.cri import pods as joined
from labkit.cri.pods import PodContainer, PodProcess, PodSnapshot
from labkit.cri.v1 import api_pb2 as pb
from labkit.kernel import Process, Snapshot
from labkit.kernel.model import Namespace
from labkit.kubelet.containers.configuration import Configuration
from labkit.kubelet.containers.images import NodeImage
from labkit.kubelet.volumes.objects import Objects
from labkit.kubelet.volumes.pod_volumes import Volumes
from labkit.node.host.access import ThisMachine
from labkit.node.kinds import cri as cri_kind
from labkit.node.node import Node
from labkit.node.observe import bundles
from labkit.node.pods import operations as pods
from labkit.node.registry import registry
from labkit.node.remote.loopback_registry import Loopback
from labkit.podspec.messages import MachineInfo, container_config
from labkit.util.errors import NodeError
from tests.truth import truth
from tests.unit.kubelet_pods import pod

RECORDED = truth("crio.json")
SANDBOX, WEB, ENDED = "a" * 64, "b" * 64, "c" * 64


class Calls:
    """A CriClient's methods: notes each call, answers from `answers` (a value, or an exception to be raised)."""

    def __init__(self, **answers: Any) -> None:
        self.made: list[tuple[str, dict[str, Any]]] = []
        self.answers = answers

    def __getattr__(self, name: str) -> Any:
        def call(**arguments: Any) -> Any:
            self.made.append((name, arguments))
            answer = self.answers.get(name)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    @property
    def methods(self) -> list[str]:
        return [name for name, _ in self.made]


def refusal(rpc: str) -> CriError:
    """The recorded refusal of an RPC about a sandbox or container that is not there."""
    code, _, message = RECORDED["served"][rpc].partition(" ")
    return CriError(rpc, code, message, "")


@pytest.mark.parametrize("rpc", ["ReopenContainerLog", "Exec", "Attach", "StopContainer", "PodSandboxStatus"])
def test_what_is_not_there_is_known_by_either_code(rpc: str) -> None:
    assert refusal(rpc).gone


@pytest.mark.parametrize("rpc", ["RunPodSandbox", "CreateContainer", "ImageStatus", "PullImage", "PortForward"])
def test_another_refusal_is_not_taken_for_that(rpc: str) -> None:
    assert not refusal(rpc).gone


# Removing a Pod


def listed(*states: tuple[str, int]) -> Any:
    return pb.ListContainersResponse(containers=[pb.Container(id=id, state=state) for id, state in states])  # type: ignore[arg-type]


def test_containers_are_stopped_before_their_sandbox_and_get_no_time() -> None:
    cri = Calls(list_containers=listed((WEB, pb.CONTAINER_RUNNING), (ENDED, pb.CONTAINER_EXITED)))
    pods.remove_sandbox(cri, SANDBOX)  # type: ignore[arg-type]
    assert cri.methods == [
        "list_containers", "stop_container", "stop_pod_sandbox", "remove_container", "remove_container", "remove_pod_sandbox",
    ]
    assert cri.made[1][1] == {"container_id": WEB, "timeout": 0}


def test_a_container_that_was_created_only_has_a_process_and_is_stopped_too() -> None:
    cri = Calls(list_containers=listed((WEB, pb.CONTAINER_CREATED)))
    pods.remove_sandbox(cri, SANDBOX)  # type: ignore[arg-type]
    assert cri.methods.index("stop_container") < cri.methods.index("stop_pod_sandbox")


def test_a_pod_that_goes_meanwhile_is_no_error() -> None:
    cri = Calls(
        list_containers=listed((WEB, pb.CONTAINER_RUNNING)),
        stop_container=refusal("StopContainer"),
        remove_container=refusal("RemoveContainer"),
        stop_pod_sandbox=refusal("PodSandboxStatus"),
    )
    pods.remove_sandbox(cri, SANDBOX)  # type: ignore[arg-type]
    assert cri.methods[-1] == "remove_pod_sandbox"


# What a kubelet makes before CreateContainer


class NameServer(ThisMachine):
    def shell(self, argv: Any, *, timeout: float = 30.0) -> str:
        return "nameserver 192.0.2.53\n"


class Here(Node):
    """A node whose runtime answers from `calls`; its files lie below a directory of the test."""

    def __init__(self, calls: Calls, root: Path) -> None:
        settings = {"sandbox": {"log_root": str(root / "log")}, "container": {"kubelet_root": str(root / "kubelet")}}
        super().__init__(kind="cri", name="n", endpoint="unix:///nowhere.sock", runtime="cri-o 1.37.0", why="", settings=settings,
                         host=NameServer())
        self.cri = calls  # type: ignore[assignment]


def web() -> dict[str, Any]:
    main = {"name": "main", "image": "localhost:15055/busybox:1"}
    return {"metadata": {"name": "web", "uid": "u1"}, "spec": {"containers": [main]}}


def address_of(ip: str) -> dict[str, Any]:
    status = pb.PodSandboxStatus(network=pb.PodSandboxNetworkStatus(ip=ip))
    return {
        "list_pod_sandbox": pb.ListPodSandboxResponse(items=[pb.PodSandbox(id=SANDBOX)]),
        "pod_sandbox_status": pb.PodSandboxStatusResponse(status=status),
    }


def test_the_logs_directory_is_there_before_the_container(tmp_path: Path) -> None:
    node = Here(Calls(**address_of("10.88.10.7")), tmp_path)
    config = node.container_config(web(), "main", attempt=2)
    assert (Path(node.sandbox_config(web()).log_directory) / config.log_path).parent.is_dir()
    assert (tmp_path / "log/default_web_u1/main").stat().st_mode & 0o777 == 0o755


def test_etc_hosts_has_the_address_that_the_runtime_tells(tmp_path: Path) -> None:
    node = Here(Calls(**address_of(RECORDED["pid_private"]["ip"])), tmp_path)
    [mount] = [m for m in node.container_config(web(), "main").mounts if m.container_path == "/etc/hosts"]
    text = Path(mount.host_path).read_text()
    assert "127.0.0.1\tlocalhost\n" in text and text.endswith("10.88.10.7\tweb\n")


def test_etc_hosts_is_there_though_the_address_is_not_known_yet(tmp_path: Path) -> None:
    for answer in (pb.ListPodSandboxResponse(), CriError("", "UNAVAILABLE", "", "")):
        config = Here(Calls(list_pod_sandbox=answer), tmp_path).container_config(web(), "main")
        [mount] = [m for m in config.mounts if m.container_path == "/etc/hosts"]
        assert Path(mount.host_path).read_text().endswith("ip6-allrouters\n")


def test_an_image_keeps_the_name_that_the_user_gave() -> None:
    image = container_config(web(), "main", image_ref="6f5d").image
    assert (image.image, image.user_specified_image) == ("6f5d", "localhost:15055/busybox:1")


# The bundle


def process(pid: int, *cmdline: str) -> Process:
    return Process(pid, 1, "", cmdline, "S", 0, 0, 0, (pid,), {}, {}, "")


USERDATA = f"/run/containers/storage/overlay-containers/{WEB}/userdata"
CONMON = process(7, "/usr/libexec/crio/conmon", "-b", USERDATA, "-c", WEB, "--exit-dir", "/run/crio/exits", "-r", "/usr/bin/runc")
SHIM = process(8, "/usr/bin/containerd-shim-runc-v2", "-namespace", "k8s.io", "-id", SANDBOX, "-address", "/run/c.sock")
STARTING = process(9, *SHIM.cmdline, "start")


def test_the_bundle_is_where_conmon_was_told() -> None:
    assert bundles.find([CONMON], WEB, SANDBOX) == USERDATA


def test_the_bundle_lies_beside_the_one_that_the_shim_works_in() -> None:
    assert bundles.find([STARTING, SHIM], WEB, SANDBOX) == f"/proc/8/cwd/../{WEB}"


def test_a_bundle_of_somebody_else_is_not_taken() -> None:
    assert bundles.find([CONMON, SHIM], ENDED, ENDED) is None


# The recorded Pods, joined with the kernel


@pytest.mark.parametrize("which", ["pid_shared", "pid_private"])
@pytest.mark.parametrize("run", ["/var/run/", "/run/"])
def test_the_recorded_pods_namespaces_are_pinned(which: str, run: str) -> None:
    """CRI-O names them below /var/run. Where that is a link the kernel shows them below /run."""
    said = RECORDED[which]
    mounts = [line.split()[1].replace("/var/run/", run) for line in said["mounts"]]
    namespaces = {
        number: Namespace(number, mount.split("/")[-2].removesuffix("ns"), None, (), mounts=(mount,))
        for number, mount in enumerate(mounts)
    }
    kernel = joined.PodKernel(Snapshot(0, {}, namespaces, ()))
    info = {"runtimeSpec": {"linux": {"namespaces": said["namespaces_in_spec"]}}}
    paths = verbose.namespace_paths(info).values()
    assert [pin.type for pin in kernel.mounted(paths)] == ["ipc", "net", "uts"]


def test_conmon_stands_where_the_shim_stands() -> None:
    for which, pause in (("pid_shared", True), ("pid_private", False)):
        tree = RECORDED[which]["tree"]
        assert sum("conmon" in line for line in tree) == 1 + pause and any("pause" in line for line in tree) is pause
    assert joined.is_shim(Process(**{**vars(CONMON), **dict.fromkeys(Process.__dataclass_fields__.keys() - {"pid", "cmdline"})}))


# The cgroup driver


def test_the_cgroup_driver_is_what_the_runtime_says() -> None:
    driver = RECORDED["RuntimeConfig"]["linux"]["cgroupDriver"]
    answer = pb.RuntimeConfigResponse(linux=pb.LinuxRuntimeConfiguration(cgroup_driver=driver))
    assert verbose.cgroup_driver(Calls(runtime_config=answer)) == "cgroupfs"  # type: ignore[arg-type]


# Pulls by plain HTTP


def test_the_registry_keeps_its_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: set[int] = set()
    monkeypatch.setattr(registry, "is_free", lambda port: port not in taken)
    home: Any = SimpleNamespace(data=tmp_path)
    told: list[str] = []
    assert Loopback(home).choose_port(told.append) == Loopback.PORT
    assert Loopback(home).choose_port(told.append) == Loopback.PORT and not told
    taken.add(Loopback.PORT)
    moved = Loopback(home).choose_port(told.append)
    taken.clear()
    assert moved != Loopback.PORT and str(moved) in told[0]
    assert Loopback(home).choose_port(told.append) == moved and Loopback(home).host == f"localhost:{moved}"


def test_a_pull_that_fails_says_the_line_to_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Loopback, "ensure", lambda self, progress: "localhost:15055")
    words = "pinging container registry localhost:15055: http: server gave HTTP response to HTTPS client"
    node: Any = object.__new__(cri_kind.EndpointNode)
    node.ledger = None
    node.home, node.runtime_name, node.runtime = SimpleNamespace(data=tmp_path), "cri-o", "cri-o 1.37.0"
    node.cri = Calls(pull_image=CriError("PullImage", "UNKNOWN", words, ""))
    with pytest.raises(NodeError) as refused:
        node.provide_images(print)
    line = refused.value.todo.partition("echo '")[2].partition("'")[0]
    assert tomllib.loads(line) == {"registry": [{"location": "localhost:15055", "insecure": True}]}
    assert words in refused.value.happened and "/etc/containers/registries.conf.d/labkit.conf" in refused.value.todo


def test_doctor_no_longer_says_the_line_when_it_is_there(tmp_path: Path) -> None:
    assert not cri_kind.allows_plain_http("localhost:15055", tmp_path)
    (tmp_path / "registries.conf.d").mkdir()
    (tmp_path / "registries.conf.d/own.conf").write_text('registry = [{location = "localhost:15055", insecure = true}]\n')
    assert cri_kind.allows_plain_http("localhost:15055", tmp_path) and not cri_kind.allows_plain_http("localhost:5000", tmp_path)


def test_the_lab_kubelet_makes_the_logs_directory(tmp_path: Path) -> None:
    machine, api = MachineInfo(1 << 30, 2), SimpleNamespace()
    objects = Objects(api)  # type: ignore[arg-type]
    volumes = Volumes(tmp_path / "root", objects, api, machine, ())  # type: ignore[arg-type]
    configuration = Configuration(tmp_path / "root", tmp_path / "logs", "", "10.0.0.1", machine, objects, volumes)
    manifest = pod()
    configuration.make_directories(manifest)
    config = configuration.container(manifest, manifest["spec"]["containers"][0], 3, NodeImage("sha256:1", 0), ["10.88.0.5"])
    directory = Path(configuration.sandbox(manifest, 0, "").log_directory)
    assert (directory / config.log_path).parent.is_dir() and config.log_path == "app/3.log"


def test_a_wait_ends_and_says_what_did_not_happen() -> None:
    answers = iter([False, True])
    wait_until("the second answer comes", lambda: next(answers))
    with pytest.raises(NodeError, match=r"Waited 0\.1 s for this: a line appears in the log\. It did not happen\."):
        wait_until("a line appears in the log", lambda: False, timeout=0.1)


# Exercise 03.1


def duo(*parents: tuple[int, str]) -> Any:
    """A node with a Pod `duo`; for each container its parent and that one's role."""
    processes = [PodProcess(100 + n, ppid, "application", "sleep", str(n), {}) for n, (ppid, _) in enumerate(parents)]
    above = {ppid: PodProcess(ppid, 1, role, role, None, {}) for ppid, role in parents}
    containers = tuple(PodContainer(str(p.pid), str(p.pid), "Running", 0, "busybox", p.pid) for p in processes)
    found = PodSnapshot("duo", "default", "u", "s", "Ready", "", (*above.values(), *processes), containers=containers)

    class Lab:
        def pods(self, others: bool = False) -> list[PodSnapshot]:
            return [found]

    return Lab()


def test_one_shim_or_a_conmon_for_each_container() -> None:
    assert check("03.1", duo((7, "shim"), (7, "shim"))).says.endswith("the Pod has one shim.")
    each = check("03.1", duo((7, "shim"), (8, "shim")))
    assert each.done and each.says.endswith("this runtime has a shim for each container.")
    assert not check("03.1", duo((7, "shim"), (1, "host"))).done
