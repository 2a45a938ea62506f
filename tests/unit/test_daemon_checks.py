"""The check of exercise 04.1 judges what a Pod's log says while containerd is killed and started again."""

from types import SimpleNamespace

import pytest

from labkit.course.checks import lesson_04
from labkit.cri.pods import PodContainer, PodProcess, PodSnapshot
from labkit.util.errors import NodeError

NODE, OWN = {"net": 1}, {"net": 2}


class Lab:
    """A node whose Pod `watchman` logs `quiet` while nothing happens, `killed` at the kill and `started` at the start, or `again`
    and `returned` at the second of each. pipes: what is in its pipe at the first and at the second time; None where no pipe is
    seen."""

    kind, lesson = "vm", "04"

    def __init__(self, quiet=(), killed=(), started=(), state="Running", there=True, net=NODE, again=None, returned=None,
                 pipes=None):
        self.quiet, self.killed, self.started, self.there, self.net = quiet, killed, started, there, net
        self.again = killed if again is None else again
        self.returned = started if returned is None else returned
        self.log, self.does, self.pipes = ["hello"], [], pipes
        status = SimpleNamespace(status=SimpleNamespace(log_path="/log"))
        self.cri = SimpleNamespace(container_status=lambda container_id: status)
        self.daemon = SimpleNamespace(kill=self.kill, start=self.start)
        self.container = PodContainer("main", "c", state, 0, "busybox", 7, 0)

    def pods(self, others=False):
        process = PodProcess(7, 1, "application", "sh", "main", self.net)
        watchman = PodSnapshot("watchman", "default", "u", "s", "Ready", "", (process,), containers=(self.container,))
        return [watchman] if self.there else []

    def host_namespaces(self):
        return NODE

    def shims(self, others=False):
        fifos = ("/c-stdout",) if self.pipes else ()
        return (SimpleNamespace(sandbox="s", containers=[SimpleNamespace(id="c", fifos=fifos)]),)

    def shell(self, argv):
        if "/c-stdout" in argv:
            return self.pipes[self.does.count("kill") - 1]
        assert argv == ["cat", "/log"]
        return "".join(f"2026-01-01T00:00:00Z stdout F {line}\n" for line in self.log)

    def wait(self, seconds):
        if not self.does:
            self.log += self.quiet

    def kill(self):
        self.log += self.again if "kill" in self.does else self.killed
        self.does.append("kill")

    def start(self):
        self.log += self.returned if "start" in self.does else self.started
        self.does.append("start")


@pytest.fixture
def judged(monkeypatch):
    def judge(lab):
        monkeypatch.setattr(lesson_04, "HEARD_WITHIN_S", 0.0)
        monkeypatch.setattr(lesson_04.time, "sleep", lab.wait)
        return lesson_04.noticed(lab)

    return judge


@pytest.mark.parametrize(
    ("lab", "says"),
    [
        (Lab(there=False), "no Pod called watchman"),
        (Lab(state="Exited"), "a running container in watchman, which does not end"),
        (Lab(quiet=["away"]), "although containerd was running"),
        (Lab(), "watchman is in the node's network namespace, and printed nothing"),
        (Lab(net=OWN), "watchman is in a network namespace of its own"),
        (Lab(killed=["away"]), "the word back"),
        (Lab(started=["away", "back"], returned=[]), "started again twice"),
        (Lab(killed=["away", "back"], started=["away", "back"]), "away, back, away, back"),
        (Lab(started=["back", "away", "back"]), "back, away, back"),
        (Lab(started=["away", "back"], pipes=["away\nback\n"]), "killed once. Before it was back, watchman printed away, back"),
        (Lab(started=["away", "back"], pipes=["away\n", "away\nback\n"]), "killed twice. Before it was back, watchman"),
        (Lab(started=["away", "back"], pipes=[""]), "Before it was back, watchman printed nothing"),
        (Lab(pipes=[""]), "printed nothing. the word away after"),
    ],
)
def test_what_is_missing_is_said(judged, lab, says):
    verdict = judged(lab)
    assert not verdict.done and says in verdict.says


def test_both_words_in_order_are_done(judged):
    lab = Lab(started=["away", "back"])  # a log has nothing new before containerd is there to write it
    assert judged(lab).done and lab.does == ["kill", "start"] * 2


def test_the_second_time_containerd_is_down_longer_than_watchman_took(judged, monkeypatch):
    down = []
    monkeypatch.setattr(lesson_04, "printed_meanwhile", lambda node, pipes, begin, down_s: down.append(down_s) or ["away"])
    assert judged(Lab(started=["away", "back"])).done
    assert down[0] == 0.0 and down[1] >= lesson_04.LONGER_S


def test_a_word_at_the_start_is_no_word_too_many(judged):
    lab = Lab(started=["away", "back"])
    lab.wait = lambda seconds: lab.log.extend(["back"] if lab.log == ["hello"] else [])
    assert judged(lab).done


def test_containerd_is_started_again_whatever_happens(judged):
    lab = Lab()

    def fails():
        lab.does.append("kill")
        raise NodeError("interrupted", "")

    lab.daemon.kill = fails
    with pytest.raises(NodeError, match="interrupted"):
        judged(lab)
    assert lab.does == ["kill", "start"]


def test_a_pod_that_is_not_there_leaves_containerd_alone(judged):
    lab = Lab(there=False)
    judged(lab)
    assert lab.does == []
