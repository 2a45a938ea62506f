"""One manifest, one result: by hand and by the API, for the scheduler and for the kubelet."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.apiserver.api_errors import ApiError
from labkit.apiserver.api_resources import BY_PLURAL
from labkit.apiserver.controllers.filters import world
from labkit.apiserver.controllers.placement import Assigned, place
from labkit.apiserver.objects.rest import Api, Options
from labkit.apiserver.storage.store import Store
from labkit.kubelet.core.kubelet import read_pod
from labkit.kubelet.node.admission import admit
from labkit.podspec import ManifestError, defaulted, with_defaults
from labkit.podspec.messages import MachineInfo, container_config, sandbox_config
from tests.unit.kubeapi_objects import WILD, shaped
from tests.unit.manifests import manifests

PODS = BY_PLURAL["pods"]
NODE = {"metadata": {"name": "sim-worker"}, "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "110"}}}
HERE = MachineInfo(memory_bytes=4 << 30, cpus=2, cgroup_version=2)
OF_THE_CLUSTER = {
    "pod_ip": "10.88.0.5", "host_ip": "10.88.0.1", "machine": HERE, "configmaps": {"c": {"k": "v"}}, "secrets": {"s": {"k": "v"}},
}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    api = Api(Store(tmp_path_factory.mktemp("api") / "objects.sqlite"))
    api.create(BY_PLURAL["nodes"], "", NODE)
    yield api


def pod(*containers: dict[str, Any], name: str = "web", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"containers": list(containers) or [app()], **spec}}


def app(**fields: Any) -> dict[str, Any]:
    return {"name": "app", "image": "registry.lab/busybox:1", **fields}


def stored(api: Api, manifest: dict[str, Any]) -> dict[str, Any]:
    """The object that the API would store and give to the kubelet."""
    return api.create(PODS, "default", copy.deepcopy(manifest), Options(dry_run=True, validation="Strict")).obj


def messages(pod: Any, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bytes of all messages that a kubelet would make of a Pod; a refusal in its words."""
    monkeypatch.setattr("secrets.token_hex", lambda size: "0" * 2 * size)  # the name of a termination log
    made = [sandbox_config(pod, seen="2026-01-02T03:04:05Z", machine=HERE)]
    for kind in ("initContainers", "containers"):
        for container in pod["spec"].get(kind, ()):
            try:
                made.append(container_config(pod, container["name"], image_user=None, **OF_THE_CLUSTER))
            except ValueError as error:
                made.append(error)
    return [str(one).encode() if isinstance(one, ValueError) else one.SerializeToString(deterministic=True) for one in made]


