"""The status that the API shows of a Pod, for Pods in every state."""

from __future__ import annotations

import pytest

from labkit.kubelet.core.pod_state import PodState
from labkit.kubelet.core.starting import old_restarts
from labkit.kubelet.node.status_manager import difference
from labkit.kubelet.pod.pod_runtime import CREATED, EXITED, Probed, Sandbox
from labkit.kubelet.pod.statuses import pod_status
from tests.truth import truth
from tests.unit.kubelet_pods import attempt, container, facts, pod, runtime


def conditions(status):
    return {c["type"]: (c["status"], c.get("reason", "")) for c in status["conditions"]}


def state(status, index=0, kind="containerStatuses"):
    ((name, more),) = status[kind][index]["state"].items()
    return name, more.get("reason")


def test_a_pod_that_waits_for_its_sandbox():
    status = pod_status(pod(), runtime(boxes=()), facts())
    assert status["phase"] == "Pending" and "podIP" not in status
    assert state(status) == ("waiting", "ContainerCreating")
    assert status["containerStatuses"][0]["started"] is False
    assert conditions(status) == {
        "PodReadyToStartContainers": ("False", ""),
        "Initialized": ("True", ""),
        "Ready": ("False", "ContainersNotReady"),
        "ContainersReady": ("False", "ContainersNotReady"),
        "PodScheduled": ("True", ""),
    }


def test_a_pod_that_runs():
    status = pod_status(pod(), runtime(attempt()), facts(memory_limit=9223372036854771712))
    assert (status["phase"], status["podIP"], status["hostIP"]) == ("Running", "10.88.0.5", "10.88.0.1")
    assert status["resources"] == {"limits": {"memory": "9007199254740988Ki"}}
    assert status["containerStatuses"][0]["containerID"] == "containerd://app0"
    assert {said for said, _ in conditions(status).values()} == {"True"}


def test_with_init_containers_the_others_wait_for_them():
    status = pod_status(pod(initContainers=[container("one")]), runtime(attempt("one")), facts())
    assert state(status) == ("waiting", "PodInitializing")
    assert conditions(status)["Initialized"] == ("False", "ContainersNotInitialized")
    failed = pod_status(pod(initContainers=[container("one")]), runtime(attempt("one", state=EXITED, code=1)), facts())
    assert failed["phase"] == "Pending"
    done = pod_status(pod(initContainers=[container("one")]), runtime(attempt("one", state=EXITED)), facts())
    assert done["initContainerStatuses"][0]["ready"] is True
    assert conditions(done)["Initialized"] == ("True", "")


@pytest.mark.parametrize(
    ("policy", "code", "phase", "reason"),
    [
        ("Never", 0, "Succeeded", "PodCompleted"),
        ("Never", 3, "Failed", "PodFailed"),
        ("OnFailure", 0, "Succeeded", "PodCompleted"),
        ("OnFailure", 3, "Running", "ContainersNotReady"),
        ("Always", 0, "Running", "ContainersNotReady"),
    ],
)
def test_the_phase_of_a_pod_whose_container_ended(policy, code, phase, reason):
    status = pod_status(pod(restartPolicy=policy), runtime(attempt(state=EXITED, code=code)), facts())
    assert (status["phase"], conditions(status)["Ready"]) == (phase, ("False", reason))


@pytest.mark.parametrize(("code", "reason"), [(0, "Completed"), (3, "Error")])
def test_an_end_for_which_the_runtime_has_no_word_is_named_by_its_exit_code(code, reason):
    status = pod_status(pod(restartPolicy="Never"), runtime(attempt(state=EXITED, code=code, reason="")), facts())
    assert state(status) == ("terminated", reason)


def test_a_container_that_backs_off_waits_and_its_end_becomes_the_last_state():
    held = runtime(attempt(number=1, state=EXITED, code=3), attempt(state=EXITED, code=1))
    status = pod_status(pod(), held, facts(reasons={"app": ("CrashLoopBackOff", "back-off 20s")}))
    (shown,) = status["containerStatuses"]
    assert shown["state"] == {"waiting": {"message": "back-off 20s", "reason": "CrashLoopBackOff"}}
    assert (shown["lastState"]["terminated"]["exitCode"], shown["restartCount"]) == (3, 1)
    assert status["phase"] == "Running"


