"""Checks of lesson 01, What is the contract?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cri_api.v1.api_pb2 import CONTAINER_CREATED

from labkit.course.checks.pods import find
from labkit.course.verdict import Check, exercise
from labkit.cri import verbose

if TYPE_CHECKING:
    from labkit.node import Node


@exercise("01.1")
def told_runtime(node: Node) -> Check:
    """01.1: a Pod `told` whose runtime was told of a user, a limit of memory and a read-only root file system."""
    pod = find(node, "told")
    if pod is None:
        return Check(False, "there is no Pod called told on the node.")
    running = [container for container in pod.containers if container.state == "Running"]
    if not running:
        return Check(False, "the Pod told has no running container.")
    spec = verbose.at(verbose.info(node.cri.container_status(container_id=running[0].id, verbose=True)), "runtimeSpec")
    if spec is None:
        return Check(False, f"{node.runtime} does not report the OCI configuration of the Pod told.")
    memory = (spec["linux"].get("resources", {}).get("memory") or {}).get("limit")
    reached = {
        "runs as user 1000": spec["process"]["user"]["uid"] == 1000,
        "may use 32 MiB at most": memory == 32 * 1024 * 1024,
        "has a read-only root file system": spec["root"].get("readonly", False),
    }
    missing = [what for what, there in reached.items() if not there]
    if missing:
        return Check(False, f"the runtime was not told that the container of told {' and '.join(missing)}.")
    return Check(True, "user, limit and read-only root file system reached the runtime.")


@exercise("01.2")
def made_again(node: Node) -> Check:
    """01.2: a Pod `again` whose container `once` was made a second time, in the same sandbox, with the next attempt."""
    pod = find(node, "again")
    if pod is None:
        return Check(False, "there is no Pod called again on the node.")
    listed = node.cri.list_containers(filter={"pod_sandbox_id": pod.id}).containers
    states = {each.metadata.attempt: each.state for each in listed if each.metadata.name == "once"}
    if 0 not in states:
        return Check(False, "the Pod again has no container called once with attempt 0.")
    if 1 not in states:
        return Check(False, "the container once of again was not made again: there is no attempt 1.")
    if states[1] == CONTAINER_CREATED:
        return Check(False, "attempt 1 of once is created, but not started.")
    return Check(True, "attempt 1 of once followed attempt 0 in the same sandbox.")