def check_both_ways(api: Api, manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        by_api = stored(api, manifest)
    except ApiError as refused:
        with pytest.raises(ManifestError) as by_hand:
            with_defaults(manifest)
        told = [f"{cause['field']}: {cause['message']}" for cause in (refused.details or {}).get("causes", ())]
        assert list(by_hand.value.problems) == told or not told
        return
    by_hand = with_defaults({**manifest, "metadata": {**manifest["metadata"], "uid": by_api["metadata"]["uid"]}})
    assert messages(by_hand, monkeypatch) == messages(read_pod(by_api), monkeypatch)


UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@settings(UNHURRIED, max_examples=50)
@given(manifest=manifests)
def test_a_manifest_gives_equal_messages_by_hand_and_by_the_api(
    api: Api, monkeypatch: pytest.MonkeyPatch, manifest: dict[str, Any]
) -> None:
    check_both_ways(api, manifest, monkeypatch)


@pytest.mark.soak
@settings(UNHURRIED, max_examples=500)
@given(manifest=manifests)
def test_five_hundred_manifests_give_equal_messages(api: Api, monkeypatch: pytest.MonkeyPatch, manifest: dict[str, Any]) -> None:
    check_both_ways(api, manifest, monkeypatch)


@pytest.mark.parametrize(
    "manifest",
    [
        pod(app(lifecycle={"preStop": {"httpGet": {"port": 80}}})),
        pod(app(image=f"i:latest@sha256:{'a' * 64}")),
        pod(app(ports=[{"containerPort": 80, "hostPort": 0}]), hostNetwork=True),
        pod(app(), initContainers=[app(name="init", ports=[{"containerPort": 80}])], hostNetwork=True),
        pod(app(terminationMessagePath="", imagePullPolicy="")),
        pod(app(resources={"limits": {"cpu": "0.5"}}), dnsPolicy="", restartPolicy=""),
        pod(app(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.serviceAccountName"}}}])),
        pod(app(env=[{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}])),
        pod(app(), resources={"limits": {"cpu": "1"}}),
        pod(app(resources={"requests": {"memory": "1Gi"}}), resources={"limits": {"cpu": "1"}}),
    ],
)
def test_small_manifests_give_equal_messages(api: Api, monkeypatch: pytest.MonkeyPatch, manifest: dict[str, Any]) -> None:
    check_both_ways(api, manifest, monkeypatch)
    by_hand, by_api = with_defaults(manifest)["spec"], read_pod(stored(api, manifest))["spec"]
    assert {key: by_api[key] for key in by_hand} == by_hand


def test_a_hook_is_annotated_as_go_writes_it() -> None:
    """Its defaults filled in, the fields in the order of Kubernetes' types, empty ones left out."""
    headers = [{"value": "v", "name": "N"}]
    hook = {"httpGet": {"httpHeaders": headers, "scheme": "HTTPS", "host": "", "port": 80}}
    config = container_config(pod(app(lifecycle={"preStop": hook})), "app", machine=HERE)
    said = config.annotations["io.kubernetes.container.preStopHandler"]
    assert said == '{"httpGet":{"path":"/","port":80,"scheme":"HTTPS","httpHeaders":[{"name":"N","value":"v"}]}}'


@pytest.mark.parametrize("amount", ["1e300", "9" * 300, "1E", "1e999"])
def test_the_largest_amounts_fit_in_a_message(amount: str) -> None:
    config = container_config(pod(app(resources={"limits": {"cpu": amount, "memory": amount}})), "app", machine=HERE)
    limits = config.linux.resources
    assert (limits.cpu_shares, limits.memory_limit_in_bytes) == (262144, 2**63 - 1 if amount != "1E" else 10**18)


def test_a_name_is_generated_for_a_pod_made_by_hand_too(api: Api) -> None:
    manifest = {**pod(), "metadata": {"generateName": "web-"}}
    for made in (with_defaults(manifest), stored(api, manifest)):
        assert made["metadata"]["name"].startswith("web-") and len(made["metadata"]["name"]) == 9


def test_what_was_checked_is_not_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = defaulted(pod())
    monkeypatch.setattr("labkit.podspec.manifest.metadata_and_spec", None)
    assert defaulted(checked) is checked and container_config(checked, "app", machine=HERE)
    with pytest.raises(TypeError):  # what a learner has in hand may have been changed
        sandbox_config(dict(checked))


@settings(UNHURRIED, max_examples=200)
@given(manifest=st.one_of(shaped("Pod"), st.fixed_dictionaries({"metadata": WILD, "spec": WILD}), WILD))
def test_whatever_is_given_is_completed_or_refused_with_what_is_wrong(manifest: Any) -> None:
    try:
        made = with_defaults(manifest)
    except ManifestError as refused:
        assert refused.problems and str(refused)
        return
    assert with_defaults(made) == made


ITSELF: dict[str, Any] = pod()
ITSELF["spec"]["itself"] = ITSELF


@pytest.mark.parametrize("manifest", [ITSELF, pod(terminationGracePeriodSeconds=10**5000), {**pod(), 1: 2}])
def test_what_is_no_manifest_at_all_is_refused_in_a_sentence(manifest: Any) -> None:
    with pytest.raises(ManifestError):
        with_defaults(manifest)


AMOUNTS = ("1e99999999", "1E-99999999", "1e999999999999999999999", f"{'9' * 5000}", f"0.{'0' * 5000}1", f"1e{'0' * 3000}1")


@pytest.mark.parametrize("amount", AMOUNTS)
def test_no_amount_takes_long(amount: str) -> None:
    """In a process of its own, which can be ended. What Kubernetes reads is capped, what it does not is refused."""
    manifest = json.dumps(pod(app(resources={"limits": {"cpu": amount, "memory": amount}})))
    program = f"""
from labkit.podspec import ManifestError, with_defaults
try:
    with_defaults({manifest})
except ManifestError as error:
    assert "limits" in str(error), error
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, cwd=Path(__file__).parents[2])


def port(number: int = 8080, **fields: Any) -> dict[str, Any]:
    return app(ports=[{"containerPort": 80, "hostPort": number, **fields}])


@pytest.mark.parametrize(
    ("first", "second", "fit"),
    [
        (port(hostIP="127.0.0.1"), port(hostIP="127.0.0.2"), True),
        (port(hostIP="127.0.0.1"), port(hostIP="127.0.0.1"), False),
        (port(hostIP="127.0.0.1"), port(), False),
        (port(hostIP="0.0.0.0"), port(hostIP="127.0.0.2"), False),
        (port(protocol="UDP"), port(), True),
        (port(), port(8081), True),
    ],
)
@pytest.mark.parametrize("sidecar", [False, True])
def test_scheduler_and_kubelet_agree_on_host_ports(first: Any, second: Any, fit: bool, sidecar: bool) -> None:
    there, new = with_defaults(pod(first, name="first", nodeName="sim-worker")), with_defaults(pod(second, name="second"))
    if sidecar:
        holder = {**first, "name": "holder", "restartPolicy": "Always"}
        there = with_defaults(pod(name="first", nodeName="sim-worker", initContainers=[holder]))
    assert isinstance(place(new, world([NODE], [there])), Assigned) is fit
    rejection = admit(new, [there], {}, NODE["status"]["allocatable"])
    assert (rejection is None) is fit
    assert fit or rejection.reason == "NodePorts"


AFFINITY = "requiredDuringSchedulingIgnoredDuringExecution"


@pytest.mark.parametrize(
    ("term", "fit"),
    [
        ({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["sim-worker"]}]}, True),
        ({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["another"]}]}, False),
        ({"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["sim-worker"]}]}, False),
        ({"matchExpressions": [{"key": "disks", "operator": "Gt", "values": ["1"]}]}, True),
        ({"matchExpressions": [{"key": "disks", "operator": "Lt", "values": ["x"]}]}, False),
        ({"matchExpressions": [{"key": "disks", "operator": "NotIn", "values": ["2"]}]}, False),
        ({}, False),
    ],
)
def test_scheduler_and_kubelet_agree_on_node_affinity(term: dict[str, Any], fit: bool) -> None:
    labels = {"disks": "2"}
    node = {**NODE, "metadata": {"name": "sim-worker", "labels": labels}}
    wanted = with_defaults(pod(affinity={"nodeAffinity": {AFFINITY: {"nodeSelectorTerms": [term]}}}))
    assert isinstance(place(wanted, world([node], [])), Assigned) is fit
    rejection = admit(wanted, [], labels, NODE["status"]["allocatable"], name="sim-worker")
    assert (rejection is None) is fit


@pytest.mark.parametrize(
    ("spec", "fit"),
    [
        ({"containers": [app(resources={"requests": {"memory": "3Gi"}})]}, True),
        ({"containers": [app(resources={"requests": {"memory": "5Gi"}})]}, False),
        ({"containers": [app(resources={"requests": {"ephemeral-storage": "1Gi"}})]}, False),
        ({"containers": [app()], "resources": {"requests": {"cpu": "3"}}}, False),
        ({"containers": [app(resources={"requests": {"cpu": "1"}})],
          "initContainers": [app(name="side", restartPolicy="Always", resources={"requests": {"cpu": "1500m"}})]}, False),
    ],
)
def test_scheduler_and_kubelet_agree_on_requests(spec: dict[str, Any], fit: bool) -> None:
    node = {**NODE, "status": {"allocatable": {**NODE["status"]["allocatable"], "ephemeral-storage": "1Mi"}}}
    wanted = with_defaults({"metadata": {"name": "web"}, "spec": spec})
    assert isinstance(place(wanted, world([node], [])), Assigned) is fit
    assert (admit(wanted, [], {}, node["status"]["allocatable"]) is None) is fit


def test_a_limit_that_is_not_set_is_the_nodes_allocatable() -> None:
    """Not its capacity (defaultPodLimitsForDownwardAPI); a limit of the whole Pod comes first."""
    machine = MachineInfo(memory_bytes=4 << 30, cpus=2, allocatable={"cpu": "1800m", "memory": "3Gi", "ephemeral-storage": "9Gi"})
    resources = ("limits.cpu", "limits.memory", "limits.ephemeral-storage", "requests.cpu")
    env = [{"name": name.replace(".", "_"), "valueFrom": {"resourceFieldRef": {"resource": name}}} for name in resources]

    def seen(**spec: Any) -> list[str]:
        config = container_config(pod(app(env=env, **spec.pop("app", {})), **spec), "app", machine=machine)
        return [one.value.decode() for one in config.envs]

    assert seen() == ["2", str(3 << 30), str(9 << 30), "0"]
    assert seen(app={"resources": {"limits": {"memory": "1Gi", "cpu": "0"}}}) == ["2", str(1 << 30), str(9 << 30), "0"]
    assert seen(resources={"limits": {"memory": "2Gi"}}) == ["2", str(2 << 30), str(9 << 30), "0"]
    (env[0]["valueFrom"]["resourceFieldRef"])["divisor"] = "1m"
    assert seen()[0] == "1800"
