"""Any Pod of the served schema runs, is refused, or says why not: by a warning of the API, an event, or a condition."""

from __future__ import annotations

import copy
import http.client
import itertools
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.kubelet.api import read_kubeconfig
from labkit.node import Home
from tests.live.cluster import Cluster, wait_for
from tests.unit.fields import EXAMPLES

NEEDED = ("name", "image", "containers")
NUMBERS = itertools.count()


@pytest.fixture
def cluster(lab: None) -> Iterator[Cluster]:
    """The session's lab; its Pods are gone afterwards."""
    here = Cluster.of(Home.find())
    yield here
    wait_for(lambda: not here.api.get(f"{here.path}/pods")["items"], "every Pod to be gone")


@st.composite
def some_of(draw: st.DrawFn, value: Any) -> Any:
    """A value with some of its optional fields left out."""
    if isinstance(value, dict):
        kept = [name for name in value if name in NEEDED or draw(st.integers(0, 3))]
        return {name: draw(some_of(value[name])) for name in kept}
    return [draw(some_of(item)) for item in value] if isinstance(value, list) else value


def create(cluster: Cluster, manifest: dict[str, Any]) -> tuple[int, list[str]]:
    """HTTP's code, and the warnings."""
    server, headers, context = read_kubeconfig(cluster.home.run / "kubeconfig")
    connection = http.client.HTTPSConnection(urlsplit(server).netloc, context=context, timeout=20)
    try:
        body = json.dumps({"apiVersion": "v1", "kind": "Pod", **manifest})
        connection.request("POST", f"{cluster.path}/pods", body, {**headers, "Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers.get_all("Warning") or []
    finally:
        connection.close()


def has_spoken(cluster: Cluster, name: str) -> str:
    """How a Pod fares, or what it says of why it does not run; "" while it does neither."""
    status = cluster.status(name)
    if status.get("phase") in ("Running", "Succeeded", "Failed"):
        return str(status["phase"])
    said = [c["reason"] for c in status.get("conditions") or () if c["type"] == "PodScheduled" and c["status"] == "False"]
    events = cluster.api.get(f"{cluster.path}/events", fieldSelector=f"involvedObject.name={name}")["items"]
    return " ".join([*said, *(event["reason"] for event in events if event["type"] == "Warning")])


def test_no_pod_hangs_without_a_word(cluster: Cluster, request: pytest.FixtureRequest) -> None:
    many = 500 if request.config.getoption("--soak") else 6

    @settings(max_examples=many, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(EXAMPLES).flatmap(lambda each: some_of(each["spec"])))
    def one(spec: dict[str, Any]) -> None:
        name = f"any-{next(NUMBERS)}"
        manifest = {"metadata": {"name": name}, "spec": copy.deepcopy(spec)}
        code, warnings = create(cluster, manifest)
        if code != 201:
            assert code in (400, 403, 422), spec
            return
        try:
            told = [words for words in warnings if "stays Pending" in words or "waits in" in words]
            assert told or wait_for(lambda: has_spoken(cluster, name), f"{name} to run or to say why not: {spec}", 40)
        finally:
            cluster.api.delete(f"{cluster.path}/pods/{name}", {"gracePeriodSeconds": 0})

    one()
