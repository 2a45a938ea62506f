"""Verbose answers, as containerd 1.6, 1.7 and 2.1 and CRI-O 1.37 gave them: what is told is read, the rest is not known."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labkit.cri import CriError, verbose
from labkit.cri.v1 import api_pb2 as pb
from labkit.node.lab import garbage_collection
from labkit.node.lab.garbage_collection import owned_namespaces
from labkit.node.registry import certs
from tests.truth import TRUTH

DATA = Path(__file__).with_name("data")
RECORDED: dict[str, Any] = json.loads((DATA / "cri_verbose.json").read_text())
DUMP = (TRUTH / "kind/containerd_config_dump.toml").read_text()
SOCKET = "/run/containerd/containerd.sock"


class Runtime:
    """Answers of one runtime; `driver` is RuntimeConfig's, None where the call is not served, "" where it tells nothing."""

    def __init__(self, name: str = "containerd", driver: str | None = None, **info: Any) -> None:
        self.name, self.driver, self.told = name, driver, info

    def version(self) -> Any:
        return pb.VersionResponse(runtime_name=self.name)

    def runtime_config(self) -> Any:
        if self.driver is None:
            raise CriError("RuntimeConfig", "UNIMPLEMENTED", "unknown method RuntimeConfig", "")
        if self.driver == "":
            return pb.RuntimeConfigResponse()
        if self.driver.isdigit():
            return pb.RuntimeConfigResponse(linux=pb.LinuxRuntimeConfiguration(cgroup_driver=int(self.driver)))
        return pb.RuntimeConfigResponse(linux=pb.LinuxRuntimeConfiguration(cgroup_driver=self.driver))

    def status(self, verbose: bool = False) -> Any:
        return pb.StatusResponse(info={key: json.dumps(value) for key, value in self.told.items()})

    def pod_sandbox_status(self, pod_sandbox_id: str, verbose: bool = False) -> Any:
        return pb.PodSandboxStatusResponse(info={key: json.dumps(value) for key, value in self.told.items()})


def of(name: str) -> Any:
    return Runtime(name.split()[0], RECORDED[name]["RuntimeConfig"], **RECORDED[name]["Status"])


def systemd_by_options(version: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(json.dumps(RECORDED[version]["Status"]["config"]))
    config["containerd"]["runtimes"]["runc"]["options"]["SystemdCgroup"] = True
    return config


@pytest.mark.parametrize("name", RECORDED)
def test_the_driver_of_each_recorded_runtime(name: str) -> None:
    assert verbose.cgroup_driver(of(name)) == ("systemd" if name == "containerd 2.1.9 of kind" else "cgroupfs")


@pytest.mark.parametrize("version", ["containerd 1.6.20", "containerd 1.7.24"])
def test_without_runtime_config_the_driver_is_the_default_runtimes(version: str) -> None:
    config = systemd_by_options(version)
    assert verbose.cgroup_driver(Runtime(config=config)) == "systemd"  # type: ignore[arg-type]
    config["containerd"]["runtimes"]["other"] = config["containerd"]["runtimes"]["runc"]
    config["containerd"]["runtimes"]["runc"] = RECORDED[version]["Status"]["config"]["containerd"]["runtimes"]["runc"]
    assert verbose.cgroup_driver(Runtime(config=config)) == "cgroupfs"  # type: ignore[arg-type]


def test_a_runtime_that_tells_no_driver_has_its_default() -> None:
    for driver in (None, "", "7"):  # the last: one that this course does not know
        assert verbose.cgroup_driver(Runtime("cri-o", driver)) == "systemd"  # type: ignore[arg-type]
        assert verbose.cgroup_driver(Runtime("containerd", driver)) == "cgroupfs"  # type: ignore[arg-type]


@pytest.mark.parametrize("name", RECORDED)
def test_pids_and_namespaces_of_each_recorded_runtime(name: str) -> None:
    recorded = RECORDED[name]
    assert verbose.pid(recorded["sandbox"]) > 0 or name == "cri-o 1.37.0 pid_private"
    assert "netns/" in verbose.namespace_paths(recorded["sandbox"])["network"]
    if "container" in recorded:
        assert verbose.pid(recorded["container"]) > 0
        assert verbose.namespace_paths(recorded["container"])["network"] == f"/proc/{recorded['sandbox']['pid']}/ns/net"


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "no JSON", '{"pid": null}', '{"runtimeSpec": null}', '{"runtimeSpec": {"linux": null}}']
)
def test_what_is_not_told_is_not_known(text: str) -> None:
    found = verbose.info(pb.ContainerStatusResponse(info={"info": text}))
    assert (verbose.pid(found), verbose.namespace_paths(found)) == (0, {})


def test_no_namespace_is_nobodys_while_a_sandbox_does_not_tell_its_own() -> None:
    told = RECORDED["containerd 2.1.9"]["sandbox"]
    assert owned_namespaces(Runtime(info=told), {"one"}) == {verbose.namespace_paths(told)["network"]}  # type: ignore[arg-type]
    for info in ({}, {"pid": 1}, {"runtimeSpec": {}}):
        assert owned_namespaces(Runtime(info=info), {"one"}) is None  # type: ignore[arg-type]


