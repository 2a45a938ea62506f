"""Of each fault of the incident: which repairs hold, in several forms, and which lazy changes are refused, each in its own words.
The cluster is on paper; tests/live/test_incident.py makes each fault for real."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import SimpleNamespace as Thing
from typing import Any
from unittest.mock import MagicMock

import pytest

from labkit.course.incident import image_faults, node_faults, pod_faults, repair
from labkit.course.incident.fault import FAULTS, FIRST, NEXT, POD, Scene, user_pod
from labkit.podspec.defaults import fill_pod

Spec = dict[str, Any]
Change = Callable[["PaperScene"], object]
READY = {"conditions": [{"type": "Ready", "status": "True"}]}
TOKEN = {"name": "kube-api-access-x1", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": True}


class PaperScene(Scene):
    """A cluster on paper, in which every Pod that is there is ready. `asks`: whether a Pod is ready by what its probe asks."""

    def __init__(self) -> None:
        cluster = MagicMock(node="sim-worker")
        cluster.capacity.return_value = [Thing(name="cpu", free=1800)]
        images = {"busybox": "registry.lab/busybox:1", "private": "private.registry.lab/busybox:1"}
        super().__init__(MagicMock(cluster=cluster, images=images))
        self.pods: dict[str, Any] = {}
        self.maps: dict[str, dict[str, str]] = {}
        self.deaf_is_ready = False

    def apply(self, *manifests: Mapping[str, Any]) -> None:
        for manifest in manifests:
            if manifest["kind"] == "ConfigMap":
                self.maps[manifest["metadata"]["name"]] = manifest["data"]
            elif manifest["kind"] == "Pod":
                self.pods[manifest["metadata"]["name"]] = as_a_cluster_has_it(manifest)

    def pod(self, name: str = POD) -> dict[str, Any] | None:
        return self.pods.get(name)

    def data(self, name: str) -> dict[str, str]:
        return self.maps.get(name, {})

    def wait_ready(self, *_: Any, **__: Any) -> bool:
        return True

    def start_again(self, name: str = POD) -> None:
        pass

    def tried(self, manifest: dict[str, Any], unless: Any) -> bool:
        """A Pod that listens nowhere, or one that is as the user's."""
        return self.deaf_is_ready if manifest["spec"]["containers"][0]["command"][0] == "sleep" else True


