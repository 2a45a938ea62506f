"""What the tests themselves are made of: the logs that a failed one keeps, the engine where iptables is installed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from labkit.node.packages.unpack import Unpacked
from tests.conftest import keep_logs
from tests.live import machine
from tests.standin import engine


def test_logs_of_a_failed_tests_lab_are_kept_in_place_of_older_ones(tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "out" / "test_x"
    (home / "data").mkdir(parents=True)
    for name in ("labkit.log", "kubelet.log", "nodes.json"):
        (home / "data" / name).write_text(name)
    assert [path.name for path in keep_logs(home, out)] == ["kubelet.log", "labkit.log"]
    assert (out / "kubelet.log").read_text() == "kubelet.log"
    (home / "data" / "kubelet.log").unlink()
    assert keep_logs(home, out) == [out / "labkit.log"] == list(out.iterdir())
    assert keep_logs(tmp_path / "none", out) == [] and not out.exists()


@pytest.mark.parametrize("brought", [True, False], ids=["brought", "the machine's own"])
def test_an_engine_starts_with_iptables_brought_or_installed(
    brought: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """apt brings no package that is installed: then the programs' directory has no iptables, and the PATH has."""
    programs, base = tmp_path / "programs", tmp_path / "base"
    base.mkdir()
    modules = programs / "usr/lib/x86_64-linux-gnu/xtables"
    if brought:
        modules.mkdir(parents=True)
        (programs / "usr/sbin").mkdir()
        (programs / "usr/sbin/iptables-nft").touch()
    started: list[dict[str, Any]] = []
    monkeypatch.setattr(engine.subprocess, "Popen", lambda argv, **options: started.append(options))
    engine.launch(base, Unpacked(programs, {}, ()), "docker")
    (options,) = started
    assert options["env"].get("XTABLES_LIBDIR") == (str(modules) if brought else None)
    assert (base / "bin/iptables").exists() == brought
    assert {"/usr/sbin", "/sbin"} <= set(options["env"]["PATH"].split(os.pathsep))


def test_rules_are_equal_whatever_they_have_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "iptables-save"
    monkeypatch.setattr(machine, "PATH", f"{tmp_path}:/usr/bin:/bin")
    seen = []
    for counted in ("12:3456", "78:9012"):
        program.write_text(f"#!/bin/sh\necho '# Generated'\necho ':INPUT ACCEPT [{counted}]'\necho '-A INPUT -j ACCEPT'\n")
        program.chmod(0o755)
        seen.append(list(machine.rules()))
    assert seen[0] == seen[1] == [":INPUT ACCEPT ", "-A INPUT -j ACCEPT"]
