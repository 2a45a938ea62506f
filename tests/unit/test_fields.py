"""Each field of a Pod that the API serves is acted upon, refused, or answered with a warning: none is ignored silently."""

from __future__ import annotations

import contextlib
import copy
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings

from labkit.apiserver.admission import ignored
from labkit.apiserver.api_errors import ApiError
from labkit.apiserver.api_resources import BY_PLURAL
from labkit.apiserver.controllers.filters import world
from labkit.apiserver.controllers.placement import place
from labkit.apiserver.controllers.pod_claims import own_claims
from labkit.apiserver.controllers.scheduler import Scheduler, waits
from labkit.apiserver.controllers.taints import lasting
from labkit.apiserver.objects.rest import Api, Options
from labkit.apiserver.storage.store import Store
from labkit.cri import CriError
from labkit.kubelet.backoff import Backoff
from labkit.kubelet.cleanup.eviction import Eviction
from labkit.kubelet.containers import hooks
from labkit.kubelet.containers.configuration import Configuration
from labkit.kubelet.containers.hooks import HookError, HookFailed
from labkit.kubelet.containers.images import ImageManager, StartError
from labkit.kubelet.containers.probes import Probe, Prober, Probing
from labkit.kubelet.containers.pull_secrets import Pulled, pull_secrets
from labkit.kubelet.core.actions import compute_actions
from labkit.kubelet.core.pod_state import PodState
from labkit.kubelet.node.admission import admit
from labkit.kubelet.pod.pod_runtime import EXITED, Probed
from labkit.kubelet.pod.statuses import pod_status
from labkit.kubelet.volumes import pod_volumes
from labkit.kubelet.volumes.hostpaths import Fence
from labkit.kubelet.volumes.pod_volumes import MountError, Volumes
from labkit.podspec import DefaultedPod, schema
from labkit.podspec.messages import MachineInfo, container_config, sandbox_config
from labkit.podspec.messages.hosts import hosts_file
from tests.unit.fields import CHECKED, EXAMPLES, REFUSED
from tests.unit.kubeapi_objects import container, pod, shaped
from tests.unit.kubelet_pods import BOX, attempt, facts, runtime

PODS = BY_PLURAL["pods"]
NODES = [
    {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "zone": zone}},
        "spec": {"taints": [{"key": "k", "value": "v", "effect": "NoExecute"}]},
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "110", "ephemeral-storage": "1Gi"}},
    }
    for name, zone in (("sim-worker", "a"), ("other", "b"))
]
HERE = MachineInfo(memory_bytes=4 << 30, cpus=2, cgroup_version=2, hugepage_sizes=("2MB",))
WHOLE = {"SELinuxOptions"}
"""Handed to the runtime as a whole."""
COPIED = {"PersistentVolumeClaimTemplate"}
"""Becomes an object of its own, whose fields are no Pod's."""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    made = Api(Store(tmp_path_factory.mktemp("api") / "objects.sqlite"))
    made.create(BY_PLURAL["nodes"], "", NODES[0])
    yield made


