"""What belongs to a lab is told from what only looks like it."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from labkit.kernel import LocalKernel, Process, Snapshot
from labkit.node.host import lab_processes
from labkit.node.host.lab_processes import container_ids, role_of
from labkit.node.kinds import cleaning, discovery
from labkit.node.lab import residue
from labkit.node.state import status
from labkit.node.state.home import Home
from labkit.node.state.node_selector import NodeSelector
from labkit.util.errors import NodeError


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


def test_containers_whose_bundles_were_deleted_are_known_by_their_shim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    home, container, outer, stranger = Home.find(), *(letter * 64 for letter in "abc")
    own = LocalKernel().snapshot(fds=False).processes[os.getpid()]

    def process(pid: int, ppid: int, cgroup: str, *argv: str) -> Process:
        return dataclasses.replace(own, pid=pid, ppid=ppid, cmdline=argv, cgroups={"memory": cgroup})

    shim = ("/usr/bin/containerd-shim-runc-v2", "-address", f"{home.run}/containerd.sock")
    listed = [
        process(10, 1, f"/k8s.io/{outer}", *shim),
        process(11, 10, f"/k8s.io/{container}", "sleep"),
        process(12, 10, f"/k8s.io/{outer}", "runc"),
        process(13, 10, "/user.slice/session-1.scope", "sleep"),
        process(20, 1, "/", shim[0], "-address", f"{tmp_path}-2/run/containerd.sock"),
        process(21, 20, f"/k8s.io/{stranger}", "sleep"),
    ]
    snapshot = Snapshot(0, {p.pid: p for p in listed}, {}, ())
    assert container_ids(home, snapshot) == {container}


def test_a_lab_that_was_moved_while_it_ran_is_known_by_the_home_it_was_started_in(tmp_path: Path) -> None:
    before, after = Home.at(tmp_path / "before"), Home.at(tmp_path / "after")
    for home in (before, before.machine):
        home.make()
        status.write(home, state="starting", pid=os.getpid(), started=status.start_time(os.getpid()))
    assert status.read(before)["state"] == "starting" and status.former_home(before) is None
    (tmp_path / "before").rename(tmp_path / "after")
    assert (status.former_home(after), status.former_home(after.machine)) == (before, before.machine)
    assert status.read(after)["state"] == "failed" and str(before.run) in status.read(after)["error"]
    with pytest.raises(NodeError, match="labkit down"):
        status.refuse_moved(after)
    (tmp_path / "before").symlink_to(tmp_path / "after")  # the old path leads there: nothing has to be done
    assert status.former_home(after) is None


def test_a_node_whose_home_was_deleted_is_the_one_that_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, other = Home.at(tmp_path / "home"), Home.at(tmp_path / "home2")
    own = LocalKernel().snapshot(fds=False).processes[os.getpid()]
    argv = ("python", "-m", "labkit.node.vm.owner", str(home.machine.run))
    owner = dataclasses.replace(own, pid=1000, cmdline=argv, cgroups={})
    kernel = SimpleNamespace(snapshot=lambda fds: Snapshot(0, {owner.pid: owner}, {}, ()))
    monkeypatch.setattr(lab_processes, "LocalKernel", lambda: kernel)
    assert discovery.brought_up(home) == cleaning.nodes(home) == [NodeSelector("vm")]
    assert discovery.last_used(NodeSelector("auto"), home) == NodeSelector("vm")
    assert discovery.brought_up(other) == cleaning.nodes(other) == []


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
