"""What a cell waits for in a cluster: a Pod that is not there is named at once, and news of one that is there ends the wait."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from labkit.node import NodeError
from labkit.node.pods import cluster as module
from labkit.node.pods.cluster import Cluster


def made(name: str, status: str = "", *warnings: str) -> Cluster:
    """A cluster with one Pod, its STATUS, and the reasons of its warnings."""
    metadata = SimpleNamespace(name=name, uid="u", resource_version="1", creation_timestamp=None)
    kube: Any = SimpleNamespace(
        list_namespaced_pod=lambda *_, **__: SimpleNamespace(items=[SimpleNamespace(metadata=metadata)]),
        list_namespaced_event=lambda *_, **__: SimpleNamespace(items=[event(reason, metadata) for reason in warnings]),
    )
    cluster = Cluster(kube, "here", lambda arguments, stdin: "", "05", "/tmp")
    table = {"columnDefinitions": [{"name": "Name"}, {"name": "Status"}], "rows": [{"cells": [name, status]}]}
    cluster._table._get = lambda **query: table  # type: ignore[method-assign]
    return cluster


def event(reason: str, metadata: Any) -> Any:
    involved = SimpleNamespace(uid="u", name=metadata.name, field_path="")
    return SimpleNamespace(
        involved_object=involved, metadata=metadata, last_timestamp=None, event_time=None, type="Warning", reason=reason,
        source=None, reporting_component="kubelet", message="why", count=1,
    )


@pytest.mark.parametrize(
    "ask", [lambda c: c.events("shop"), lambda c: c.wait_event("shop", "Failed"), lambda c: c.wait_status("shop", "Running"),
            lambda c: c.wait_outcome("shop"), lambda c: c.warnings("shop")],
)
def test_a_pod_that_is_not_there_is_not_waited_for(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits"))
    with pytest.raises(NodeError, match=r"There is no Pod shop in the namespace default\. It has web"):
        ask(made("web"))


@pytest.mark.parametrize(
    ("status", "warnings"),
    [("Running", ()), ("Pending", ("FailedScheduling",)), ("ErrImagePull", ("Failed",))],
)
def test_news_of_a_pod_ends_the_wait(status: str, warnings: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLED_S", 0.0)
    assert made("web", status, *warnings).wait_outcome("web", timeout=60) == status


def test_a_pod_without_news_is_given_up() -> None:
    with pytest.raises(NodeError, match="The Pod web is ContainerCreating after 0 s, and no event warns of it"):
        made("web", "ContainerCreating").wait_outcome("web", timeout=0.2)
