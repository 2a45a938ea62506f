"""The cgroups of QoS classes and of all Pods, on a tree of plain files."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from labkit.kubelet.resources.pod_cgroups import Allowance, PodCgroups
from labkit.podspec import with_defaults
from labkit.podspec.messages.linux_resources import MachineInfo

GIB = 2**30


def pod(name: str, **resources: Any) -> dict[str, Any]:
    container = {"name": "app", "image": "registry.lab/busybox:1", "resources": resources}
    return with_defaults({"metadata": {"name": name, "uid": name}, "spec": {"containers": [container]}})


def cgroups(tmp_path: Path) -> PodCgroups:
    for controller in ("cpu", "memory"):
        (tmp_path / controller).mkdir()
        (tmp_path / controller / "cgroup.procs").touch()
    (tmp_path / "perf_event").mkdir()  # systemd's, with no hierarchy mounted on it
    return PodCgroups("/lab", MachineInfo(cgroup_version=1, memory_bytes=24 * GIB, cpus=2), tmp_path, Allowance(1800, 22 * GIB))


def shares(tmp_path: Path, path: str) -> int:
    return int((tmp_path / "cpu/lab/kubepods" / path / "cpu.shares").read_text())


def test_the_burstable_class_weighs_as_much_as_its_pods_request(tmp_path: Path) -> None:
    made = cgroups(tmp_path)
    made.make(pod("one", requests={"cpu": "250m"}))
    assert shares(tmp_path, "burstable") == 256
    made.make(pod("two", requests={"cpu": "500m"}))
    assert shares(tmp_path, "burstable") == 768
    made.make(pod("idle"))
    assert (shares(tmp_path, "burstable"), shares(tmp_path, "besteffort")) == (768, 2)


def test_all_pods_together_have_what_is_not_reserved(tmp_path: Path) -> None:
    cgroups(tmp_path).make(pod("idle"))
    assert shares(tmp_path, ".") == 1843
    assert int((tmp_path / "memory/lab/kubepods/memory.limit_in_bytes").read_text()) == 22 * GIB


def test_what_the_runtime_left_of_a_container_that_has_ended_is_removed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = lambda path: shutil.rmtree(path) is None  # noqa: E731  # files, as no cgroup has
    monkeypatch.setattr("labkit.kubelet.resources.pod_cgroups.remove_tree", removed)
    made = cgroups(tmp_path)
    made.make(pod("web"))
    left, other = (subprocess.Popen(["sleep", "1000"]) for _ in range(2))
    try:
        for controller in ("cpu", "memory"):  # a process is in every hierarchy
            for name, process in (("ended", left), ("runs", other)):
                directory = tmp_path / controller / "lab/kubepods/besteffort/podweb" / name
                directory.mkdir()
                (directory / "cgroup.procs").write_text(f"{process.pid}\n")
        assert (made.end_left(pod("web"), "ended"), made.end_left(pod("web"), "was-removed")) == (1, 0)
        assert left.wait(60) == -signal.SIGKILL and other.poll() is None
        assert {path.name for path in tmp_path.glob("*/lab/kubepods/besteffort/podweb/*") if path.is_dir()} == {"runs"}
    finally:
        for process in (left, other):
            process.kill()
            process.wait()