def as_a_cluster_has_it(manifest: Mapping[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = json.loads(json.dumps(manifest))
    fill_pod(pod)
    pod["metadata"]["uid"] = f"uid of {len(json.dumps(pod))}"
    pod["spec"] |= {"nodeName": "sim-worker", "serviceAccountName": "default", "priority": 0, "tolerations": [{"key": "x"}]}
    pod["spec"].setdefault("volumes", []).append({"name": TOKEN["name"], "projected": {"sources": []}})
    for container in pod["spec"]["containers"]:
        container.setdefault("volumeMounts", []).append(TOKEN)
    return {**pod, "status": READY}


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> PaperScene:
    def start(scene: Scene, manifest: dict[str, Any], **_: Any) -> None:
        scene.kept["manifest"] = manifest
        scene.apply(manifest)
        scene.note_uid(POD)

    for module in (image_faults, node_faults, pod_faults):
        monkeypatch.setattr(module, "start", start)
    return PaperScene()


def made(scene: PaperScene, name: str, monkeypatch: pytest.MonkeyPatch) -> PaperScene:
    for module, function in ((pod_faults, "write_pids"), (node_faults, "signal_shims"), (node_faults, "working_directories"),
                             (image_faults.registry, "store"), (image_faults.confined, "account")):
        monkeypatch.setattr(module, function, lambda *_: "")
    monkeypatch.setattr(image_faults, "foreign", lambda scene: ("registry.lab/busybox:3", "", {}))
    for module in (pod_faults, node_faults):  # of a Pod that was ready and is not any more
        monkeypatch.setattr(module, "is_ready", lambda pod: False)
    if isinstance(FAULTS[name], node_faults.ConfigurationFault):
        scene.kept["manifest"] = user_pod(scene)
        scene.apply(scene.kept["manifest"])
        scene.neighbour({**user_pod(scene), "metadata": {"name": FIRST}})
    else:
        FAULTS[name].make(scene)
    return scene


# What a learner may do


def again(change: Callable[[Spec], object], name: str = POD) -> Change:
    """Make a Pod again of its manifest, with a change."""

    def do(scene: PaperScene) -> None:
        manifest = scene.manifest(name)
        change(manifest["spec"])
        scene.apply(manifest)

    return do


def web(change: Callable[[Spec], object], name: str = POD) -> Change:
    return again(lambda spec: change(spec["containers"][0]), name)


def both(*changes: Change) -> Change:
    return lambda scene: [change(scene) for change in changes]


def settings(**data: str) -> Change:
    return lambda scene: scene.apply(pod_faults.settings(**data))


def gone(name: str) -> Change:
    return lambda scene: scene.pods.pop(name)


def limits(**amounts: str) -> Change:
    return web(lambda web: web.update(resources={"limits": amounts} if amounts else {}))


def requested(amount: str, name: str) -> Change:
    return web(lambda web: web["resources"]["requests"].update(cpu=amount), name)


def probe(**made: Any) -> Change:
    return web(lambda web: web.update(readinessProbe=made))


def deaf(scene: PaperScene) -> None:
    scene.deaf_is_ready = True


def nothing(scene: PaperScene) -> None:
    """What is not the cluster's: a file of the node, a process, a Secret."""


def volume(change: Callable[[Spec], object]) -> Change:
    return again(lambda spec: change(spec["volumes"][0]))


def image(name: str) -> Change:
    return web(lambda web: web.update(image=name))


def env(*variables: Spec) -> Change:
    return web(lambda web: web.update(env=[*variables]))


def reference(**fields: Any) -> Change:
    return web(lambda web: web["env"][0]["valueFrom"]["configMapKeyRef"].update(fields))


def pod_spec(**fields: Any) -> Change:
    return again(lambda spec: spec.update(fields))


def without(field: str) -> Change:
    return web(lambda web: web.pop(field))


BUSYBOX, HTTP = "registry.lab/busybox:1", {"name": "http", "containerPort": 80}
OTHER_PROGRAM = ("another program", web(lambda web: web.update(command=["sleep", "1"])), "spec.containers[web].command is")
OTHER_IMAGE = ("another image", image("registry.lab/pause:1"), "image (repository) is registry.lab/pause")
GONE = ("no Pod", gone(POD), "There is no Pod orders: the user needs it")
HOST = ("the node's network", pod_spec(hostNetwork=True), "spec.hostNetwork is true")
PROBELESS = ("no probe", without("readinessProbe"), "spec.containers[web].readinessProbe")
OF_THE_NODE = [name for name in FAULTS if FAULTS[name].another_pod]

RIGHT: dict[str, list[Change]] = {
    "image-tag": [image(BUSYBOX), image(f"registry.lab/busybox@sha256:{'a' * 64}"), nothing],
    "image-platform": [image(BUSYBOX), nothing],
    "image-login": [nothing, pod_spec(imagePullSecrets=[{"name": "mine"}])],
    "volume-key": [
        settings(**{"prices.conf": "apple=1"}), settings(**{"prices.conf": "apple=1\n", "prices.cfg": "apple=1"}),
        volume(lambda made: made["configMap"]["items"][0].update(key="prices.cfg")),
    ],
    "variable-key": [settings(currency="EUR"), settings(currency="EUR", curency="EUR"), reference(key="curency")],
    "requests": [requested("100m", pod_faults.NIGHTLY), requested("1m", pod_faults.NIGHTLY)],
    "memory-limit": [limits(memory="96Mi"), limits(), web(lambda web: web["resources"].update(requests={"memory": "64Mi"}))],
    "cpu-limit": [limits(cpu="500m"), limits(), web(lambda web: web["resources"].update(requests={"cpu": "5m"}))],
    "probe": [
        probe(tcpSocket={"port": 80}, periodSeconds=1), probe(httpGet={"port": 80}), probe(httpGet={"path": "/", "port": 80}),
        probe(exec={"command": ["wget", "-q", "-O-", "127.0.0.1"]}),
        web(lambda web: web.update(ports=[HTTP], readinessProbe={"tcpSocket": {"port": "http"}})),
    ],
    "volume-full": [volume(lambda made: made["emptyDir"].update(sizeLimit="8Mi")), volume(lambda made: made.update(emptyDir={}))],
    **{name: [nothing, pod_spec()] for name in ("pids", "shim-stopped", *OF_THE_NODE)},
}
WRONG: dict[str, list[tuple[str, Change, str]]] = {
    "image-tag": [OTHER_IMAGE, OTHER_PROGRAM, GONE,
                  ("never pulled", web(lambda web: web.update(imagePullPolicy="Never")), "imagePullPolicy is Never")],
    "image-platform": [OTHER_IMAGE, OTHER_PROGRAM, HOST],
    "image-login": [
        ("the public image", image(BUSYBOX), "(repository) is registry.lab/busybox, and private.registry.lab/busybox in the"),
        ("not pulled", web(lambda web: web.update(imagePullPolicy="IfNotPresent")), "is IfNotPresent, and Always in the"),
        OTHER_PROGRAM, GONE,
    ],
    "volume-key": [
        ("optional", volume(lambda made: made["configMap"].update(optional=True)), "configMap.optional is true, and not set"),
        ("no volume", both(without("volumeMounts"), again(lambda spec: spec.pop("volumes"))), "spec.volumes["),
        ("an empty file", settings(**{"prices.conf": "x"}), "The file prices.conf does not have the value"),
        ("all keys", volume(lambda made: made["configMap"].pop("items")), "items[0].path is not set"),
        ("a directory", pod_spec(volumes=[{"name": "settings", "hostPath": {"path": "/x"}}]), "hostPath.path is /x"),
    ],
    "variable-key": [
        ("optional", reference(optional=True), "configMapKeyRef.optional is true, and not set in the manifest"),
        ("in the manifest", env({"name": "CURRENCY", "value": "EUR"}), "env[CURRENCY].value is EUR, and not set"),
        ("no variable", without("env"), "spec.containers[web].env[CURRENCY].name is not set"),
        ("another value", settings(currency="x"), "The variable CURRENCY does not have the value"),
    ],
    "requests": [
        ("the neighbour deleted", gone(pod_faults.NIGHTLY), "There is no Pod nightly-report: it is another user's"),
        ("nothing requested", without("resources"), "spec.containers[web].resources.requests.cpu is not set"),
        ("less requested", requested("10m", POD), "requests.cpu is 10m, and 100m in the manifest"),
        ("nothing kept", web(lambda web: web.pop("resources"), pod_faults.NIGHTLY), "requests no CPU at all"),
        ("another neighbour", web(lambda web: web.update(command=["true"]), pod_faults.NIGHTLY), "the other user's"),
        ("preempts", pod_spec(priorityClassName="system-node-critical"), "spec.priorityClassName is system-node-critical"),
    ],
    "memory-limit": [OTHER_PROGRAM, PROBELESS, ("another node", pod_spec(nodeSelector={"a": "b"}), "spec.nodeSelector.a is b")],
    "cpu-limit": [
        PROBELESS, OTHER_PROGRAM,
        ("a patient probe", web(lambda web: web["readinessProbe"].update(timeoutSeconds=60)), "timeoutSeconds is 60"),
        ("a lazy probe", web(lambda web: web["readinessProbe"].update(exec={"command": ["true"]})), "exec.command is"),
    ],
    "probe": [
        ("no probe", without("readinessProbe"), "has no readiness probe any more"), OTHER_PROGRAM,
        ("a probe of nothing", both(probe(exec={"command": ["true"]}), deaf), "so would be one that listens nowhere"),
        ("another listens", again(lambda spec: spec["containers"].append({"name": "b", "image": BUSYBOX})), "containers[b].name"),
    ],
    "volume-full": [
        PROBELESS, ("nothing is archived", again(lambda spec: spec.pop("initContainers")), "spec.initContainers[archive].name"),
        ("less is archived", again(lambda spec: spec["initContainers"][0].update(command=["true"])), "[archive].command is"),
    ],
    "pids": [PROBELESS, OTHER_PROGRAM, GONE],
    "shim-stopped": [PROBELESS, OTHER_PROGRAM, GONE],
    **{name: [HOST, OTHER_PROGRAM, OTHER_IMAGE] for name in OF_THE_NODE},
}
for _name in OF_THE_NODE:
    WRONG[_name].append(("no neighbour", gone(FIRST), "There is no Pod first-come: it is another user's"))


def test_every_fault_has_rows() -> None:
    assert RIGHT.keys() == WRONG.keys() == FAULTS.keys() and all(len(rows) >= 3 for rows in WRONG.values())


@pytest.mark.parametrize(("name", "number"), [(name, number) for name in sorted(RIGHT) for number in range(len(RIGHT[name]))])
def test_a_right_repair_holds_in_each_form(scene: PaperScene, name: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    RIGHT[name][number](made(scene, name, monkeypatch))
    assert repair.trouble(scene, FAULTS[name]) == ""


@pytest.mark.parametrize("name", sorted(WRONG))
def test_a_lazy_change_is_refused_in_its_own_words(name: str, monkeypatch: pytest.MonkeyPatch, request: Any) -> None:
    heard = []
    for what, change, words in WRONG[name]:
        scene = request.getfixturevalue("scene") if not heard else PaperScene()
        change(made(scene, name, monkeypatch))
        heard.append(repair.trouble(scene, FAULTS[name]))
        assert words in heard[-1], (what, heard[-1])
    assert len(set(heard)) == len(heard)


def test_what_a_repair_may_change_is_told_after_the_cause_was_found(scene: PaperScene, monkeypatch: pytest.MonkeyPatch) -> None:
    OTHER_PROGRAM[1](made(scene, "probe", monkeypatch))
    fields = "Of this manifest a repair may change only spec.containers[web].readinessProbe and spec.containers[web].ports."
    assert fields in repair.trouble(scene, FAULTS["probe"], cause_found=True)
    assert "may change" not in repair.trouble(scene, FAULTS["probe"])


def test_an_image_of_the_users_own_name_has_to_be_in_the_registry(scene: PaperScene, monkeypatch: pytest.MonkeyPatch) -> None:
    repair.trouble(made(scene, "image-tag", monkeypatch), FAULTS["image-tag"])
    assert scene.node.cri.remove_image.call_args.kwargs["image"] == {"image": "registry.lab/busybox:2"}  # type: ignore[attr-defined]


def test_the_trial_of_a_probe_takes_the_users_probe_and_no_program_that_listens(
    scene: PaperScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Any] = []
    monkeypatch.setattr(scene, "tried", lambda manifest, unless: tried.append(manifest))
    probe(httpGet={"port": 80})(made(scene, "probe", monkeypatch))
    repair.trouble(scene, FAULTS["probe"])
    [container] = tried[0]["spec"]["containers"]
    assert container["command"][0] == "sleep" and container["readinessProbe"]["httpGet"]["port"] == 80
    assert tried[0]["metadata"]["name"] != NEXT  # `Scene.tried` names it


def test_a_pod_that_is_starting_is_waited_for_and_one_that_nobody_touched_is_not(
    scene: PaperScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[str] = []

    def wait_ready(name: str = POD, **_: Any) -> bool:
        waited.append(name)
        scene.pods[name]["status"] = READY
        return True

    monkeypatch.setattr(scene, "wait_ready", wait_ready)
    made(scene, "probe", monkeypatch)
    scene.pods[POD]["status"] = {}
    assert "check again when it is ready" in repair.trouble(scene, FAULTS["probe"]) and waited == []
    probe(tcpSocket={"port": 80})(scene)
    scene.pods[POD]["status"] = {}
    assert repair.trouble(scene, FAULTS["probe"]) == "" and waited[0] == POD


def test_a_check_says_what_it_waits_for(scene: PaperScene, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    repair.trouble(made(scene, "disk-full", monkeypatch), FAULTS["disk-full"], show=lines.append)
    assert lines == ["looking at the Pod orders", "restarting the container runtime", "starting the Pod orders again",
                     "starting one more Pod"]


def test_only_failures_since_the_check_began_end_its_wait(scene: PaperScene, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([5, 6, 9])
    scene.node.cluster.warnings = lambda name: [Thing(reason="Failed", count=next(counts)), Thing(reason="Unhealthy", count=9)]
    asked: list[bool] = []
    monkeypatch.setattr(scene, "wait_ready", lambda name, unless, within_s: asked.extend([unless(), unless()]) or False)
    assert not repair.starts(scene, POD) and asked == [False, True]


def test_a_manifest_is_compared_field_by_field_whatever_the_order() -> None:
    def pod(**spec: Any) -> dict[str, Any]:
        return {"metadata": {"name": "x"}, "spec": {"containers": [{"name": "a", "image": "r:5000/b:1"}], **spec}}

    one, two = {"name": "b", "image": "c"}, {"name": "a", "image": "r:5000/b:1"}
    assert repair.difference(pod(containers=[one, two]), pod(containers=[two, one])) == ""
    other = [{"name": "a", "image": "r:5000/b:2"}]
    assert "spec.containers[a].image (tag) is 2" in repair.difference(pod(containers=other), pod())
    assert repair.difference(pod(hostPID=True), pod()) == "spec.hostPID is true, and not set in the manifest"
    assert repair.difference(pod(nodeName="n"), pod()) == repair.difference(pod(terminationGracePeriodSeconds=30), pod()) == ""