def answer(api: Api, manifest: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The stored Pod and the warnings. Raises ApiError."""
    options = Options(dry_run=True, validation="Strict")
    return api.create(PODS, "default", copy.deepcopy(dict(manifest)), options).obj, options.warnings


class Watched(DefaultedPod):
    """An object of a kind that notes which of its fields somebody asks for."""

    kind: str
    read: set[tuple[str, str]]

    def __getitem__(self, name: str) -> Any:
        self.read.add((self.kind, name))
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.read.add((self.kind, name))
        return super().get(name, default)


def watched(kind: str, value: Mapping[str, Any], read: set[tuple[str, str]]) -> Watched:
    made = Watched()
    made.kind, made.read = kind.rpartition(".")[2], read
    fields = schema.fields(kind)
    for name, inner in value.items():
        field = fields.get(name)
        items = field.items if field is not None else None
        if field is not None and field.type == "object" and isinstance(inner, dict):
            inner = watched(field.ref, inner, read)
        elif items is not None and items.type == "object" and isinstance(inner, list):
            inner = [watched(items.ref, item, read) for item in inner]
        made[name] = inner
    return made


def given_fields(kind: str, value: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    """(kind, field, path) for each field that is set."""
    for name, inner in value.items():
        field, at = schema.fields(kind)[name], f"{path}.{name}"
        yield kind.rpartition(".")[2], name, at
        if field.type == "object":
            yield from given_fields(field.ref, inner, at)
        elif field.items is not None and field.items.type == "object" and field.type == "array":
            for number, item in enumerate(inner):
                yield from given_fields(field.items.ref, item, f"{at}[{number}]")


class Runtime:
    """A runtime that has no images and runs no commands."""

    def image_status(self, **asked: Any) -> Any:
        return SimpleNamespace(image=SimpleNamespace(id=""))

    def pull_image(self, **asked: Any) -> Any:
        raise CriError("PullImage", "NOT_FOUND", str(asked["image"]), "")

    def exec_sync(self, **asked: Any) -> Any:
        raise CriError("ExecSync", "NOT_FOUND", str(asked), "")

    def list_container_stats(self, **asked: Any) -> Any:
        return SimpleNamespace(stats=[])


def results(pod: DefaultedPod, root: Path) -> Iterator[Callable[[], Any]]:
    """Everything that scheduler and kubelet do for a Pod, without a machine."""
    spec, meta = pod["spec"], pod["metadata"]
    containers = [*spec.get("initContainers", ()), *spec["containers"]]
    cri: Any = Runtime()
    yield lambda: sandbox_config(pod, seen="then", machine=HERE, dns={"servers": ["10.0.0.10"]})
    maps = {"configmaps": {"c": {"k": "v"}}, "secrets": {"s": {"k": "v"}}, "volume_paths": {"claim": "/c"}}
    for each in containers:
        yield lambda each=each: container_config(pod, each["name"], pod_ip="10.0.0.5", host_ip="10.0.0.1", machine=HERE, **maps)
    yield lambda: hosts_file(pod, ["10.0.0.5"], str)
    for found in (
        runtime(boxes=()),
        runtime(),
        runtime(*(attempt(c["name"], state=EXITED, code=3) for c in containers)),
        runtime(*(attempt(c["name"]) for c in containers), boxes=(BOX,)),
    ):
        yield lambda found=found: compute_actions(pod, found, Probed())
        yield lambda found=found: pod_status(pod, found, facts())
    yield lambda: admit(
        pod, [], {}, NODES[0]["status"]["allocatable"], taints=NODES[0]["spec"]["taints"], apparmor=False, strict_groups=False
    )
    other = {**pod, "metadata": {**meta, "name": "other", "uid": "u2"}, "spec": {**spec, "nodeName": "other"}}
    claims = [
        {
            "metadata": {"name": "p", "namespace": "default"},
            "spec": {"volumeName": "v", "accessModes": ["ReadWriteOncePod"]},
            "status": {"phase": "Bound"},
        }
    ]
    persistent = [{"metadata": {"name": "v"}, "spec": {}}]
    namespaces = [{"metadata": {"name": "default", "labels": {"team": "x"}}}]
    for pods in ([], [other]):
        yield lambda pods=pods: place(pod, world(NODES, pods, claims, persistent, namespaces))
    told: list[Any] = []
    scheduler: Any = SimpleNamespace(tell=lambda pod, *said: told.append(said))
    yield lambda: (Scheduler.schedule(scheduler, pod, world([], []), 0.0), told)
    yield lambda: waits(pod)
    yield lambda: list(own_claims(pod))
    yield lambda: lasting(pod, NODES[0]["spec"]["taints"])
    state = PodState("u1", pod, runtime(attempt()), {"startTime": "2026-01-01T00:00:00Z"})
    yield lambda: state.grace_s()
    yield lambda: bool(state.deadline_left_s())
    asked: list[Any] = []
    reader: Any = SimpleNamespace(get=bound_claim, post=lambda *said: {})
    for data in (None, {}, {"k": b"v"}):
        objects: Any = SimpleNamespace(data=lambda *of, data=data: asked.append(of) or data, read=lambda *of: None)
        setting_up = Volumes(root, objects, reader, HERE, (root / "host",))
        for volume in spec.get("volumes", ()):
            yield lambda volume=volume, each=setting_up: (
                each.set_up(pod, volume),
                each.place(pod, volume),
                each.source(pod, volume),
            )
    yield lambda: (asked, sorted((re.sub(r"/\.\.20[^/]*", "/..at", str(path)), path.stat().st_mode) for path in root.rglob("*")))
    configuration = Configuration(root, root, "/lab", "10.0.0.1", HERE, objects, setting_up)
    yield lambda: configuration.sandbox(pod, 0, "then")
    yield lambda: Eviction(cri, setting_up, root).why(pod)
    recorder: Any = SimpleNamespace(pod_event=lambda pod, *said: asked.append(said))
    yield lambda: pull_secrets(objects, recorder, pod)
    images = ImageManager(cri, Backoff(1, 2), Pulled(root / "none"))
    for each in containers:
        yield lambda each=each: images.ensure("u1", each, None, (), lambda *said: asked.append(said))
        for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
            if kind in each:
                yield from probing(pod, each, kind, cri)
        for hook in ("postStart", "preStop"):
            if hook in each.get("lifecycle", {}):
                yield lambda each=each, hook=hook: hooks.run_hook(cri, pod, each, "id", each["lifecycle"][hook], "127.0.0.1", 1)
    ensured: Any = SimpleNamespace(ensure=lambda uid, wanted, *more: asked.append(wanted))
    yield lambda: [ImageManager.ensure_volumes(ensured, pod, each, None, (), recorder.pod_event) for each in containers]


def bound_claim(path: str) -> dict[str, Any]:
    """A claim that is bound to a local volume, and that volume."""
    if "claims" in path:
        return {"metadata": {"uid": "c1"}, "spec": {"volumeName": "v"}, "status": {"phase": "Bound"}}
    return {"metadata": {"uid": "v1"}, "spec": {"claimRef": {"uid": "c1"}, "local": {"path": "/dev"}}}


def probing(pod: DefaultedPod, container: Mapping[str, Any], kind: str, cri: Any) -> Iterator[Callable[[], Any]]:
    spec = container[kind]
    probe = Probe("u1", container, kind.removesuffix("Probe"), spec, "")
    yield lambda: (probe.period, probe.count(True), probe.count(False))
    yield lambda: PodState("u1", pod, runtime(), {}).grace_s(spec.get("terminationGracePeriodSeconds"))
    prober: Any = SimpleNamespace(cri=cri)
    yield lambda: Prober._handler(prober, probe, Probing(pod, runtime(attempt()), "127.0.0.1"), "id")
    started = runtime(attempt(container["name"]))
    waiting: Any = SimpleNamespace(
        look=lambda uid: Probing(pod, started, ""), _results={"startup": {}, "liveness": {}, "readiness": {}}
    )
    yield lambda: (Prober._probe(waiting, probe, 0.0), None)[1]  # how long to wait depends on the time


def outcome(pod: DefaultedPod, root: Path) -> list[str]:
    """What comes of a Pod, in words."""
    made = []
    shutil.rmtree(root, ignore_errors=True)
    for result in results(pod, root):
        try:
            found = result()
            made.append(str(found.SerializeToString(deterministic=True) if isinstance(found, Message) else found))
        except (CriError, MountError, OSError, StartError, ValueError, KeyError, AttributeError, HookFailed, HookError) as error:
            made.append(f"{type(error).__name__}: {error}")
    return made


@pytest.fixture
def machineless(monkeypatch: pytest.MonkeyPatch) -> None:
    done = SimpleNamespace(returncode=0, stdout="", stderr="")
    monkeypatch.setattr(subprocess, "run", lambda command, **how: done)
    monkeypatch.setattr("os.chown", lambda *given, **how: None)
    monkeypatch.setattr(pod_volumes, "mounts_below", lambda directory: [])
    monkeypatch.setattr(pod_volumes.inside, "mount", lambda found, place, **how: place.mkdir(parents=True))
    monkeypatch.setattr(Fence, "opened", opened)
    monkeypatch.setattr("secrets.token_hex", lambda size: "0" * 2 * size)
    monkeypatch.setattr(hooks, "time", SimpleNamespace(sleep=lambda seconds: None, monotonic=time.monotonic))
    monkeypatch.setattr(hooks.grpc, "channel_ready_future", unreachable)


@contextlib.contextmanager
def opened(fence: Fence, path: Path, wanted: str = "", kind: str = "hostPath") -> Iterator[tuple[int, bool]]:
    if not path.exists():
        raise ValueError(f"{kind} {path} of type {wanted}")
    yield 0, False


def unreachable(channel: Any) -> Any:
    raise HookFailed("nobody answers")


def test_each_field_is_acted_upon_or_refused_or_answered_with_a_warning(api: Api, tmp_path: Path, machineless: None) -> None:
    seen: set[tuple[str, str]] = set()
    acted: set[tuple[str, str]] = {*CHECKED}
    unread: dict[tuple[str, str], str] = {}
    for example in EXAMPLES:
        stored, warnings = answer(api, example)
        warned = [warning.partition(": ")[0] for warning in warnings]
        whole = outcome(watched("Pod", stored, acted), tmp_path / "kubelet")
        assert outcome(DefaultedPod(stored), tmp_path / "kubelet") == whole
        for kind, name, path in given_fields("PodSpec", example["spec"], "spec"):
            seen.add((kind, name))
            if any(path == each or path.startswith((f"{each}.", f"{each}[")) for each in warned):
                assert path not in warned or name in ignored.IGNORED.get(kind, {}), path
            elif (kind, name) not in acted and kind not in WHOLE:
                if outcome(DefaultedPod(without(stored, path)), tmp_path / "kubelet") == whole:
                    unread[kind, name] = path
                else:
                    acted.add((kind, name))
    assert {each: path for each, path in unread.items() if each not in acted} == {}
    assert {f"{kind}.{name}" for kind, name in reachable("PodSpec", set()) - seen} == set()


def without(pod: Mapping[str, Any], path: str) -> dict[str, Any]:
    """A copy of a Pod that lacks the field at a path such as spec.containers[0].image."""
    made: Any = copy.deepcopy(dict(pod))
    *steps, last = path.replace("[", ".[").split(".")
    holder = made
    for step in steps:
        holder = holder[int(step[1:-1])] if step.startswith("[") else holder[step]
    del holder[last]
    return dict(made)


def reachable(kind: str, known: set[str]) -> set[tuple[str, str]]:
    """Each field of a kind and of what is in it, but for what is below a field that is refused or warned of."""
    short = kind.rpartition(".")[2]
    if short in known or short in COPIED:
        return set()
    known.add(short)
    found: set[tuple[str, str]] = set()
    for name, field in schema.fields(kind).items():
        if (short, name) in REFUSED:
            continue
        found.add((short, name))
        inner = field if field.type == "object" else field.items
        if name not in ignored.IGNORED.get(short, {}) and inner is not None and inner.type == "object":
            found |= reachable(inner.ref, known)
    return found


@pytest.mark.parametrize(("kind", "name"), sorted({**REFUSED, **CHECKED}))
def test_what_nobody_can_act_upon_is_refused(api: Api, kind: str, name: str) -> None:
    spec, words = {**REFUSED, **CHECKED}[kind, name]
    with pytest.raises(ApiError) as refused:
        answer(api, pod(**spec))
    assert words in refused.value.message


def test_every_field_of_the_table_exists() -> None:
    assert all(name in schema.fields(kind) for kind, names in ignored.IGNORED.items() for name in names)
    assert all(name in ignored.IGNORED[kind] for kind, name in ignored.UNLESS)
    quiet = pod(container(livenessProbe={"grpc": {"port": 1, "mode": "Plaintext"}}), automountServiceAccountToken=False)
    assert list(ignored.of_pod(quiet)) == []


def test_any_pod_is_answered_and_nothing_in_it_is_ignored_silently(api: Api, request: pytest.FixtureRequest) -> None:
    known = {(kind, name) for kind, name in reachable("PodSpec", set())} | set(REFUSED)

    @settings(
        max_examples=500 if request.config.getoption("--soak") else 25,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(shaped("PodSpec", 5))
    def one(spec: dict[str, Any]) -> None:
        manifest = {"metadata": {"name": "web", "namespace": "default"}, "spec": spec}
        try:
            stored, warnings = answer(api, manifest)
        except ApiError as refused:
            assert refused.message and refused.code in (400, 403, 422)
            return
        warned = [warning.partition(": ")[0] for warning in warnings]
        for kind, name, path in given_fields("PodSpec", stored["spec"], "spec"):
            below = any(path == each or path.startswith((f"{each}.", f"{each}[")) for each in warned)
            assert below or (kind, name) in known or kind in ("LabelSelector", "ObjectMeta"), path

    one()
