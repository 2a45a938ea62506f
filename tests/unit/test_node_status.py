"""The node object as the lab kubelet makes it, held against the one that a real kubelet made."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labkit.cri import CriError
from labkit.cri.v1 import api_pb2 as pb
from labkit.kubelet.api import ApiClientError
from labkit.kubelet.node import node_health, node_info
from labkit.kubelet.node.node_health import RuntimeState
from labkit.kubelet.node.node_info import MIB, Capacity, Reserved, binary, os_image
from labkit.kubelet.node.node_status import NodeFacts, NodeStatus, conditions, image_list

NOW = "2026-11-23T21:23:58Z"
NO_CNI = (
    "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
    "message:Network plugin returns error: cni plugin not initialized"
)


def test_allocatable_is_capacity_less_what_is_reserved() -> None:
    """The numbers are those of the recorded node."""
    there = Capacity(cpu=2, memory=24684084 * 1024, storage=264212084 * 1024, hugepages={2**30: 0, 2**21: 0})
    assert there.as_capacity() == {
        "cpu": "2", "ephemeral-storage": "264212084Ki", "hugepages-1Gi": "0", "hugepages-2Mi": "0", "memory": "24684084Ki",
        "pods": "110",
    }
    assert there.as_allocatable(Reserved()) == {
        "cpu": "1800m", "ephemeral-storage": "264212084Ki", "hugepages-1Gi": "0", "hugepages-2Mi": "0", "memory": "23533108Ki",
        "pods": "110",
    }


def test_a_small_machine_keeps_most_of_what_it_has_for_pods() -> None:
    small = Capacity(cpu=1, memory=512 * MIB, storage=1, hugepages={2**21: 64 * MIB}).as_allocatable(Reserved(cpu=900))
    assert small["cpu"] == "750m" and small["memory"] == "256Mi"


@pytest.mark.parametrize(("amount", "text"), [(0, "0"), (1000, "1000"), (1024, "1Ki"), (3 * 2**30, "3Gi"), (3 * MIB, "3Mi")])
def test_bytes_as_quantities(amount: int, text: str) -> None:
    assert binary(amount) == text


def test_it_never_claims_to_be_kubernetes() -> None:
    assert node_info.kubelet_version().endswith("-labkit")


def test_os_image(tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    release.write_text('NAME="Debian GNU/Linux"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n')
    assert os_image(release) == "Debian GNU/Linux 12 (bookworm)"
    assert os_image(tmp_path / "none") == "Linux"


def test_conditions_of_a_node_that_is_well() -> None:
    made = conditions([], (False, False, False), [], NOW)
    assert [(c["type"], c["status"], c["reason"], c["message"]) for c in made] == [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ]


def test_conditions_keep_the_time_of_their_last_transition() -> None:
    before = conditions([], (False, False, False), [], "2026-11-23T21:14:00Z")
    after = {c["type"]: c for c in conditions([NO_CNI], (True, False, False), before, NOW)}
    assert after["Ready"]["lastTransitionTime"] == after["MemoryPressure"]["lastTransitionTime"] == NOW
    assert after["DiskPressure"]["lastTransitionTime"] == "2026-11-23T21:14:00Z"
    assert (after["Ready"]["reason"], after["Ready"]["message"]) == ("KubeletNotReady", NO_CNI)
    assert after["MemoryPressure"]["reason"] == "KubeletHasInsufficientMemory"


def test_several_reasons_not_to_be_ready() -> None:
    ready = conditions(["container runtime is down", "PLEG is not healthy"], (False, False, False), [], NOW)[-1]
    assert ready["message"] == "[container runtime is down, PLEG is not healthy]"


def test_images_the_largest_first_fifty_at_most() -> None:
    images = [pb.Image(id=str(n), repo_tags=[f"i:{n}"], repo_digests=[f"i@sha256:{n}"], size=n) for n in range(60)]
    listed = image_list(images)
    assert len(listed) == 50 and listed[0] == {"names": ["i@sha256:59", "i:59"], "sizeBytes": 59}


class Runtime:
    """A CRI client that answers what it is told to."""

    def __init__(self) -> None:
        self.network: tuple[bool, str, str] = (True, "", "")
        self.away = False

    def status(self, **_: Any) -> Any:
        if self.away:
            raise CriError("Status", "UNAVAILABLE", "gone", "")
        well, reason, message = self.network
        told = [pb.RuntimeCondition(type="RuntimeReady", status=True)]
        told.append(pb.RuntimeCondition(type="NetworkReady", status=well, reason=reason, message=message))
        return pb.StatusResponse(status=pb.RuntimeStatus(conditions=told))

    def version(self, **_: Any) -> Any:
        return SimpleNamespace(runtime_name="containerd", runtime_version="1.6.20~ds1")

    def list_images(self, **_: Any) -> Any:
        return SimpleNamespace(images=[])


def test_what_the_runtime_says_of_its_network() -> None:
    runtime, now = Runtime(), [100.0]
    state = RuntimeState(runtime, clock=lambda: now[0])  # type: ignore[arg-type]
    assert state.errors() == [
        "container runtime status check may not have completed yet", "container runtime network not ready: <nil>",
    ]
    state.look()
    assert state.errors() == []
    runtime.network = (False, "NetworkPluginNotReady", "Network plugin returns error: cni plugin not initialized")
    assert state.network_error(max_age_s=1.0) == ""
    now[0] += 2
    assert state.network_error(max_age_s=1.0) == NO_CNI and state.errors() == [NO_CNI]


def test_a_runtime_that_does_not_answer_is_called_down_after_half_a_minute() -> None:
    runtime, now = Runtime(), [0.0]
    state = RuntimeState(runtime, clock=lambda: now[0])  # type: ignore[arg-type]
    state.look()
    runtime.away, now[0] = True, 29.0
    state.look()
    assert state.errors() == []
    now[0] = 31.0
    assert state.errors() == ["container runtime is down"]


def test_pressures_are_read_of_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "sys/kernel").mkdir(parents=True)
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemAvailable: 900 kB\nHugePages_Total: 0\n")
    (tmp_path / "loadavg").write_text("0.1 0.2 0.3 1/950 4242\n")
    (tmp_path / "sys/kernel/pid_max").write_text("1000\n")
    thresholds = node_health.Thresholds(memory=900 * 1024, disk=0, pids=51)
    assert node_health.pressures(tmp_path, thresholds, tmp_path) == (False, False, True)
    assert node_health.pressures(tmp_path, node_health.Thresholds(900 * 1024 + 1, 2**62, 50), tmp_path) == (True, True, False)


class FakeApi:
    """Keeps one node and one Lease, and counts what was asked of it."""

    def __init__(self) -> None:
        self.node: dict[str, Any] = {}
        self.lease: dict[str, Any] = {}
        self.calls: list[str] = []

    def post(self, path: str, body: Any) -> Any:
        self.calls.append("POST " + path.rpartition("/")[2])
        if path.endswith("/nodes"):
            if self.node:
                raise ApiClientError(409, "AlreadyExists", "")
            self.node = json.loads(json.dumps(body))
        elif path.endswith("/leases"):
            self.lease = body
        return body

    def get(self, path: str) -> Any:
        if not self.node:
            raise ApiClientError(404, "NotFound", "")
        return self.node

    def patch(self, path: str, body: Any, kind: str = "") -> Any:
        self.calls.append("PATCH " + path.rpartition("/")[2])
        if "leases" in path:
            if not self.lease:
                raise ApiClientError(404, "NotFound", "")
            self.lease = body
        else:
            self.node |= {key: {**self.node.get(key, {}), **value} for key, value in body.items()}
        return self.node


class Events(list[tuple[str, str]]):
    def event(self, about: Any, type: str, reason: str, message: str) -> None:
        assert about["uid"] == about["name"] == "sim-worker"
        self.append((reason, message))


def made(tmp_path: Path) -> tuple[NodeStatus, FakeApi, Runtime, Events]:
    api, runtime, events = FakeApi(), Runtime(), Events()
    state = RuntimeState(runtime)  # type: ignore[arg-type]
    state.look()
    facts = NodeFacts("sim-worker", "10.10.0.1", tmp_path)
    return NodeStatus(api, runtime, facts, state, events), api, runtime, events  # type: ignore[arg-type]


def test_it_registers_and_then_sends_only_what_is_new(tmp_path: Path) -> None:
    status, api, _, events = made(tmp_path)
    status.once(1000.0)
    assert api.node["metadata"]["labels"]["kubernetes.io/hostname"] == "sim-worker"
    assert api.node["status"]["nodeInfo"]["containerRuntimeVersion"] == "containerd://1.6.20~ds1"
    assert api.node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] == 0
    assert api.lease["spec"]["holderIdentity"] == "sim-worker"
    assert ("NodeReady", "Node sim-worker status is now: NodeReady") in events
    api.calls.clear()
    for now in range(1010, 1060, 10):
        status.once(float(now))
    assert set(api.calls) == {"PATCH sim-worker"} and len(api.calls) == 5  # five Leases, no status
    status.once(1310.0)
    assert "PATCH status" in api.calls


def test_a_node_that_is_not_ready_any_more_is_told_at_once(tmp_path: Path) -> None:
    status, api, runtime, events = made(tmp_path)
    status.once(1000.0)
    runtime.network = (False, "NetworkPluginNotReady", "no network")
    status.state.look()
    api.calls.clear()
    status.once(1001.0)
    assert "PATCH status" in api.calls
    assert {c["type"]: c["status"] for c in api.node["status"]["conditions"]}["Ready"] == "False"
    assert events[-1] == ("NodeNotReady", "Node sim-worker status is now: NodeNotReady")


def test_a_status_that_somebody_else_changed_is_put_right(tmp_path: Path) -> None:
    status, api, _, _ = made(tmp_path)
    status.once(1000.0)
    for condition in api.node["status"]["conditions"]:
        condition["status"] = "Unknown"
    status.once(1010.0)
    assert {c["type"]: c["status"] for c in api.node["status"]["conditions"]}["Ready"] == "True"


def test_a_node_that_was_there_before_is_taken_over(tmp_path: Path) -> None:
    status, api, _, _ = made(tmp_path)
    api.node = {"metadata": {"name": "sim-worker", "labels": {"mine": "1"}}, "status": {}}
    status.once(1000.0)
    assert api.node["status"]["nodeInfo"]["operatingSystem"] == "linux"
