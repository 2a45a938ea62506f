"""What comes from a Pod or from a registry, made to harm who takes it: images, archives, answers to probes."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.node.packages.programs import ensure_programs
from labkit.node.registry.course_images import busybox_image
from labkit.node.registry.oci import LAYER, Blob, Image, image, write_archive
from tests.conftest import labkit
from tests.live import exposed
from tests.live.cluster import Cluster, wait_for
from tests.live.test_kubelet import cluster, pod, runs, shell  # noqa: F401

Member = dict[str, Any]
UP = "../" * 40
LINK, HARD, BLOCK, CHARACTER = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.BLKTYPE, tarfile.CHRTYPE


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A directory of the machine that is none of the lab's business: nothing in it may change."""
    directory = tmp_path / "victim"
    (directory / "dir").mkdir(parents=True)
    (directory / "secret").write_text("the machine's own")
    before = {path: path.lstat() for path in (directory, *directory.rglob("*"))}
    yield directory
    assert {path: path.lstat()[:8] for path in (directory, *directory.rglob("*"))} == {p: s[:8] for p, s in before.items()}
    assert (directory / "secret").read_text() == "the machine's own"


def harms(victim: Path) -> dict[str, list[Member]]:
    """Layers by what they try."""
    escaped = {"data": b"escaped"}
    return {
        "path": [{"name": f"{UP}{victim}/escaped", **escaped}],
        "absolute": [{"name": f"{victim}/escaped", **escaped}],
        "link": [{"name": "d", "type": LINK, "linkname": str(victim)}, {"name": "d/escaped", **escaped}],
        "long-link": [{"name": "d", "type": LINK, "linkname": f"{UP}{victim}"}, {"name": "d/dir", **escaped}],
        "link-of-the-root": [{"name": ".", "type": LINK, "linkname": str(victim)}, {"name": "escaped", **escaped}],
        "hard-link": [{"name": "taken", "type": HARD, "linkname": f"{victim}/secret"}],
        "long-hard-link": [{"name": "taken", "type": HARD, "linkname": f"{UP}{victim}/secret"}],
        "hard-link-by-link": [{"name": "d", "type": LINK, "linkname": str(victim)},
                              {"name": "taken", "type": HARD, "linkname": "d/secret"}, {"name": "taken", **escaped}],
        "whiteout": [{"name": f"{UP}{victim}/.wh.secret"}],
        "whiteout-of-the-parent": [{"name": ".wh..."}, {"name": ".wh.."}, {"name": "d/.wh..."}],
        "whiteout-by-link": [{"name": "d", "type": LINK, "linkname": str(victim)}, {"name": "d/.wh.secret"},
                             {"name": "d/.wh..wh..opq"}],
        "devices": [{"name": "disk", "type": BLOCK, "devmajor": 8, "mode": 0o666},
                    {"name": "mem", "type": CHARACTER, "devmajor": 1, "devminor": 1, "mode": 0o666},
                    {"name": "dev/null", "type": BLOCK, "devmajor": 8, "mode": 0o666}],
        "attributes": [{"name": "x", "pax_headers": {"SCHILY.xattr.trusted.overlay.redirect": f"/{UP}{victim}",
                                                     "SCHILY.xattr.trusted.overlay.opaque": "y"}, "type": tarfile.DIRTYPE}],
        "links-for-mounts": [{"name": name, "type": LINK, "linkname": str(victim)} for name in ("proc", "sys", "etc", "dev")],
        "too-large": [{"name": "huge", "size": 1 << 60}],
        "holes": [{"name": "huge", "pax_headers": {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 60)}}],
    }


def layer(members: list[Member]) -> Blob:
    out = io.BytesIO()
    for each in members:
        member, data = tarfile.TarInfo(), each.get("data", b"")
        member.mode, member.size = 0o755, len(data)
        for name in each.keys() - {"data"}:
            setattr(member, name, each[name])
        out.write(member.tobuf(tarfile.PAX_FORMAT) + data + b"\0" * (-len(data) % 512))
    return Blob(LAYER, out.getvalue() + b"\0" * 1024)


LOOKS = """exec 2>/dev/null
cat /taken /d/secret /x/secret /etc/secret /proc/secret | grep machine && echo got: a file
for device in /disk /mem; do head -c 1 $device | grep -q . && echo got: $device; done
echo tried"""


def test_an_image_gets_nothing_of_the_machine(cluster: Cluster, victim: Path, tmp_path: Path) -> None:  # noqa: F811
    """Root pulls and unpacks it: paths, links, hard links, whiteouts, devices, attributes, sizes."""
    programs = ensure_programs(cluster.home.cache)
    plain, made = busybox_image(programs.busybox), list[Image]()
    for name, members in harms(victim).items():
        made.append(image(f"registry.lab/{name}:1", [*plain.layers, layer(members)], {"Env": ["PATH=/bin:/usr/bin"]}))
        write_archive(tmp_path / "image.tar", made[-1:])
        argv = [programs.ctr, "--address", cluster.home.socket, "--namespace", "k8s.io", "images", "import", "--no-unpack"]
        environment = {**os.environ, "LD_LIBRARY_PATH": programs.library_path}
        subprocess.run([*argv, tmp_path / "image.tar"], check=True, capture_output=True, timeout=60, env=environment)
    names = [each.reference.rpartition("/")[2].removesuffix(":1") for each in made]
    try:
        for name in names:
            container = shell(LOOKS, image=f"registry.lab/{name}:1", imagePullPolicy="Never")
            cluster.create(pod(name, container, restartPolicy="Never"))
        waiting = {"CreateContainerError", "RunContainerError", "ErrImageNeverPull"}
        for name in names:
            wait_for(lambda name=name: cluster.phase(name) in ("Succeeded", "Failed") or cluster.reasons(name) & waiting, name)
        ran = {name: cluster.log(name).splitlines() for name in names if cluster.phase(name) == "Succeeded"}
        assert "path" in ran and "hard-link" not in ran, "some of them run, as far as they can, and some are refused"
        assert {name: lines for name, lines in ran.items() if lines != ["tried"]} == {}
    finally:
        with cluster.cri() as cri:
            for name in names:
                cluster.delete(name)
            wait_for(lambda: not any(cluster.pod(name) for name in names), "the Pods to be gone")
            for each in made:
                cri.remove_image(image={"image": each.reference})