def test_a_sandbox_that_is_removed_while_its_namespace_is_asked_for_owns_none() -> None:
    class Removed(Runtime):
        def pod_sandbox_status(self, **request: Any) -> Any:
            raise CriError("PodSandboxStatus", "NOT_FOUND", "not found", "")

    assert owned_namespaces(Removed(), {"one"}) == set()  # type: ignore[arg-type]


def test_a_namespace_that_may_be_anybodys_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox that is being made when containerd starts tells nothing of its own; later it does, or is gone."""
    answers: list[Any] = [None, {"/run/owned"}]
    there = {"/run/owned", "/run/left"}
    monkeypatch.setattr(garbage_collection, "CriClient", lambda endpoint: contextlib.nullcontext(Runtime()))
    monkeypatch.setattr(Runtime, "list_pod_sandbox", lambda self: pb.ListPodSandboxResponse(), raising=False)
    monkeypatch.setattr(garbage_collection, "owned_namespaces", lambda cri, sandboxes: answers.pop(0))
    monkeypatch.setattr(garbage_collection, "namespaces", lambda home: sorted(there))
    monkeypatch.setattr(garbage_collection, "find_orphans", lambda home: garbage_collection.Orphans())
    monkeypatch.setattr(garbage_collection, "remove_namespace", lambda path: there.discard(path) or path)
    home: Any = SimpleNamespace(socket="s")
    collector = garbage_collection.GarbageCollector(home)
    _, collector.undecided = garbage_collection.free_namespaces(home, frozenset({*there, "/run/gone"}))
    assert collector.undecided == there == {"/run/owned", "/run/left"}
    collector.collect()
    assert (collector.undecided, there) == (frozenset(), {"/run/owned"})


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("containerd 1.6.20", "/var/lib/labkit/data/certs.d"),
        ("containerd 1.7.24", "/var/lib/labkit/data/certs.d"),
        ("containerd 2.1.9", None),
        ("containerd 2.1.9 of kind", None),
        ("cri-o 1.37.0 pid_shared", None),
    ],
)
def test_the_verbose_status_names_registries_until_containerd_1(name: str, path: str | None) -> None:
    assert verbose.registry_path(of(name)) == path


def dumped(*texts: str) -> Any:
    return lambda argv: "".join(f"{text}\0" for text in texts).encode()


def dump(path: str, address: str = SOCKET) -> str:
    return DUMP.replace("'/etc/containerd/certs.d'", f"'{path}'").replace(f"'{SOCKET}'", f"'{address}'")


@pytest.mark.parametrize(
    ("path", "places"),
    [
        ("/etc/containerd/certs.d", ["/etc/containerd/certs.d"]),
        ("/srv/certs", ["/srv/certs"]),
        ("", []),
        ("/etc/containerd/certs.d:/etc/docker/certs.d",
         ["/etc/containerd/certs.d", "/etc/docker/certs.d", "/etc/containerd/certs.d:/etc/docker/certs.d"]),
    ],
)
def test_the_places_are_those_of_the_configuration(path: str, places: list[str]) -> None:
    kind: Any = of("containerd 2.1.9 of kind")
    assert certs.directories(kind, dumped(dump(path)), SOCKET) == places


def test_among_several_containerds_the_one_that_serves_the_socket_is_asked() -> None:
    kind: Any = of("containerd 2.1.9 of kind")
    two = dumped(dump("/srv/other", "/run/docker/containerd.sock"), dump("/srv/own", "/var/run/k3s/containerd.sock"))
    assert certs.directories(kind, two, "/run/k3s/containerd.sock") == ["/srv/own"]


def test_where_nothing_is_told_the_usual_place_is_tried() -> None:
    kind: Any = of("containerd 2.1.9 of kind")
    assert certs.directories(kind, dumped(), SOCKET) == ["/etc/containerd/certs.d"]
    assert certs.directories(kind, dumped("no TOML = = ", "version = 3"), SOCKET) == ["/etc/containerd/certs.d"]


def test_every_containerd_that_runs_is_asked_for_its_configuration_with_its_own_arguments(tmp_path: Path) -> None:
    """The programs are this machine's sh and true by another name: what they run is asked again, with "config dump"."""
    for name, program in (("runs", "sh"), ("ended", "true")):
        (tmp_path / name).mkdir()
        shutil.copy(str(shutil.which(program)), tmp_path / name / "containerd")
    answers = '[ "$1" = dump ] || { read -r line; exit; }; echo "marked = true"'
    zombie = subprocess.Popen([tmp_path / "ended" / "containerd"])
    runs = subprocess.Popen([tmp_path / "runs" / "containerd", "-c", answers], stdin=subprocess.PIPE)
    try:
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        done = subprocess.run(["sh", "-c", certs.DUMP], capture_output=True, check=True)
        assert b"marked = true\n\0" in done.stdout
    finally:
        runs.communicate()
        zombie.wait()
