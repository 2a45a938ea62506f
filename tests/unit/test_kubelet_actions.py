"""What the kubelet decides to start and to kill, for Pods in every state."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from labkit.kubelet.core.actions import compute_actions
from labkit.kubelet.core.pod_state import PodProgress, PodState
from labkit.kubelet.core.starting import target_of
from labkit.kubelet.core.sync import PodSync
from labkit.kubelet.pod.pod_runtime import CREATED, EXITED, RUNNING, Probed, Sandbox
from labkit.podspec.messages import CreateContainerConfigError
from tests.unit.kubelet_pods import BOX, attempt, container, pod, runtime

NOTHING = Probed()


def names(containers):
    return [c["name"] for c in containers]


def decided(manifest, held, probed=NOTHING):
    return compute_actions(manifest, held, probed)


def test_a_new_pod_gets_a_sandbox_and_all_containers():
    actions = decided(pod(container("a"), container("b")), runtime(boxes=()))
    assert (actions.sandbox, actions.attempt, names(actions.start), actions.init) == (True, 0, ["a", "b"], [])


def test_a_running_pod_needs_nothing():
    actions = decided(pod(), runtime(attempt()))
    assert not (actions.kill_pod or actions.sandbox or actions.start or actions.init or actions.kill)


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 0, False),
        ("Never", 1, False),
    ],
)
def test_restart_policy(policy, code, again):
    actions = decided(pod(restartPolicy=policy), runtime(attempt(state=EXITED, code=code)))
    assert bool(actions.start) is again
    assert actions.kill_pod is not again


def test_a_pod_that_is_deleted_restarts_nothing():
    manifest = pod()
    manifest["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert decided(manifest, runtime(attempt(state=EXITED, code=1))).start == []


def test_a_container_that_was_created_and_never_started_is_started():
    assert names(decided(pod(restartPolicy="Never"), runtime(attempt(state=CREATED))).start) == ["app"]


@pytest.mark.parametrize(
    "box",
    [
        Sandbox("box0", 0, False, ("10.88.0.5",), 1),
        Sandbox("box0", 0, True, (), 1),
        Sandbox("box0", 0, True, ("10.88.0.5",), 1, host_network=True),
    ],
    ids=["not ready", "no address", "another network"],
)
def test_a_sandbox_that_is_no_good_is_made_anew_with_the_next_attempt(box):
    actions = decided(pod(initContainers=[container("prepare")]), runtime(attempt(), boxes=(box,)))
    assert (actions.kill_pod, actions.sandbox, actions.attempt) == (True, True, 1)
    assert names(actions.init) == ["prepare"]


def test_two_ready_sandboxes_are_one_too_many():
    actions = decided(pod(), runtime(attempt(), boxes=(Sandbox("box1", 1, True, ("10.88.0.6",), 2), BOX)))
    assert (actions.sandbox, actions.attempt) == (True, 2)


def test_a_pod_that_ran_and_must_not_run_again_gets_no_new_sandbox():
    actions = decided(pod(restartPolicy="Never"), runtime(attempt(state=EXITED), boxes=(Sandbox("box0", 0, False, (), 1),)))
    assert (actions.kill_pod, actions.sandbox, actions.start) == (True, False, [])


def test_init_containers_run_one_after_the_other():
    manifest = pod(initContainers=[container("one"), container("two")])
    assert names(decided(manifest, runtime()).init) == ["one"]
    assert names(decided(manifest, runtime(attempt("one"))).init) == []
    done = attempt("one", state=EXITED)
    actions = decided(manifest, runtime(done))
    assert (names(actions.init), actions.start) == (["two"], [])
    assert names(decided(manifest, runtime(attempt("two", state=EXITED), done)).start) == ["app"]


def test_an_init_container_that_failed_is_tried_again_or_ends_the_pod():
    held = runtime(attempt("one", state=EXITED, code=1))
    assert names(decided(pod(initContainers=[container("one")]), held).init) == ["one"]
    ended = decided(pod(initContainers=[container("one")], restartPolicy="Never"), held)
    assert (ended.kill_pod, ended.init) == (True, [])


def test_init_containers_of_a_pod_that_runs_are_done_even_if_their_remains_are_gone():
    manifest = pod(initContainers=[container("one")])
    actions = decided(manifest, runtime(attempt()))
    assert not (actions.init or actions.start or actions.kill_pod)


def test_a_sidecar_runs_beside_the_others_and_comes_back():
    sidecar = container("log", restartPolicy="Always")
    manifest = pod(initContainers=[sidecar, container("one")])
    assert names(decided(manifest, runtime(attempt("log"))).init) == ["one"]
    later = decided(manifest, runtime(attempt(), attempt("one", state=EXITED), attempt("log", state=EXITED)))
    assert names(later.init) == ["log"]
    only = pod(initContainers=[sidecar])
    assert names(decided(only, runtime(attempt("log"))).start) == ["app"]


def test_a_sidecar_with_a_startup_probe_holds_the_others_back_until_it_has_started():
    sidecar = container("log", restartPolicy="Always", startupProbe={"exec": {"command": ["true"]}})
    manifest = pod(initContainers=[sidecar])
    assert decided(manifest, runtime(attempt("log"))).start == []
    assert names(decided(manifest, runtime(attempt("log")), Probed(startup={"log0": True})).start) == ["app"]


def test_a_failed_liveness_probe_kills_and_starts_again():
    actions = decided(pod(), runtime(attempt()), Probed(liveness={"app0": False}))
    (kill,) = actions.kill
    assert (kill.message, kill.why) == ("Container app failed liveness probe, will be restarted", "liveness")
    assert names(actions.start) == ["app"]
    never = decided(pod(restartPolicy="Never"), runtime(attempt()), Probed(liveness={"app0": False}))
    assert (never.kill[0].message, never.start) == ("Container app failed liveness probe", [])


def test_a_changed_image_means_a_new_container():
    actions = decided(pod(), runtime(attempt(hash="0")))
    assert actions.kill[0].message == "Container app definition changed, will be restarted"


def test_one_of_two_containers_that_ended_does_not_end_the_pod():
    manifest = pod(container("a"), container("b"), restartPolicy="Never")
    actions = decided(manifest, runtime(attempt("a", state=EXITED), attempt("b", state=RUNNING)))
    assert not (actions.kill_pod or actions.start)


@pytest.mark.parametrize(
    ("rules", "code", "again"),
    [
        ([("In", [42])], 42, True),
        ([("In", [42])], 1, False),
        ([("NotIn", [42])], 1, True),
        ([("NotIn", [42])], 42, False),
        ([], 42, False),
    ],
)
def test_a_containers_own_rules_come_before_policies(rules, code, again):
    own = [{"action": "Restart", "exitCodes": {"operator": operator, "values": values}} for operator, values in rules]
    app = container(restartPolicy="Never", restartPolicyRules=own)
    held = runtime(attempt(state=EXITED, code=code), attempt("side"))
    actions = decided(pod(app, container("side"), restartPolicy="Never"), held)
    assert names(actions.start) == (["app"] if again else [])


def left_over(manifest, held, **reasons):
    """Whether a sync that ends like this has missed something."""
    sync = SimpleNamespace(actions=lambda state: compute_actions(state.pod, state.runtime, NOTHING))
    return PodSync.left_over(sync, PodState("u1", manifest, held, {}, progress=PodProgress(reasons=reasons)))


def test_what_ended_while_others_started_is_not_forgotten():
    two = pod(container("a"), container("b"))
    assert left_over(two, runtime(attempt("b"), attempt("a", state=EXITED)))
    assert not left_over(two, runtime(attempt("b"), attempt("a")))
    assert not left_over(two, runtime(attempt("b"), attempt("a", state=EXITED)), a=("CrashLoopBackOff", "")), "it had its turn"
    assert left_over(two, runtime(attempt("b", state=EXITED), attempt("a", state=EXITED)), a=("CrashLoopBackOff", ""))
    assert not left_over(two, runtime(boxes=())), "no sandbox: that is tried at its own pace"


def test_a_sidecar_that_ended_while_the_pod_started_is_not_forgotten():
    with_sidecar = pod(initContainers=[container("log", restartPolicy="Always")])
    assert left_over(with_sidecar, runtime(attempt("app"), attempt("log", state=EXITED, code=1)))


DEBUG = {"name": "debug", "image": "i", "targetContainerName": "app"}


def test_an_ephemeral_container_is_started_once_whatever_the_others_do():
    manifest = pod(restartPolicy="Always", ephemeralContainers=[DEBUG])
    assert names(decided(manifest, runtime(attempt())).ephemeral) == ["debug"]
    assert decided(manifest, runtime(attempt("debug", state=EXITED, code=1), attempt())).ephemeral == []
    waiting = pod(initContainers=[container("one")], ephemeralContainers=[DEBUG])
    actions = decided(waiting, runtime(attempt("one")))
    assert (names(actions.starts), actions.kill_pod) == (["debug"], False)


def test_an_ephemeral_container_does_not_keep_a_pod():
    manifest = pod(restartPolicy="Never", ephemeralContainers=[DEBUG])
    actions = decided(manifest, runtime(attempt("debug"), attempt(state=EXITED)))
    assert (actions.kill_pod, actions.starts) == (True, ())


def test_the_target_of_an_ephemeral_container_is_found_or_named():
    state = PodState("u1", pod(ephemeralContainers=[DEBUG]), runtime(attempt()), {})
    assert target_of(state, DEBUG) == "app0" and target_of(state, container("other")) == ""
    with pytest.raises(CreateContainerConfigError, match="unable to find target container none"):
        target_of(state, {**DEBUG, "targetContainerName": "none"})
