"""What is taken as evidence of an incident's fault, and what is not."""

from __future__ import annotations

import json
from types import SimpleNamespace as Thing

import pytest

from labkit.course.incident import evidence
from labkit.course.incident.fault import FAULTS, Fault, Scene


class Inky(Fault):
    """A fault on paper."""

    evidence = ("ink",)


PULLING = 'Failed to pull image "r/web:2": rpc error: code = NotFound desc = not found'
REFUSED = "Readiness probe failed: dial tcp 10.244.0.7:8081: connect: connection refused"
SIGNS = {"reasons": ["ErrImagePull", "Unhealthy"], "messages": [PULLING, REFUSED]}


@pytest.mark.parametrize(("text", "is_evidence"), [
    ("Readiness probe failed", True), ("the event says: readiness PROBE failed", True), ("connection refused", True),
    ("Unhealthy", True), ("STATUS is ErrImagePull", True), ("rpc error: code = NotFound", True), ("there is ink on it", True),
    ("10.244.0.7:8081 does not answer", True), ("1780m", True), ("its request is 1780m (98%)", True), (REFUSED, True),
    ("orders-settings", False), ("name: orders-settings default", False), ("imagePullSecrets orders-login-of-mine", False),
    ("failed", False), ("Failed", False), ("the Pod is broken", False), ("it does not work, I do not know why", False),
    ("178", False), ("probe", False), ("", False),
])
def test_evidence_is_what_only_the_fault_has_or_a_warnings_words(text: str, is_evidence: bool) -> None:
    manifest = {"imagePullSecrets": "orders-login-of-mine", "name": "orders-settings", "namespace": "default"}
    found = {"signs": {**SIGNS, "messages": [*SIGNS["messages"], "no key in orders-settings default"]}, "values": ["1780m"]}
    assert evidence.shows(Inky(), {**found, "manifest": manifest}, text) is is_evidence


def test_names_of_the_users_manifest_are_no_evidence_of_any_fault() -> None:
    for name, texts in {"volume-key": ["orders-settings"], "variable-key": ["orders-settings"], "image-login": ["orders-login"],
                        "address-pool": ["rangeEnd", "host-local"], "containerd-stopped": ["containerd", "containerd.sock"],
                        "cni-directory": ["bin_dir"], "volume-full": ["/var/orders"]}.items():
        assert not any(evidence.shows(FAULTS[name], {}, text) for text in texts), name
    for name, text in {"address-pool": '"rangeEnd": "10.88.0.9"', "containerd-stopped": "containerd does not run",
                       "volume-full": "/var/orders 100%", "image-login": "401", "cgroup-driver": "SystemdCgroup = true",
                       "probe": "8081", "memory-limit": "32Mi", "cpu-limit": "10m"}.items():
        assert evidence.shows(FAULTS[name], {}, text), name


def test_signs_are_the_warnings_and_states_of_the_users_pod() -> None:
    status = {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}},
                                     "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}]}
    cluster = Thing(warnings=lambda name: [Thing(reason="Failed", message="no such image"), Thing(reason="BackOff", message="")],
                    kubectl=lambda *words: json.dumps({"metadata": {"name": "orders"}, "status": status}))
    found = evidence.signs(Scene(Thing(cluster=cluster)))  # type: ignore[arg-type]
    assert found == {"reasons": ["BackOff", "ImagePullBackOff", "OOMKilled"], "messages": ["Back-off", "no such image"]}
    assert evidence.merged(found, {"reasons": ["X"]})["reasons"] == ["BackOff", "ImagePullBackOff", "OOMKilled", "X"]