def test_kubectl_cp_from_a_pod_writes_only_where_it_is_told_to(cluster: Cluster, victim: Path, tmp_path: Path) -> None:  # noqa: F811
    """The Pod's tar is the Pod's own, and so is what it sends."""
    members: list[Member] = [
        {"name": "tmp/x/good", "data": b"good"}, {"name": f"tmp/x/{UP}{victim}/escaped", "data": b"escaped"},
        {"name": f"{victim}/escaped", "data": b"escaped"}, {"name": "tmp/x/d", "type": LINK, "linkname": str(victim)},
        {"name": "tmp/x/d/escaped", "data": b"escaped"}, {"name": "tmp/x/h", "type": HARD, "linkname": f"{victim}/secret"},
        {"name": "tmp/x/../../../escaped", "data": b"escaped"},
    ]
    sent = {"metadata": {"name": "sent"}, "data": {"tar": base64.b64encode(layer(members).data).decode()}}
    cluster.create(sent, "configmaps")
    fake = "#!/bin/sh\\nbase64 -d /sent/tar\\n"
    script = f"rm -f $(which tar); printf '{fake}' >/bin/tar; chmod +x /bin/tar; sleep 1000"
    mounts = [{"name": "sent", "mountPath": "/sent"}]
    cluster.create(pod("sends", shell(script, volumeMounts=mounts), volumes=[{"name": "sent", "configMap": {"name": "sent"}}]))
    runs(cluster, "sends")
    target = tmp_path / "a" / "b" / "target"
    target.parent.mkdir(parents=True)
    wait_for(lambda: labkit("kubectl", "exec", "sends", "--", "tar").stdout != "", "its tar to be exchanged")
    labkit("kubectl", "cp", "default/sends:/tmp/x", str(target), check=False)
    assert (target / "good").read_text() == "good"
    outside = [path for path in tmp_path.rglob("*") if not path.is_relative_to(target) and not path.is_relative_to(victim)]
    assert sorted(outside) == [tmp_path / "a", tmp_path / "a" / "b"]


def test_a_containers_output_is_no_line_of_the_kubelets_log(cluster: Cluster) -> None:  # noqa: F811
    """Where it was one, `labkit status` told of an error that never was, or ended with one."""
    printed = "2026-01-02 03:04:05,678 ERROR x forged\\nTraceback (most\\nForged: it\\n2026-99-99 99:99:99,999 ERROR x no time\\n"
    probe = {"exec": {"command": ["sh", "-c", f"printf 'failed\\n{printed}'; exit 1"]}, "periodSeconds": 1}
    cluster.create(pod("forges", shell("sleep 1000", readinessProbe=probe)))
    wait_for(lambda: cluster.messages("forges", "Unhealthy"), "its probe to fail")
    log = (cluster.home.data / "kubelet.log").read_text()
    assert "forged" in log and not [line for line in log.splitlines() if line.startswith(("2026-99", "Traceback (most"))]
    report = json.loads(labkit("status", "--json").stdout)
    assert report["state"] == "ready" and not [words for words in report.get("unexpected", ()) if "forged" in words]


def test_probes_and_hooks_of_the_labs_own_ports_tell_nothing(cluster: Cluster) -> None:  # noqa: F811
    """The kubelet asks wherever a manifest says, from this machine: what it hears must be no more than everybody does."""
    found = [one for one in exposed.listeners(cluster.home) if one.address.startswith("127.")]
    ports = {one.program: one.address.rpartition(":")[2] for one in found}
    assert {"kubeapi", "containerd", "docker-registry"} <= ports.keys()
    asked = {f"{name}-{scheme.lower()}": (port, scheme) for name, port in ports.items() for scheme in ("HTTP", "HTTPS")}
    for name, (port, scheme) in asked.items():
        get = {"host": "127.0.0.1", "port": int(port), "scheme": scheme, "path": "/api/v1/secrets"}
        probe = {"httpGet": get, "periodSeconds": 1, "failureThreshold": 100}
        started = {"postStart": {"httpGet": get}}
        cluster.create(pod(name, shell("sleep 1000", readinessProbe=probe, lifecycle=started), restartPolicy="Never"))
    told = {}
    for name in asked:
        told[name] = wait_for(lambda name=name: cluster.messages(name, "Unhealthy"), f"{name}'s probe to fail")
        said = json.dumps(cluster.api.get(f"{cluster.path}/events"))
        for secret in (json.loads(cluster.home.kubeconfig.read_text())["users"][0]["user"]["token"], "SecretList"):
            assert secret not in said
    assert told["kubeapi-https"] == ["Readiness probe failed: HTTP probe failed with statuscode: 401"]
    assert told["containerd-http"] == ["Readiness probe failed: HTTP probe failed with statuscode: 404"]