def test_a_container_that_restarted_keeps_its_last_state():
    (shown,) = pod_status(pod(), runtime(attempt(number=1), attempt(state=EXITED, code=7)), facts())["containerStatuses"]
    assert "running" in shown["state"] and shown["lastState"]["terminated"]["exitCode"] == 7


def test_what_never_started_began_in_1970():
    ended = attempt(state=EXITED, code=128, started=0, reason="StartError", message="no such file")
    (shown,) = pod_status(pod(restartPolicy="Never"), runtime(ended), facts())["containerStatuses"]
    assert shown["state"]["terminated"]["startedAt"] == "1970-01-01T00:00:00Z"
    assert (shown["state"]["terminated"]["reason"], shown["state"]["terminated"]["message"]) == ("StartError", "no such file")


def test_probes_decide_on_ready_and_started():
    probe = {"tcpSocket": {"port": 80}}
    ready = pod(container(readinessProbe=probe))
    for found in ({}, {"app0": True}, {"app0": False}):
        (shown,) = pod_status(ready, runtime(attempt()), facts(probed=Probed(readiness=found)))["containerStatuses"]
        assert shown["ready"] is found.get("app0", False)
    slow = pod_status(pod(container(startupProbe=probe)), runtime(attempt()), facts())["containerStatuses"][0]
    assert (slow["started"], slow["ready"]) == (False, False)


def test_readiness_gates_are_set_by_others():
    manifest = pod(readinessGates=[{"conditionType": "example.com/ok"}])
    assert conditions(pod_status(manifest, runtime(attempt()), facts()))["Ready"] == ("False", "ReadinessGatesNotReady")
    before = {"conditions": [{"type": "example.com/ok", "status": "True"}]}
    assert conditions(pod_status(manifest, runtime(attempt()), facts(before=before)))["Ready"] == ("True", "")


def test_a_condition_keeps_its_time_while_it_stays():
    before = pod_status(pod(), runtime(boxes=()), facts(now=100.0))
    after = pod_status(pod(), runtime(attempt()), facts(before=before, now=200.0))
    times = {c["type"]: c["lastTransitionTime"] for c in after["conditions"]}
    assert times["PodScheduled"] == "1970-01-01T00:01:40Z" and times["Ready"] == "1970-01-01T00:03:20Z"


def test_a_pod_that_the_kubelet_ended():
    killed = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
    held = runtime(attempt(state=EXITED, code=137), boxes=(Sandbox("box0", 0, False, (), 1),))
    status = pod_status(pod(), held, facts(terminated=killed, done=True))
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", *killed)


def test_what_ran_and_is_lost_is_told_so_when_the_pod_has_ended():
    before = pod_status(pod(), runtime(attempt()), facts())
    status = pod_status(pod(), runtime(boxes=()), facts(before=before, done=True))
    assert status["containerStatuses"][0]["state"]["terminated"]["reason"] == "ContainerStatusUnknown"


def test_a_pod_that_ended_stays_ended():
    before = {"phase": "Failed", "reason": "OutOfcpu", "message": "Pod was rejected"}
    status = pod_status(pod(), runtime(boxes=()), facts(before=before))
    assert (status["phase"], status["reason"]) == ("Failed", "OutOfcpu")


