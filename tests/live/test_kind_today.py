"""Node kind `kind` on a node of today: systemd, containerd 2.1, kind's hook, as recorded on a real cluster (tests/truth/kind)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
import yaml

import labkit as lab
from labkit.cri import CriClient
from labkit.node import Home
from labkit.node.registry import certs
from labkit.node.registry.course_images import BUSYBOX
from labkit.node.remote.kind_cluster import CONFIG as CLUSTER_CONFIG
from tests.conftest import labkit
from tests.live.test_pods import SLEEP, manifest
from tests.live.test_standin import client, remove_pod, run_pod
from tests.standin.node import SOCKET
from tests.standin.systemd import SystemdNode
from tests.truth import TRUTH, truth

pytest_plugins = ("tests.standin.fixtures",)

CONFIG = "/etc/containerd/config.toml"
FILES = "find /etc /srv /opt /kind /var/lib/labkit ! -name config.toml 2>/dev/null | sort; ctr -n k8s.io images ls -q"


def test_its_containerd_is_configured_as_the_recorded_one(systemd_node: SystemdNode) -> None:
    assert systemd_node.exec("containerd", "config", "dump") == (TRUTH / "kind/containerd_config_dump.toml").read_text().strip()
    recorded = truth("kind/cri.json")["status_info"]
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
            cri.remove_image(image={"image": BUSYBOX})


@pytest.fixture
def node(systemd_node: SystemdNode, own_home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[SystemdNode]:
    """The node as root's own choice, in a home of its own; its files are as they were afterwards."""
    for name, value in {**systemd_node.engine.env, "LABKIT_NODE": "kind", "LABKIT_CLUSTER": systemd_node.cluster}.items():
        monkeypatch.setenv(name, value)
    config = systemd_node.exec("cat", CONFIG)
    yield systemd_node
    labkit("clean", check=False)
    if systemd_node.exec("cat", CONFIG) != config:
        configure(systemd_node, config)


def configure(node: SystemdNode, config: str) -> None:
    node.write_files({CONFIG: config.encode()})
    node.exec("systemctl", "restart", "containerd")
    node.wait_ready()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("", id="kind's"),
        pytest.param('s#config_path = .*#config_path = "/etc/containerd/certs.d:/srv/b"#', id="two", marks=pytest.mark.soak),
        pytest.param('s#config_path = .*#config_path = "/srv/a:/srv/b"#; s/discard_unpacked_layers = .*//', id="two as one",
                     marks=pytest.mark.soak),
    ],
)
def test_its_containerd_pulls_from_the_registry_and_nothing_of_it_is_left(node: SystemdNode, change: str) -> None:
    if change:
        config = node.exec("sed", change, CONFIG)
        configure(node, config)
    before = node.exec("sh", "-c", FILES)
    said = labkit("up").stderr
    connected = lab.connect(lesson="05")
    assert (connected.images_by.by, connected.images_by.why) == ("pull", ""), said
    for image in ("registry.lab/busybox:1", "registry.lab/pause:1"):
        assert connected.cri.pull_image(image={"image": image}).image_ref
    with pytest.raises(lab.CriError, match="authorization"):
        connected.cri.pull_image(image={"image": "private.registry.lab/busybox:1"})
    labkit("down")
    labkit("up")  # a second time, with other ports
    assert lab.connect(lesson="05").cri.pull_image(image={"image": "registry.lab/busybox:1"}).image_ref
    assert json.loads(labkit("clean", "--json").stdout)["left"] == []
    assert node.exec("sh", "-c", FILES) == before


def test_where_images_can_only_be_imported_that_is_said_before_a_notebook_fails(
    node: SystemdNode, capfd: pytest.CaptureFixture[str]
) -> None:
    config = node.exec("sed", 's#config_path = .*#config_path = ""#', CONFIG)
    configure(node, config)
    before = node.exec("sh", "-c", FILES)
    assert "notebooks 03, 05 and 07 cannot pull" in (said := labkit("up").stderr) and "no config_path" in said
    assert lab.connect(lesson="05").images_by.by == "import"
    assert "notebook 05 cannot pull" in capfd.readouterr().err
    connected = lab.connect(lesson="02")
    assert "cannot" not in capfd.readouterr().err
    assert connected.start_pod(manifest("imported", {**SLEEP, "image": connected.images["busybox"]})).state == "Ready"
    assert json.loads(labkit("clean", "--json").stdout)["left"] == []
    assert node.exec("sh", "-c", FILES) == before


@pytest.mark.soak
def test_a_configuration_that_is_not_followed_is_found_by_a_pull(node: SystemdNode) -> None:
    """The file names a directory, and the containerd that runs has not read it: only the pull tells. `up` tries again."""
    config = node.exec("cat", CONFIG)
    configure(node, node.exec("sed", 's#config_path = .*#config_path = ""#', CONFIG))
    node.write_files({CONFIG: config.encode()})  # without a restart
    before = node.exec("sh", "-c", FILES)
    assert "does not use the addresses in /etc/containerd/certs.d" in labkit("up").stderr
    assert node.exec("sh", "-c", "pidof docker-registry; ls -A /etc/containerd/certs.d", check=False) == ""
    node.exec("systemctl", "restart", "containerd")
    node.wait_ready()
    assert lab.connect(lesson="05").images_by.by == "import"
    assert "cannot pull" not in labkit("up").stderr
    assert lab.connect(lesson="05").images_by.by == "pull"
    labkit("clean")
    assert node.exec("sh", "-c", FILES) == before


def test_the_courses_patch_of_the_configuration_suits_it(node: SystemdNode) -> None:
    """kind merges the tables of the patch into the node's configuration."""
    (patch,) = yaml.safe_load(CLUSTER_CONFIG.read_text())["containerdConfigPatches"]
    configure(node, node.exec("sed", "/registry\\]/d; /config_path/d", CONFIG) + "\n" + patch)
    assert certs.directories(CriClient(f"unix://{node.socket}"), runner(node), SOCKET) == ["/etc/containerd/certs.d"]
    assert lab.connect(lesson="05").images_by.by == "pull"


def runner(node: SystemdNode) -> Callable[..., bytes]:
    return lambda argv: node.exec(*argv).encode()
