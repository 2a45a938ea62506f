"""What the kubelet tidies up and what it leaves alone; what PLEG makes of two lists; what survives a kubelet."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from labkit.cri import CriError
from labkit.cri.v1 import api_pb2 as pb
from labkit.kubelet.cleanup.housekeeping import Housekeeping, rotate
from labkit.kubelet.core.pleg import Pleg, RuntimeList
from labkit.kubelet.core.stopping import gone_is_fine
from labkit.kubelet.pod.termination_message import log_tail


def box(uid, name="box", state=pb.SANDBOX_READY, **labels):
    metadata = pb.PodSandboxMetadata(name="web", uid=uid)
    labels = {key.replace("_", ".", 2): value for key, value in labels.items()}
    return pb.PodSandbox(id=name, metadata=metadata, state=state, labels=labels)


def container(uid, number, state=pb.CONTAINER_EXITED):
    labels = {"io.kubernetes.pod.uid": uid, "io.kubernetes.container.name": "app"}
    return pb.Container(id=f"c{number}", state=state, labels=labels, created_at=number, pod_sandbox_id="box")


class Cri:
    """Takes down what it is asked to do."""

    def __init__(self, boxes=(), containers=()):
        self.boxes, self.containers, self.asked = list(boxes), list(containers), []

    def list_pod_sandbox(self):
        return SimpleNamespace(items=self.boxes)

    def list_containers(self):
        return SimpleNamespace(containers=self.containers)

    def __getattr__(self, name):
        return lambda **fields: self.asked.append((name, *fields.values()))


def housekeeping(cri, marked=()):
    return Housekeeping(cri, SimpleNamespace(marked=lambda uid: uid in marked), None, None)


def test_only_what_the_kubelet_marked_as_its_own_is_an_orphan():
    """Whoever made the others, and whatever labels they have."""
    boxes = {uid: [box(uid)] for uid in ("known", "old", "hand", "")}
    listed = RuntimeList(boxes, {"": [container("", 2)], "lost": [container("lost", 1)]})
    assert housekeeping(Cri()).orphans(listed, {"known"}) == []
    assert sorted(housekeeping(Cri(), marked={"known", "old", "lost"}).orphans(listed, {"known"})) == ["lost", "old"]


def test_marks_go_when_nothing_has_been_left_of_a_pod_for_a_while():
    forgotten = []
    configuration = SimpleNamespace(
        marks=lambda: [("young", 5.0), ("old", 1e4), ("listed", 1e4), ("known", 1e4)], forget_mark=forgotten.append
    )
    Housekeeping(Cri(), configuration, None, None).forget_marks(RuntimeList({"listed": []}), {"known"})
    assert forgotten == ["old"]


def test_what_another_client_is_removing_is_waited_for(monkeypatch):
    tries = []

    def remove():
        tries.append(1)
        if len(tries) < 3:
            raise CriError("RemoveContainer", "UNKNOWN", 'container "c": container is already in removing state', "")
        raise CriError("RemoveContainer", "NOT_FOUND", "gone", "")

    monkeypatch.setattr("labkit.kubelet.core.stopping.time.sleep", lambda seconds: None)
    gone_is_fine(remove)
    assert len(tries) == 3


def test_what_may_have_started_since_it_was_listed_is_stopped_before_it_is_removed(tmp_path):
    cri, none = Cri(), SimpleNamespace(remove=lambda uid: True, mark=lambda uid: None, logs=tmp_path)
    listed = RuntimeList({}, {"lost": [container("lost", 1, pb.CONTAINER_CREATED), container("lost", 2)]})
    Housekeeping(cri, none, none, none).remove_orphan(listed, "lost")
    assert cri.asked == [("stop_container", "c1", 1), ("remove_container", "c1"), ("remove_container", "c2")]


def test_a_pod_that_comes_while_others_are_looked_for_is_no_stranger(tmp_path):
    marked = {"known", "old", "new"}
    configuration = SimpleNamespace(root=tmp_path, marked=marked.__contains__)
    for uid in ("known", "old", "by-hand"):
        (tmp_path / "pods" / uid).mkdir(parents=True)

    def owned():
        (tmp_path / "pods" / "new").mkdir()
        return {"known"}

    assert Housekeeping(Cri(), configuration, None, None).stale_traces(owned) == ["old"]


def test_of_dead_containers_the_newest_and_one_more_are_kept():
    cri = Cri()
    dead = [container("u", number) for number in range(4)]
    listed = RuntimeList({"u": [box("u")]}, {"u": [*dead, container("u", 4, pb.CONTAINER_RUNNING)]})
    housekeeping(cri).collect(listed, lambda uid: True)
    assert cri.asked == [("remove_container", "c2"), ("remove_container", "c1"), ("remove_container", "c0")]
    cri.asked.clear()
    housekeeping(cri).collect(listed, lambda uid: False)
    assert cri.asked == []


def test_an_old_sandbox_goes_when_no_container_of_it_is_left():
    cri = Cri()
    old = box("u", "old", pb.SANDBOX_NOTREADY)
    new = pb.PodSandbox(id="box", metadata=pb.PodSandboxMetadata(uid="u"), state=pb.SANDBOX_READY, created_at=5)
    housekeeping(cri).collect(RuntimeList({"u": [old, new]}, {"u": [container("u", 1)]}), lambda uid: True)
    assert ("remove_pod_sandbox", "old") in cri.asked and ("remove_pod_sandbox", "box") not in cri.asked


def test_logs_are_put_aside_and_the_oldest_is_dropped(tmp_path):
    log = tmp_path / "0.log"
    for number in range(7):
        log.write_text(str(number))
        rotate(log)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.log.1", "0.log.2", "0.log.3", "0.log.4"]
    assert (tmp_path / "0.log.1").read_text() == "6"


def test_pleg_finds_which_pods_changed():
    cri = Cri([box("a"), box("b")], [container("b", 1, pb.CONTAINER_RUNNING)])
    pleg = Pleg(cri)
    assert sorted(pleg.relist()) == ["a", "b"]
    assert pleg.relist() == []
    cri.containers = [container("b", 1)]
    assert pleg.relist() == ["b"]
    cri.boxes = [box("b")]
    assert pleg.relist() == ["a"]


@pytest.mark.parametrize(
    ("boxes", "pods", "events", "period_s"),
    [([], [], False, 5), ([], ["u"], False, 1), (["a"], [], False, 1), ([], [], True, 10), (["a"], ["u"], True, 10)],
)
def test_pleg_lists_each_second_where_there_is_something_to_list(boxes, pods, events, period_s):
    pleg = Pleg(Cri([box(name) for name in boxes]))
    pleg.relist()
    pleg.events = events
    assert pleg.period_s(pods) == period_s


def test_pleg_that_does_not_get_on_says_so(monkeypatch):
    pleg = Pleg(Cri())
    assert pleg.errors() == ""
    started = pleg._started
    monkeypatch.setattr("labkit.kubelet.core.pleg.time.monotonic", lambda: started + 200)
    assert pleg.errors() == "PLEG is not healthy: pleg was last seen active 3m20s ago; threshold is 3m0s"


def test_a_runtime_that_is_away_keeps_the_last_list():
    cri = Cri([box("a")])
    pleg = Pleg(cri)
    pleg.relist()
    before = pleg.listed

    def away():
        raise CriError("ListPodSandbox", "UNAVAILABLE", "gone", "")

    cri.list_pod_sandbox = away
    with pytest.raises(CriError):
        pleg.relist()
    assert pleg.listed is before


def test_the_end_of_a_log_without_its_times(tmp_path):
    log = tmp_path / "0.log"
    log.write_text("2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:01Z stderr P tw\n2026-01-01T00:00:01Z stderr F o\n")
    assert log_tail(log) == "one\ntwo\n"
    assert log_tail(tmp_path / "absent") == ""
