"""What the lessons measure in one call: who shares what, what came first, who started a process, what a container's root is."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from labkit.course.measures import container_root, order_of_steps, shared_namespaces, who_started
from labkit.cri.pods import PodProcess, PodSnapshot
from labkit.util.showable import Absent
from tests.unit import flights

HOST = {"net": 1, "ipc": 2, "uts": 3, "pid": 4, "mnt": 5, "user": 6}


def shop(*own: dict[str, int]) -> PodSnapshot:
    processes = [PodProcess(10 + n, 9, "application", "sleep", str(n), HOST | each) for n, each in enumerate(own)]
    shim = PodProcess(9, 1, "shim", "shim", None, HOST)
    return PodSnapshot("shop", "default", "u", "s", "Ready", "", (shim, *processes))


@pytest.mark.parametrize(
    ("own", "shared"),
    [
        (({"net": 11, "ipc": 12, "uts": 13, "mnt": 14}, {"net": 11, "ipc": 12, "uts": 13, "mnt": 15}), "net, ipc and uts"),
        (({"net": 11, "mnt": 14}, {"net": 11, "mnt": 15}), "net"),
        (({"net": 11}, {"net": 12}), ""),
        (({}, {}), ""),
    ],
)
def test_namespaces_that_the_applications_share_and_the_node_does_not(own: tuple[dict[str, int], ...], shared: str) -> None:
    assert shared_namespaces(shop(*own), HOST) == shared


def test_a_pod_whose_applications_have_ended_is_refused_by_name() -> None:
    pod = PodSnapshot("gone", "default", "u", "i", "NotReady", "", ())
    with pytest.raises(Absent, match="No application of the Pod gone runs"):
        shared_namespaces(pod, {})


def test_the_steps_of_a_start_are_in_the_order_in_which_they_began() -> None:
    one = flights.Recording()
    one.pod("hello", 5, ("httpd",), names=("web",))
    assert order_of_steps(one.finish(), "web") == [
        "RunPodSandbox", "CNI plugins make the network", "PullImage", "CreateContainer", "StartContainer",
        "the shim starts runc for web", "runc has ended, the shim stays",
    ]


def test_steps_that_were_not_seen_are_left_out() -> None:
    one = flights.Recording()
    one.pod("hello", 5, ("httpd",), names=("web",))
    without = replace(one.finish(), processes=())
    assert order_of_steps(without, "web") == ["RunPodSandbox", "PullImage", "CreateContainer", "StartContainer"]


def test_who_started_a_command() -> None:
    execution = flights.execs(1)
    assert who_started(execution) == "shim → runc"
    assert who_started(replace(execution, source="poll")) == "", "a poll cannot tell"
    assert who_started(replace(execution, processes=())) == ""


def test_the_root_of_a_container_has_the_image_s_layers_from_the_lowest_up() -> None:
    mountinfo = "30 20 0:40 / / rw - overlay overlay rw,lowerdir=/l/2:/l/1,upperdir=/u,workdir=/w\n"
    answers = {
        ("cat", "/proc/7/mountinfo"): f"{mountinfo}31 30 0:41 / /proc rw - proc p rw\n",
        ("ls", "/l/1"): "bin\nusr\n",
        ("ls", "/l/2"): "var\n",
    }
    find = "6 /var/www/a b.html\n0 /etc/hosts\n"
    node = SimpleNamespace(shell=lambda argv: find if argv[0] == "find" else answers[tuple(argv)])
    history = [{"created_by": "busybox"}, {"created_by": "a web page"}]
    status = SimpleNamespace(info={"info": json.dumps({"imageSpec": {"history": history}})})
    root = container_root(node, status, 7)  # type: ignore[arg-type]
    assert [(layer.name, layer.holds) for layer in root.layers] == [("busybox", ("bin", "usr")), ("a web page", ("var",))]
    assert root.mount.mount_point == "/" and dict(root.written) == {"/etc/hosts": 0, "/var/www/a b.html": 6}