def test_a_pod_that_must_not_run_again_does_not_when_the_runtime_has_lost_it():
    never = pod(restartPolicy="Never")
    before = pod_status(never, runtime(attempt()), facts())
    assert pod_status(never, runtime(boxes=()), facts(before=before))["phase"] == "Failed"
    again = pod_status(pod(), runtime(boxes=()), facts(before=before))["containerStatuses"][0]
    assert again["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown" and "waiting" in again["state"]


def test_what_was_made_and_never_started_may_be_made_again():
    """A kubelet that was killed between removing such a container and making the next leaves nothing in the runtime."""
    never = pod(restartPolicy="Never")
    before = pod_status(never, runtime(attempt(state=CREATED)), facts())
    assert before["containerStatuses"][0]["containerID"]
    after = pod_status(never, runtime(), facts(before=before))
    assert (after["phase"], after["containerStatuses"][0]["restartCount"]) == ("Pending", 0)


def test_read_only_mounts_and_requests_are_shown():
    manifest = pod(
        container(
            volumeMounts=[{"name": "v", "mountPath": "/v", "readOnly": True}],
            resources={"limits": {"memory": "20Mi"}, "requests": {"cpu": "250m"}},
        ),
        container("side", resources={"requests": {"cpu": "750m"}}),
        volumes=[{"name": "v", "emptyDir": {}}],
    )
    status = pod_status(manifest, runtime(attempt(), attempt("side")), facts())
    mounts = status["containerStatuses"][0]["volumeMounts"]
    assert mounts == [{"mountPath": "/v", "name": "v", "readOnly": True, "recursiveReadOnly": "Disabled"}]
    assert status["allocatedResources"] == {"cpu": "1", "memory": "20Mi"}
    assert status["resources"] == {"limits": {"memory": "20Mi"}, "requests": {"cpu": "1", "memory": "20Mi"}}


def test_recursively_read_only_mounts_are_shown_as_what_the_runtime_makes_of_them():
    wanted = container(volumeMounts=[{"name": "v", "mountPath": "/v", "readOnly": True, "recursiveReadOnly": "IfPossible"}])
    manifest = pod(wanted, volumes=[{"name": "v"}])
    shown = [pod_status(manifest, runtime(attempt()), facts(recursive=able))["containerStatuses"][0] for able in (True, False)]
    assert [s["volumeMounts"][0]["recursiveReadOnly"] for s in shown] == ["Enabled", "Disabled"]


def test_the_last_words_of_all_containers_together_have_a_limit():
    names = ("a", "b", "c", "d")
    ended = [attempt(name, state=EXITED, code=1, message="é" * 2048) for name in names]
    status = pod_status(pod(*map(container, names), restartPolicy="Never"), runtime(*ended), facts())
    words = [s["state"]["terminated"]["message"] for s in status["containerStatuses"]]
    assert [len(word.encode()) for word in words] == [3072] * 4
    alone = pod_status(pod(restartPolicy="Never"), runtime(attempt(state=EXITED, code=1, message="x" * 4096)), facts())
    assert len(alone["containerStatuses"][0]["state"]["terminated"]["message"]) == 4096


def test_a_container_that_the_runtime_has_lost_has_restarted():
    before = {"containerStatuses": [{"name": "app", "restartCount": 2, "state": {"running": {}}, "lastState": {}}]}
    status = pod_status(pod(), runtime(), facts(before=before))["containerStatuses"][0]
    assert status["restartCount"] == 3 and status["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"
    again = pod_status(pod(), runtime(), facts(before={"containerStatuses": [status]}))["containerStatuses"][0]
    assert again["restartCount"] == 3
    state = PodState("u1", pod(), runtime(), {"containerStatuses": [again]})
    assert old_restarts(state, "app") == 3


def test_an_init_container_of_which_nobody_knows_has_ended_well_once_the_others_have_begun():
    manifest = pod(initContainers=[container("init")])
    [init] = pod_status(manifest, runtime(attempt()), facts())["initContainerStatuses"]
    assert init["state"]["terminated"]["reason"] == "Completed" and init["state"]["terminated"]["message"] == (
        "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally"
    )


def test_the_stop_signal_is_the_runtimes():
    [shown] = pod_status(pod(), runtime(attempt(stop_signal="SIGUSR1")), facts())["containerStatuses"]
    assert shown["stopSignal"] == "SIGUSR1"


def test_a_rich_pod_has_the_fields_that_a_real_kubelet_gives_it():
    recorded = truth("shop.json")["pod"]
    real = recorded["status"]
    held = []
    for name in ("app", "side", "prepare"):
        code = {"state": EXITED} if name == "prepare" else {}
        held.append(attempt(name, user={"gid": 0, "supplementalGroups": [0], "uid": 0}, **code))
    from labkit.podspec import with_defaults

    status = pod_status(with_defaults({k: v for k, v in recorded.items() if k != "status"}), runtime(*held), facts())
    assert status.keys() == real.keys()
    for kind in ("containerStatuses", "initContainerStatuses"):
        assert [sorted(s) for s in status[kind]] == [sorted(s) for s in real[kind]]
    assert [(c["type"], c["status"]) for c in status["conditions"]] == [(c["type"], c["status"]) for c in real["conditions"]]
    assert status["resources"] == real["resources"] and status["allocatedResources"] == real["allocatedResources"]


def test_only_differences_are_sent():
    old = {"phase": "Pending", "podIP": "a", "conditions": [{"type": "A", "status": "True"}, {"type": "X", "status": "True"}]}
    new = {"phase": "Running", "conditions": [{"type": "A", "status": "False"}]}
    assert difference(old, new) == {
        "phase": "Running",
        "podIP": None,
        "conditions": [{"type": "A", "status": "False"}],
        "$setElementOrder/conditions": [{"type": "A"}],
    }
    assert difference(new, new) == {}


def ended(manifest, held, **more):
    return pod_status(manifest, held, facts(terminated=("DeadlineExceeded", "too long"), done=True, **more))


def test_what_never_ran_has_an_end_once_its_pod_has():
    status = ended(pod(), runtime(), reasons={"app": ("ErrImagePull", "not found")})
    assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")
    assert state(status) == ("terminated", "ContainerStatusUnknown")
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 137


def test_containers_that_had_no_turn_go_on_waiting_for_it():
    manifest = pod(initContainers=[container("one"), container("two")])
    status = ended(manifest, runtime(), reasons={"one": ("ErrImagePull", "not found")})
    assert state(status, 0, "initContainerStatuses") == ("terminated", "ContainerStatusUnknown")
    assert state(status, 1, "initContainerStatuses") == state(status) == ("waiting", "PodInitializing")
    status = ended(manifest, runtime(attempt("two", state=EXITED), attempt("one", state=EXITED)))
    assert state(status) == ("terminated", "ContainerStatusUnknown")


def test_a_pod_runs_as_long_as_a_containers_rules_restart_it():
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
    manifest = pod(container(restartPolicy="Never", restartPolicyRules=rules), restartPolicy="Never")
    assert pod_status(manifest, runtime(attempt(state=EXITED, code=42)), facts())["phase"] == "Running"
    assert pod_status(manifest, runtime(attempt(state=EXITED, code=1)), facts())["phase"] == "Failed"


def test_conditions_of_its_own_are_taken_back():
    old = {"conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "example.com/x", "status": "True"}]}
    new = {"conditions": [{"type": "example.com/x", "status": "True"}]}
    assert difference(old, new)["conditions"] == [{"$patch": "delete", "type": "PodScheduled"}]


def test_an_init_container_that_must_not_run_again_fails_its_pod():
    own = {**container("one"), "restartPolicy": "Never"}
    ended = runtime(attempt("one", state=EXITED, code=1))
    assert pod_status(pod(initContainers=[own]), ended, facts())["phase"] == "Failed"
    again = {**own, "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}]}
    assert pod_status(pod(initContainers=[again]), ended, facts())["phase"] == "Pending"


def test_an_ephemeral_container_has_a_status_and_counts_for_nothing():
    manifest = pod(ephemeralContainers=[{"name": "debug", "image": "i"}])
    waits = pod_status(manifest, runtime(attempt()), facts(reasons={"debug": ("ErrImagePull", "no such image")}))
    (status,) = waits["ephemeralContainerStatuses"]
    assert status["state"] == {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    assert (status["ready"], "started" in status, conditions(waits)["Ready"]) == (False, False, ("True", ""))
    runs = pod_status(manifest, runtime(attempt("debug"), attempt()), facts())
    assert "running" in runs["ephemeralContainerStatuses"][0]["state"] and runs["phase"] == "Running"
    ended = pod_status(manifest, runtime(attempt("debug", state=EXITED, code=3), attempt()), facts())
    assert ended["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    assert (ended["phase"], conditions(ended)["Ready"]) == ("Running", ("True", ""))
