"""What belongs to a lab is told from what only looks like it."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from labkit.kernel import LocalKernel, Process
from labkit.node.host.lab_processes import role_of
from labkit.node.lab import residue
from labkit.node.state.home import Home


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
    monkeypatch.setattr(residue, "CNI_NOTES", tmp_path / "cni")
    assert [f.name for f in residue.cni_results(home)] == noted[:1]


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo '-A POSTROUTING -o BRIDGE -j MASQUERADE'", ["iptables-save: -A POSTROUTING -o BRIDGE -j MASQUERADE"]),
        ("echo '-A POSTROUTING -o eth0 -j MASQUERADE'", []),
        ("echo 'Could not fetch rule set generation id: Permission denied' >&2; exit 4",
         ["iptables-save could not look: Could not fetch rule set generation id: Permission denied"]),
        ("exit 3", ["iptables-save could not look: it exited with code 3"]),
        ("echo 'Failed to initialize nft: Protocol not supported' >&2; exit 1", []),
    ],
)
def test_a_program_that_could_not_list_the_rules_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, told: list[str]
) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    home = Home.find()
    program = tmp_path / "iptables-save"
    program.write_text(f"#!/bin/sh\n{script.replace('BRIDGE', home.bridge)}\n")
    program.chmod(0o755)
    monkeypatch.setattr("shutil.which", lambda name, path: str(program) if name == program.name else None)
    assert residue.rules(home) == [line.replace("BRIDGE", home.bridge) for line in told]


def test_a_program_that_cannot_be_run_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda name, path: str(tmp_path / "gone") if name == "nft" else None)
    assert residue.rules(Home.find()) == ["nft could not look: No such file or directory"]


def test_what_was_found_is_looked_for_again_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "address").touch()
    (tmp_path / "link").symlink_to("nowhere")
    found = [str(tmp_path / name) for name in ("address", "link", "gone")]
    assert residue.still_there([*found, "/sys", "/var/lib/cni", "/sys/fs/cgroup/memory/k8s.io"]) == [*found[:2], "/sys"]
