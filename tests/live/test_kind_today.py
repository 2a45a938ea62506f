"""Node kind `kind` on a node of today: systemd, containerd 2.1, kind's hook, as recorded on a real cluster (tests/unit/data)."""

from __future__ import annotations

import json

import pytest

from labkit.cri import CriClient
from tests.conftest import ROOT
from tests.live.test_standin import client, remove_pod, run_pod
from tests.standin.systemd import SystemdNode

pytestmark = pytest.mark.live
pytest_plugins = ("tests.standin.fixtures",)

DATA = ROOT / "tests/unit/data"


def test_its_containerd_is_configured_as_the_recorded_one(systemd_node: SystemdNode) -> None:
    assert systemd_node.exec("containerd", "config", "dump") == (DATA / "containerd_2.1_config_dump.toml").read_text().strip()
    recorded = json.loads((DATA / "cri_kind.json").read_text())["status_info"]
    with CriClient(f"unix://{systemd_node.socket}") as cri:
        info = cri.status(verbose=True).info
    assert json.loads(info["config"]) == recorded["config"]
    assert json.loads(info["cniconfig"])["Networks"] == recorded["cniconfig"]["Networks"]
    assert systemd_node.exec("systemctl", "list-units", "--failed", "--no-legend") == ""


def test_its_containers_start_with_kinds_hook_below_systemds_scopes(systemd_node: SystemdNode) -> None:
    with client(systemd_node) as cri:
        sandbox, container = run_pod(cri, "hooked", driver="systemd")
        try:
            info = json.loads(cri.container_status(container_id=container, verbose=True).info["info"])
            assert info["runtimeSpec"]["hooks"] == {"createContainer": [{"path": "/kind/bin/mount-product-files.sh"}]}
            uuid = systemd_node.exec("cat", "/kind/product_uuid")
            assert cri.exec_sync(container_id=container, cmd=["cat", "/product_uuid"]).stdout.decode().strip() == uuid
            cgroup = systemd_node.exec("cat", f"/proc/{info['pid']}/cgroup")
            assert f".slice/cri-containerd-{container}.scope" in cgroup
        finally:
            remove_pod(cri, sandbox)
