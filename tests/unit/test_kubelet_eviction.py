"""Pods over a limit of their own on the node's disk, in the kubelet's words."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from labkit.kubelet.cleanup.eviction import Eviction, evict
from labkit.kubelet.core.pod_state import PodStage, PodState
from labkit.util.trees import usage
from tests.unit.kubelet_pods import attempt, container, pod, runtime

FULL = 200 * 1024


def eviction(tmp_path, layers=0):
    labels = {"io.kubernetes.container.name": "app"}
    stats = SimpleNamespace(
        attributes=SimpleNamespace(labels=labels), writable_layer=SimpleNamespace(used_bytes=SimpleNamespace(value=layers))
    )
    cri = SimpleNamespace(list_container_stats=lambda filter: SimpleNamespace(stats=[stats]))
    volumes = SimpleNamespace(place=lambda pod, volume: tmp_path / volume["name"])
    return Eviction(cri, volumes, tmp_path / "logs")


def sized(limit):
    return pod(volumes=[{"name": "v", "emptyDir": {"sizeLimit": limit}}])


def limited(limit, *others):
    mine = container(resources={"limits": {"ephemeral-storage": limit}})
    return pod(mine, *others)


@pytest.fixture
def full(tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "x").write_bytes(b"x" * FULL)
    return tmp_path


def test_a_volume_over_its_limit(full):
    assert eviction(full).why(sized("100Ki")) == 'Usage of EmptyDir volume "v" exceeds the limit "100Ki". '
    assert eviction(full).why(sized("1Mi")) == "" and usage(full / "v") >= FULL


def test_a_pod_and_a_container_over_their_limits(tmp_path):
    all_of_it = "Pod ephemeral local storage usage exceeds the total limit of containers 100Ki. "
    assert eviction(tmp_path, FULL).why(limited("100Ki")) == all_of_it
    assert eviction(tmp_path, FULL).why(limited("100Ki", container("free"))) == all_of_it  # those without a limit count too
    other = container("other", resources={"limits": {"ephemeral-storage": "300Ki"}})
    one = 'Container app exceeded its local ephemeral storage limit "100Ki". '
    assert eviction(tmp_path, FULL).why(limited("100Ki", other)) == one
    assert eviction(tmp_path, 5 * FULL).why(limited("100Ki", other)) == all_of_it.replace("100Ki", "400Ki")
    assert eviction(tmp_path, FULL).why(limited("1Mi")) == ""


def test_the_limit_of_an_init_container_is_the_pods_where_it_is_the_greatest(tmp_path):
    manifest = pod(initContainers=[container("first", resources={"limits": {"ephemeral-storage": "150Ki"}})])
    words = "Pod ephemeral local storage usage exceeds the total limit of containers 150Ki. "
    assert eviction(tmp_path, FULL).why(manifest) == words


def test_a_pod_without_limits_is_not_asked_about():
    assert Eviction(None, None, None).why(pod()) == ""


def test_a_pod_over_its_limit_is_ended_at_once_and_once(full):
    mine = PodState("u1", sized("100Ki"), runtime(attempt()), {})
    evicted = [each for _ in range(2) for each in evict([mine], eviction(full))]
    assert evicted == [(mine, 'Usage of EmptyDir volume "v" exceeds the limit "100Ki". ')]
    assert (mine.progress.killed[0], mine.progress.grace_s, mine.progress.stage) == ("Evicted", 1, PodStage.TERMINATING)
