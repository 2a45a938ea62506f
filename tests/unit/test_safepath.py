"""A name from elsewhere is one level of a path: nothing outside of the lab is touched, whatever the runtime or the API says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from labkit.cri.v1 import api_pb2 as pb
from labkit.kubelet.api import ApiClientError, segment
from labkit.kubelet.cleanup.housekeeping import Housekeeping
from labkit.kubelet.containers.configuration import Configuration
from labkit.kubelet.core.pleg import RuntimeList
from labkit.kubelet.resources.pod_cgroups import PodCgroups
from labkit.kubelet.volumes.pod_volumes import Volumes, mounts_below
from labkit.node.kinds import containerd
from labkit.node.pods import pod_files
from labkit.node.remote import pod_residue
from labkit.podspec import ManifestError, with_defaults
from labkit.podspec.messages import CreateContainerConfigError, MachineInfo, container_config
from labkit.util import trees
from labkit.util.errors import NodeError
from labkit.util.safepath import UnsafeName, below, component
from tests.unit.foreign_names import AWAY, ODD, away, names
from tests.unit.kubelet_pods import container, pod

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Quiet:
    """A runtime that has nothing to say."""

    def __getattr__(self, name: str) -> Any:
        return lambda **fields: None


@pytest.fixture
def lab(tmp_path: Path) -> Any:
    """A kubelet's housekeeping whose root, logs and cgroups lie in one directory, next to one that is somebody else's."""
    root, logs, mount = (tmp_path / "lab" / name for name in ("kubelet", "logs", "cgroup"))
    for path in (root / "pods" / "mine", logs / "default_web_mine", mount / "lab" / "kubepods" / "podmine", tmp_path / "victim"):
        path.mkdir(parents=True)
        (path / "kept").write_text("")
    for path in (mount / "lab/kubepods/podmine", mount / "lab/kubepods", mount / "lab", mount):
        (path / "kept").unlink(missing_ok=True)
    machine = MachineInfo(1 << 30, 2, cgroup_version=2)
    volumes = Volumes(root, None, None, machine, ())  # type: ignore[arg-type]
    configuration = Configuration(root, logs, "/lab", "", machine, None, volumes)  # type: ignore[arg-type]
    return Housekeeping(Quiet(), configuration, volumes, PodCgroups("/lab", machine, mount))  # type: ignore[arg-type]


def tree(base: Path) -> set[str]:
    return {str(path.relative_to(base)) for path in base.rglob("*")}


@pytest.mark.parametrize("name", AWAY)
def test_what_leads_away_is_refused_with_a_sentence(name: str) -> None:
    with pytest.raises(UnsafeName, match="cannot name a file"):
        component(name, "uid")
    with pytest.raises(UnsafeName) as refused:
        below(Path("/lab"), "good", name)
    assert str(refused.value).isascii()


@given(names)
def test_whatever_is_not_refused_lies_one_level_below(name: str) -> None:
    try:
        path = below(Path("/lab"), name)
    except UnsafeName:
        return
    assert path.parent == Path("/lab") and path.name == name


@quick
@given(names)
def test_nothing_is_removed_on_a_runtimes_word(lab: Any, tmp_path: Path, uid: str) -> None:
    """Sandboxes and containers that say of themselves whose they are: none has the mark of this kubelet."""
    before = tree(tmp_path)
    listed = RuntimeList({uid: [pb.PodSandbox(id="box")]}, {"": [pb.Container(id="c")], uid: [pb.Container(id="d")]})
    assert lab.orphans(listed, set()) == []
    lab.rotate_logs(listed)
    assert tree(tmp_path) == before


@quick
@given(away)
def test_traces_of_a_uid_that_is_none_are_not_looked_for(lab: Any, tmp_path: Path, uid: str) -> None:
    before = tree(tmp_path)
    marks = lab.configuration
    for change in (lab.remove_traces, lab.volumes.remove, lab.cgroups.remove, marks.mark, marks.forget_mark):
        with pytest.raises(UnsafeName):
            change(uid)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("uid", [name for name in ODD if name != "\udcff"])
def test_an_odd_uid_is_taken_as_it_is(lab: Any, tmp_path: Path, uid: str) -> None:
    """Neither a pattern nor an option: what is removed is the traces of this uid alone."""
    before = tree(tmp_path)
    lab.configuration.mark(uid)
    (lab.configuration.root / "pods" / uid).mkdir()
    (lab.configuration.logs / f"default_odd_{uid}").mkdir()
    assert lab.orphans(RuntimeList({uid: [], "mine": []}), set()) == [uid]
    lab.remove_traces(uid)
    lab.configuration.forget_mark(uid)
    (lab.configuration.root / "own").rmdir()
    assert tree(tmp_path) == before


@quick
@given(away)
def test_a_container_id_that_leads_away_kills_nobody(lab: Any, id: str) -> None:
    with pytest.raises(UnsafeName):
        lab.cgroups.end_left({"metadata": {"uid": "mine"}, "spec": {"containers": []}}, id)


@quick
@given(names, names, names)
def test_a_node_removes_only_what_it_can_have_made(tmp_path: Path, namespace: str, name: str, uid: str) -> None:
    metadata = SimpleNamespace(namespace=namespace, name=name, uid=uid)
    removed: list[Any] = []
    places = {"kubelet_root": tmp_path / "kubelet", "log_root": tmp_path / "logs", "socket": tmp_path / "s"}
    home: Any = SimpleNamespace(**places, cgroup_root="")
    there = ["/kubelet/pods/other", "/log/pods/default_web_other"]
    if pod_files.has_files(metadata):
        there += [f"/kubelet/pods/{uid}", f"/log/pods/{pod_files.log_directory(metadata)}"]
    listing = "".join(f"file /var/lib/labkit{path}\n" for path in there)

    def shell(argv: Sequence[str]) -> str:
        removed.extend(argv[5::2] if argv[2] == pod_residue.REMOVE else [])
        return listing if argv[2] == pod_residue.FIND else ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trees, "remove", removed.append)
        containerd.remove_files(home, {}, SimpleNamespace(metadata=metadata, id="0" * 64))
    pod_residue.remove_of_pod(shell, pod_residue.PLACES, SimpleNamespace(metadata=metadata, id="0" * 64))
    parents = {f"{tmp_path}/kubelet/pods", f"{tmp_path}/logs", "/var/lib/labkit/kubelet/pods", "/var/lib/labkit/log/pods"}
    assert pod_files.has_files(metadata) is bool(removed) and not [path for path in removed if str(path).endswith("other")]
    for path in map(str, removed):
        parent, _, last = path.rpartition("/")
        assert parent in parents and last not in ("", ".", "..")


def test_a_mount_with_an_odd_name_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not seen as a mount would be emptied with the directory that it is in."""
    line = "36 35 98:0 / {} rw shared:1 - tmpfs tmpfs rw\n"
    points = ["/lab/日本", "/lab/a\\040b", "/lab/a\x0bb\u2028c", "/else"]
    text = "".join(line.format(point) for point in points).encode()
    monkeypatch.setattr(Path, "read_bytes", lambda path: text)
    assert sorted(mounts_below(Path("/lab"))) == sorted(["/lab/日本", "/lab/a b", "/lab/a\x0bb\u2028c"])


