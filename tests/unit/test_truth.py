"""The comparison with a real kubelet finds a difference, and none where there is none (tests/truth/compare.py)."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.truth import truth
from tests.truth.compare import SKIP, differences

RECORDED: dict[str, Any] = truth("pods.json")


def found(name: str, **changed: Any) -> list[str]:
    """The differences between a recorded Pod and itself with other `status`, `column` or `events`."""
    pod = copy.deepcopy(RECORDED[name])
    column = [each["Status"] for each in pod["status_column"]]
    run = {"status": pod["status"], "column": column, "events": pod["events"], **changed}
    return list(differences(pod, run["status"], run["column"], run["events"]))


@pytest.mark.parametrize("name", sorted(RECORDED.keys() - SKIP))
def test_a_recording_differs_in_nothing_from_itself(name: str) -> None:
    assert found(name) == []


def test_a_difference_is_found() -> None:
    pod = copy.deepcopy(RECORDED["crashloop"])
    assert found("crashloop", column=["Running"]) == ["statuses [] not ['failed']"]
    assert found("crashloop", status={**pod["status"], "phase": "Failed"}) == ["phase Failed not Running"]
    without = [each for each in pod["events"] if each["reason"] != "BackOff"]
    assert "event reasons" in found("crashloop", events=without)[0]
    pod["events"][0]["message"] = "Another word"
    assert "event words" in found("crashloop", events=pod["events"])[0]
    pod["status"]["containerStatuses"][0].update(state={"terminated": {"exitCode": 99}}, lastState={})
    assert "exitCode" not in found("crashloop", status=pod["status"])[0] and "99" in found("crashloop", status=pod["status"])[0]
