"""What is different where systemd makes the cgroups, and the runtime before runc that asks for less."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from labkit.kubelet.resources import slices
from labkit.kubelet.resources.pod_cgroups import PodCgroups
from labkit.node.kinds.kind import PULLING
from labkit.node.observe.cgroups import below_kubepods
from labkit.node.registry import node_registry
from labkit.podspec.messages.linux_resources import MachineInfo, cgroup_path
from tests.standin import runtime

GIB = 2**30
POD = "pod5f85ada7_92af_4f0e_b1ed_c68c87e43db9"
SCOPE = "cri-containerd-303d9e58b2887498c0b63ed607f7b7ece75210646b710ebabd0ea6f3c59b8b8c.scope"
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


@pytest.mark.parametrize("root", ["kubelet", "labkit", ""])
def test_a_pods_slices_are_found_below_any_root(root: str) -> None:
    path = cgroup_path([root, "kubepods", "burstable", POD], "systemd")
    above = f"{root}-" if root else ""
    expected = [f"{above}kubepods.slice", f"{above}kubepods-burstable.slice", f"{above}kubepods-burstable-{POD}.slice", SCOPE]
    assert below_kubepods(f"/sys/fs/cgroup/memory{path}/{SCOPE}") == tuple(expected)


def test_a_pods_cgroup_is_found_where_the_runtime_makes_it() -> None:
    assert below_kubepods("/sys/fs/cgroup/labkit/kubepods/podx/c") == ("kubepods", "podx", "c")
    assert below_kubepods("/sys/fs/cgroup/system.slice/my-kubepods-tool.service") == ()


def test_the_kubelet_has_systemd_make_the_recorded_slice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(slices, "_call", lambda method, signature, *words, accept: asked.append((method, *words)))
    for controller in ("cpu", "memory", "systemd"):
        (tmp_path / controller).mkdir()
        (tmp_path / controller / "cgroup.procs").touch()
    cgroups = PodCgroups("/kubelet", MachineInfo(cgroup_version=1, memory_bytes=24 * GIB, cpus=2), tmp_path, driver="systemd")
    uid = "5f85ada7-92af-4f0e-b1ed-c68c87e43db9"
    resources = {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}}
    pod: Any = {"metadata": {"name": "shop", "uid": uid}, "spec": {"containers": [{"name": "web", "resources": resources}]}}
    cgroups.make(pod)
    (started,) = asked
    assert started[:2] == ("StartTransientUnit", f"kubelet-kubepods-burstable-{POD}.slice")
    assert " CPUShares t 102 MemoryLimit t 67108864 " in " ".join(started)
    directory = f"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-{POD}.slice"
    assert (tmp_path / "memory" / directory / "memory.limit_in_bytes").read_text() == str(64 << 20)
    assert cgroups.memory_limit(pod) == 64 << 20


@pytest.mark.parametrize(
    ("arguments", "process"),
    [
        (["--root", "/r", "create", "--bundle", "{}", "--pid-file", "p", "id"], False),
        (["run", "-b", "{}", "id"], False),
        (["--log", "l", "exec", "--process", "{}/config.json", "--detach", "id"], True),
        (["exec", "--process={}/config.json", "id"], True),
    ],
)
def test_the_runtime_before_runc_asks_for_less(
    arguments: list[str], process: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"capabilities": {"bounding": ["CAP_CHOWN", "CAP_SYS_RESOURCE"]}, "rlimits": [1], "oomScoreAdj": -500, "args": ["sh"]}
    (tmp_path / "config.json").write_text(json.dumps(asked if process else {"process": asked, "root": {}}))
    ran: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda path, argv: ran.append(argv))
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    words = [word.format(tmp_path) for word in arguments]
    runtime.main(words)
    left = json.loads((tmp_path / "config.json").read_text())
    assert (left if process else left["process"]) == {"capabilities": {"bounding": ["CAP_CHOWN"]}, "args": ["sh"]}
    assert ran == [["runc", *words]]


def test_the_runtime_before_runc_leaves_other_commands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime.configuration(["--version"]) is None
    assert runtime.configuration(["delete", "--force", "id"]) is None


def test_the_notebooks_that_need_a_pull_are_those_that_pull() -> None:
    unguarded = re.compile(r"remove_image\(|^\w+ = node\.cri\.pull_image\(", re.MULTILINE)
    needing = []
    for path in sorted(NOTEBOOKS.glob("0*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        if any(c["cell_type"] == "code" and unguarded.search("".join(c["source"])) for c in cells):
            needing.append(path.name[:2])
    assert tuple(needing) == PULLING


def test_a_name_of_an_image_is_the_courses_by_its_registry() -> None:
    assert node_registry.is_own("registry.lab/pause:1") and node_registry.is_own("private.registry.lab/busybox@sha256:0")
    assert not node_registry.is_own("localhost:5000/registry.lab/pause:1")
    assert not node_registry.is_own("docker.io/library/registry.lab:1")