def test_the_files_of_a_pod_made_by_hand_are_the_kubelets_and_no_volumes(tmp_path: Path) -> None:
    """A hostPath is never written to, wherever it is mounted and whatever it is called."""
    mounts = [
        {"name": "host", "mountPath": "/etc/hosts"},
        {"name": "host", "mountPath": "/dev/termination-log", "subPath": "containers/app"},
        {"name": "data", "mountPath": "/d"},
    ]
    volumes = [{"name": "host", "hostPath": {"path": "/home/a/etc-hosts"}}, {"name": "data", "emptyDir": {}}]
    manifest = pod(container(volumeMounts=mounts), volumes=volumes)
    config = container_config(manifest, "app", pod_ip="10.0.0.2", kubelet_root="/lab", machine=MachineInfo(1 << 30, 2))
    written: list[str] = []
    write = written.append
    host: Any = SimpleNamespace(write_file=lambda path, _: write(path), make_directory=lambda path, _: write(path))
    pod_files.make(manifest, config, host, hosts="")
    uid = manifest["metadata"]["uid"]
    assert written[0] == f"/lab/pods/{uid}/volumes/kubernetes.io~empty-dir/data"
    assert [path.rpartition("/")[0] for path in written[1:]] == [f"/lab/pods/{uid}/containers/app"]


