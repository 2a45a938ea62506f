"""What belongs to a lab is told from what only looks like it."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from labkit.kernel import LocalKernel, Process
from labkit.node import traces
from labkit.node.home import Home
from labkit.node.strays import role_of


def kubelet_of(home: Home) -> Process:
    own = LocalKernel().snapshot(fds=False).processes[os.getpid()]
    argv = ("python3", "-m", "labkit.kubelet", "--root", f"{home.data}/kubelet")
    return dataclasses.replace(own, pid=own.pid + 1, cmdline=argv, cgroups={})


def test_a_process_in_a_container_names_paths_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    kubelet = kubelet_of(Home.find())
    elsewhere = dataclasses.replace(kubelet, namespaces={**kubelet.namespaces, "pid": kubelet.namespaces["pid"] + 1})
    assert role_of(kubelet, Home.find(), ()) == "daemon"
    assert role_of(elsewhere, Home.find(), ()) is None


def test_another_labs_network_may_begin_with_this_ones_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    home, sandbox = Home.find(), "ab" * 32
    noted = [f"{home.network}-{sandbox}-eth0", f"{home.network}-123abc-{sandbox}-eth0"]
    results = tmp_path / "cni" / "results"
    results.mkdir(parents=True)
    for name in noted:
        (results / name).write_text("{}")
    monkeypatch.setattr(traces, "CNI_NOTES", tmp_path / "cni")
    assert [f.name for f in traces.cni_results(home)] == noted[:1]