@pytest.mark.parametrize("kind", ["containers", "initContainers"])
@pytest.mark.parametrize("how", ["subPath", "subPathExpr"])
def test_a_pod_made_by_hand_has_no_sub_path_that_one_of_its_containers_can_make_a_link_of(kind: str, how: str) -> None:
    """The runtime goes by paths, and follows links: a kubelet mounts what it has opened itself."""
    mounting = container("mounts", volumeMounts=[{"name": "data", "mountPath": "/d", how: "link"}])
    manifest = pod(container(), volumes=[{"name": "data", "emptyDir": {}}])
    manifest["spec"][kind] = [*manifest["spec"].get(kind, ()), mounting]
    with pytest.raises(NodeError, match="cannot mount a subPath of the emptyDir data safely"):
        pod_files.refuse_volumes(manifest)


@pytest.mark.parametrize("value", ["..", "../../victim", "/etc", "a/../../b"])
def test_a_sub_path_that_leads_out_of_its_volume_is_refused_once_its_variables_are_filled_in(value: str) -> None:
    mounts = [{"name": "data", "mountPath": "/d", "subPathExpr": "$(WHERE)"}]
    env = [{"name": "WHERE", "value": value}]
    manifest = pod(container(volumeMounts=mounts, env=env), volumes=[{"name": "data", "emptyDir": {}}])
    with pytest.raises(CreateContainerConfigError, match="SubPath"):
        container_config(manifest, "app", machine=MachineInfo(1 << 30, 2))


@quick
@given(names)
def test_a_name_in_a_url_is_one_segment_or_refused(name: str) -> None:
    try:
        written = segment(name)
    except ApiClientError as error:
        assert str(error).startswith("invalid resource name ")
        return
    assert written.isascii() and not set(written) & set("/?#% ") - {"%"} and written not in (".", "..")


@pytest.mark.parametrize("name", [*AWAY, *ODD])
def test_a_manifest_takes_no_name_that_leads_away(name: str) -> None:
    """Neither as a uid, nor for a Pod, a namespace, a container or a volume."""
    for change in (
        lambda pod: pod["metadata"].update(uid=name),
        lambda pod: pod["metadata"].update(name=name),
        lambda pod: pod["metadata"].update(namespace=name),
        lambda pod: pod["spec"]["containers"][0].update(name=name),
        lambda pod: pod["spec"].update(volumes=[{"name": name, "emptyDir": {}}]),
    ):
        manifest = pod(container(), volumes=[{"name": "data", "emptyDir": {}}])
        change(manifest)
        try:
            read = with_defaults(manifest)
        except ManifestError:
            continue
        named = [read["metadata"], *read["spec"]["containers"], *read["spec"]["volumes"]]
        for one in (read["metadata"]["uid"], read["metadata"]["namespace"], *(thing["name"] for thing in named)):
            assert component(one) == one


def test_a_node_leaves_the_files_of_a_pod_of_the_kubelets_to_the_kubelet(lab: Any) -> None:
    """Also where the Pod has the label of those made by hand, as those that `cluster.apply` makes have."""
    configuration = lab.configuration
    home: Any = SimpleNamespace(kubelet_root=configuration.root, log_root=configuration.logs, socket=Path("s"), cgroup_root="")
    sandbox = SimpleNamespace(metadata=SimpleNamespace(namespace="default", name="web", uid="mine"), id="0" * 64)
    configuration.mark("mine")
    containerd.remove_files(home, {}, sandbox)
    assert (configuration.root / "pods/mine/kept").exists() and (configuration.logs / "default_web_mine/kept").exists()
    configuration.forget_mark("mine")
    containerd.remove_files(home, {}, sandbox)
    assert not (configuration.root / "pods/mine").exists() and not (configuration.logs / "default_web_mine").exists()
