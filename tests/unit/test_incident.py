"""The incident's seeds, state and verdicts, with faults that are made nowhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace as Thing
from typing import Any

import pytest

from labkit.cli import incident_command
from labkit.cli.__main__ import main
from labkit.course.incident import cells_noted, fault, making, node_faults, repair, session
from labkit.course.incident import incident_store as store
from labkit.course.incident.fault import EVERYWHERE, FAULTS, OWN, SEEDS, Fault, Scene, as_made, draw, named, possible, seed_of
from labkit.course.incident.result import Result
from labkit.node import Home, NodeError, NodeSelector
from labkit.node.host.access import ThisMachine
from labkit.node.kinds import discovery
from labkit.node.state import incident_note, unfinished
from tests.conftest import ROOT


class Cluster:
    """A cluster in which there is nothing, or the Pod that is `there`."""

    ledger = None

    def __init__(self) -> None:
        self.there: dict[str, Any] = {}
        self.kube = Thing(delete_collection_namespaced_event=lambda namespace, field_selector: None)

    def kubectl(self, *arguments: str) -> str:
        return json.dumps(self.there) if arguments[0] == "get" and arguments[2] == "orders" and self.there else ""

    def delete(self, *names: str, kind: str = "pod") -> str:
        return ""


class Paper(Fault):
    """A fault on paper. `log`: what was done with it."""

    name, cause, complaints = "paper", "A fault on paper.", ("It does not work.",)
    evidence, hints, taught = ("ink",), ("First.", "Second."), "notebook 05"
    log: tuple[str, ...] = ()
    fails: BaseException | None = None

    def make(self, scene: Scene) -> None:
        scene.kept["manifest"] = {"metadata": {"name": "orders"}, "spec": {"containers": []}}
        Paper.log += ("make",)
        if Paper.fails:
            raise Paper.fails

    def undo(self, scene: Scene) -> None:
        Paper.log += ("undo",)


class Other(Paper):
    name, cause = "other", "Another fault on paper."


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    monkeypatch.setattr(Paper, "log", ())
    monkeypatch.setattr(Paper, "fails", None)
    for name in list(FAULTS):
        monkeypatch.delitem(FAULTS, name)
    monkeypatch.setitem(FAULTS, "paper", Paper())
    monkeypatch.setitem(FAULTS, "other", Other())
    monkeypatch.setattr(repair, "trouble", lambda *_, **__: "The Pod orders is not ready.")
    return Home.find()


@pytest.fixture
def node() -> Any:
    daemon = Thing(start=lambda: None, since="one o'clock")
    return Thing(kind="containerd", name="sim-worker", cluster=Cluster(), daemon=daemon, selector=NodeSelector("containerd"))


# Seeds


@pytest.mark.parametrize("bad", ["", "seven", "-1", str(SEEDS), "1.5", None, True])
def test_what_is_no_seed_is_refused(bad: object) -> None:
    with pytest.raises(NodeError, match="is no seed"):
        seed_of(bad)


def test_a_seed_draws_the_same_fault_wherever_that_can_be_made() -> None:
    for seed in range(200):
        here = draw(seed, "containerd")
        for kind in EVERYWHERE:
            assert draw(seed, kind) is here or kind not in here.kinds


def test_seeds_reach_every_fault_of_every_kind_of_node() -> None:
    for kind in EVERYWHERE:
        assert {draw(seed, kind) for seed in range(1000)} == set(possible(kind))
    assert len(possible("kind")) >= 10


def test_a_seed_draws_the_same_fault_as_in_earlier_versions() -> None:
    """Teachers have noted them. A new fault takes some seeds of the others, which CHANGELOG.md has to say then."""
    noted = ["image-tag", "disk-full", "memory-limit", "volume-key", "cgroup-driver", "image-tag", "address-pool"]
    assert [draw(seed, "containerd").name for seed in range(1, 8)] == noted
    for seed in (3, 7):  # of notebook 08
        assert {draw(seed, kind).name for kind in EVERYWHERE} == {noted[seed - 1]}


def test_a_kind_of_node_that_can_have_no_fault_is_told_so() -> None:
    with pytest.raises(NodeError, match="no fault can be made"):
        draw(1, "cri")


def test_an_unknown_fault_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(NodeError, match=r"no fault 'gremlin'.*image-tag"):
        named("gremlin", "kind")
    with pytest.raises(NodeError, match="cannot be made on a node of kind kind"):
        named("cgroup-driver", "kind")


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_fault_says_what_it_needs_and_gives_nothing_away(name: str) -> None:
    each = FAULTS[name]
    assert each.cause.endswith(".") and len(each.hints) >= 2 and each.taught and each.evidence
    assert set(each.kinds) <= set(EVERYWHERE) and set(OWN) <= set(EVERYWHERE)
    assert not any(each.cause in text for text in (*each.complaints, *each.hints))
    assert not any(re.search(pattern, text, re.IGNORECASE) for pattern in each.evidence for text in each.complaints)


@pytest.mark.parametrize("kind", EVERYWHERE)
def test_no_complaint_gives_its_fault_away(kind: str) -> None:
    """Each fault has several, and each but one is that of several faults that the same node can have."""
    having: dict[str, set[str]] = {}
    for each in possible(kind):
        assert len(set(each.complaints)) >= 2 and all(text.endswith((".", "?")) for text in each.complaints)
        assert {each.complaint(seed) for seed in range(100)} == set(each.complaints)
        assert each.complaint(7) == each.complaint(7) and each.complaint(None) in each.complaints
        for text in each.complaints:
            having.setdefault(text, set()).add(each.name)
    assert [names for names in having.values() if len(names) < 2] == [{"memory-limit"}], having


def test_the_complaints_of_notebook_08_are_those_of_its_outputs() -> None:
    """Its prose and quizzes speak of seeds 7 and 3. What it shows was saved when these complaints were drawn."""
    cells = json.loads(next((ROOT / "notebooks").glob("08-*.ipynb")).read_text())["cells"]
    shown = "".join(str(cell.get("outputs")) for cell in cells)
    for seed in (7, 3):
        assert draw(seed, "containerd").complaint(seed) in shown


# An incident from its beginning to its end


def test_another_incident_is_refused_while_one_is_open(home: Home, node: Any) -> None:
    session.open_incident(node, 7, fault="paper")
    for seed, name in ((8, ""), (None, "other")):
        with pytest.raises(NodeError, match=r"One incident at a time: the incident of seed 7 is open.*end_incident"):
            session.open_incident(node, seed, fault=name)
    assert Paper.log == MADE


MADE = ("undo", "make")
"""A fault is made on a node from which what another one may have left is removed."""


def test_an_incident_is_neither_judged_nor_ended_from_another_node(home: Home, node: Any) -> None:
    incident = session.open_incident(node, 7, fault="paper")
    two = Thing(**{**vars(node), "name": "two"})
    incident.node = two
    for act in (lambda: session.open_incident(two), lambda: session.end_incident(two), incident.check):
        with pytest.raises(NodeError, match=r"open on sim-worker \(kind containerd\), which is another node than two"):
            act()
    assert Paper.log == MADE


def test_an_open_incident_goes_on_in_another_kernel(home: Home, node: Any) -> None:
    session.open_incident(node, 7, fault="paper").hint()
    again = session.open_incident(node, 7)
    assert "Second." in again.hint() and repr(again) == "The user says: “It does not work.”"
    assert Paper.log == MADE


def test_a_fault_that_went_with_the_node_is_made_again(home: Home, node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Paper, "lasts", False)
    incident = session.open_incident(node, 7, fault="paper")
    incident.check(cause="paper")
    node.daemon.since = "two o'clock"
    verdict = incident.check(evidence="ink")
    assert "made again" in verdict.saw and verdict.missing.startswith("evidence and repair.") and Paper.log == (*MADE, *MADE)
    assert incident.check(evidence="ink").missing.startswith("repair.") and Paper.log == (*MADE, *MADE)
    node.daemon.since = "three o'clock"
    making.go_on_alone(home, node)
    assert Paper.log == (*MADE, *MADE, *MADE) and store.load(home).found.keys() == {"cause", "evidence"}  # type: ignore[union-attr]
    monkeypatch.setattr(Paper, "lasts", True)
    node.daemon.since = "four o'clock"
    session.open_incident(node, 7)
    assert Paper.log == (*MADE, *MADE, *MADE)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), NodeError("It did not happen.", ""), SystemExit()])
def test_what_interrupts_the_making_undoes_it(
    home: Home, node: Any, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Paper, "fails", error)
    with pytest.raises(type(error)):
        session.open_incident(node, 7, fault="paper")
    assert Paper.log == (*MADE, "undo") and store.load(home) is None


def test_what_a_killed_kernel_has_half_made_is_undone_first(home: Home, node: Any) -> None:
    home.make()
    half = store.State(7, "paper", "containerd", "sim-worker", store.now())
    store.save(home, half)
    session.open_incident(node, fault="other")
    assert Paper.log == ("undo", *MADE)
    store.save(home, half)
    with pytest.raises(NodeError, match="was interrupted"):
        session.opened(home)
    assert "is undone" in session.end_incident(node) and Paper.log == ("undo", *MADE, "undo") and store.load(home) is None


def test_an_object_of_the_learners_is_not_taken_for_the_incidents(home: Home, node: Any) -> None:
    node.cluster.there = {"metadata": {"name": "orders", "labels": {"app": "mine"}}}
    with pytest.raises(NodeError, match="has a pod orders, which no incident made"):
        session.open_incident(node, fault="paper")
    assert Paper.log == ()


def test_one_process_at_a_time_makes_or_checks(home: Home, node: Any) -> None:
    with store.alone(home), pytest.raises(NodeError, match="Another notebook or command"):
        session.open_incident(node, 7)


def test_a_damaged_file_is_told_and_can_be_ended(home: Home, node: Any) -> None:
    home.make()
    good = {"seed": 7, "fault": "paper", "kind": "", "node": "", "begun": store.now(), "phase": "open"}
    damaged = ({}, {"seed": 7}, {**good, "begun": "now"}, {**good, "fault": "gremlin"}, {**good, "phase": "lost"})
    for text in (b"", b"{", *map(incident_note.encoded, damaged)):
        (home.data / incident_note.NAME).write_bytes(text)
        with pytest.raises(NodeError, match=r"cannot be read.*labkit incident end"):
            session.open_incident(node, 7)
        session.end_incident(node)
        assert store.load(home) is None
    assert set(Paper.log) == {"undo"}


# Verdicts


def test_each_state_has_a_verdict_of_its_own_and_none_gives_the_answer(
    home: Home, node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    incident = session.open_incident(node, 7, fault="paper")
    answers: list[dict[str, str]] = [{}, {"cause": "other"}, {"evidence": "ink"}, {"cause": "paper"}, {"evidence": "paper"}]
    verdicts = [incident.check(**each) for each in answers]
    missing = [each.missing.partition(".")[0] for each in verdicts]
    assert missing == ["cause and evidence and repair"] * 3 + ["evidence and repair"] * 2
    assert len({each.saw for each in verdicts}) == 5 and not any(each.hints for each in verdicts)
    assert [each.taught for each in verdicts] == [session.HELP] * 3 + ["notebook 05"] * 2
    assert not any(Paper.cause in str(each) or "ink" in str(each) for each in verdicts)
    monkeypatch.setattr(repair, "trouble", lambda *_, **__: "")
    last = incident.check(evidence="the ink on it")
    assert last.done and "90 of 100 points" in last.saw
    assert Paper.log == (*MADE, "undo") and incident.result().state.phase == "closed"
    assert incident.check().saw == last.saw  # the cell is run again
    with pytest.raises(NodeError, match="The incident is closed"):
        incident.hint()


def test_an_incident_that_was_ended_before_it_was_found_is_not_solved(home: Home, node: Any) -> None:
    incident = session.open_incident(node, 7, fault="paper")
    incident.check(cause="paper")
    incident.end()
    assert "Found was: cause" in incident.check().saw and not incident.check().done


def test_a_wrong_answer_costs_once_and_a_last_hint_nothing_again(home: Home, node: Any) -> None:
    incident = session.open_incident(node, 7, fault="paper")
    for _ in range(3):
        incident.check(cause="other")
        incident.hint()
    incident.check(cause="other", evidence="no ink in it")  # evidence is judged with its cause, so this costs nothing again
    incident.check(cause="paper")
    state = incident.result().state
    assert (state.hints, state.wrong, state.points) == (2, ["cause other"], 15)
    assert "costs nothing" in incident.hint()


def test_an_unknown_cause_and_a_whole_log_as_evidence_are_refused(home: Home, node: Any) -> None:
    incident = session.open_incident(node, 7, fault="paper")
    for unknown in ("gremlin", 7, ["paper"]):
        with pytest.raises(NodeError, match=r"no cause .*other, paper"):
            incident.check(cause=unknown)  # type: ignore[arg-type]
    with pytest.raises(NodeError, match="has 4999 letters"):
        incident.check(evidence="ink " * 1250)
    assert incident.result().state.wrong == []


def pod(**spec: Any) -> dict[str, Any]:
    web = {"name": "web", "image": "registry.lab/busybox:1", "command": ["httpd"], **spec.pop("web", {})}
    return {"metadata": {"name": "orders", "uid": "1", "labels": {}}, "spec": {"containers": [web], **spec}, "status": {}}


def test_a_pod_is_made_again_without_what_the_cluster_filled_in() -> None:
    token = {"name": "kube-api-access-x", "mountPath": "/t"}
    found = pod(web={"volumeMounts": [token, {"name": "own", "mountPath": "/own"}]}, nodeName="n", serviceAccountName="default",
                volumes=[{"name": "kube-api-access-x"}, {"name": "own"}])
    made = as_made(found)
    assert made["spec"]["volumes"] == [{"name": "own"}] and "nodeName" not in made["spec"] and "status" not in made
    assert made["spec"]["containers"][0]["volumeMounts"] == [{"name": "own", "mountPath": "/own"}]


def test_a_pod_that_was_deleted_gets_a_sentence(node: Any) -> None:
    assert "incident.manifest()" in repair.trouble(Scene(node, {"manifest": pod()}), Paper())


# The journal and the page


def test_the_journal_has_what_was_done_while_the_incident_was_open(home: Home, node: Any) -> None:
    store.note(home, "shell", "before")
    incident = session.open_incident(node, 7, fault="paper")
    store.note(home, "shell", "labkit kubectl get pods <b>")
    incident.check(cause="paper")
    incident.end()
    store.note(home, "shell", "after")
    result = incident.result()
    assert [entry["text"] for entry in result.journal] == ["labkit kubectl get pods <b>"]
    page = result.page()
    assert "labkit kubectl get pods &lt;b&gt;" in page and "class=found" in page
    assert "http" not in page.replace(' xmlns="http://www.w3.org/2000/svg"', "")
    assert page.count("<svg") == 1 and 'aria-label="An incident over time: found: cause after 1 command."' in page
    assert "A fault on paper." in page and result.report()["points"] == 40


def test_the_page_marks_hints_wrong_answers_and_errors_and_hides_passwords(
    home: Home, node: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    incident = session.open_incident(node, 7, fault="paper")
    incident.hint()
    incident.check(cause="other")
    store.note(home, "notebook", "kubectl create secret docker-registry x --docker-password=container --docker-username=me")
    assert main(["incident", "--seed", "x"]) == 1
    result = incident.result()
    rows = [(where, text) for _, where, text in result.rows()]
    assert rows[:2] == [("hint", "hint 1 of 2: First."), ("wrong answer", "cause other")]
    assert rows[-1][0] == "error" and "is no seed" in rows[-1][1] and "is no seed" in capsys.readouterr().err
    assert "container" not in result.text().partition("\n\n")[2] and "--docker-password=…" in result.page()
    assert result.page().count("class=marked") == 3


@pytest.mark.parametrize(("text", "left"), [
    ("--docker-password=container -n x", "--docker-password=… -n x"),
    ('("--docker-password", "container")', '("--docker-password", …)'),
    ("{'password': 'a b', 'user': 'me'}", "{'password': …, 'user': 'me'}"), ('{"auth": "bGU="}', '{"auth": …}'),
    ("ctr pull -u me:secret r/x:1", "ctr pull -u me:… r/x:1"), ("https://me:pw@host:5000/x", "https://me:…@host:5000/x"),
    ("http://host:5000/x", "http://host:5000/x"), ("kubectl get secret orders-login", "kubectl get secret orders-login"),
    ("401 Unauthorized", "401 Unauthorized"),
])
def test_a_password_is_left_out(text: str, left: str) -> None:
    assert store.without_secrets(text) == left


class Shell:
    """IPython's shell, as far as cells are noted."""

    def __init__(self, *cells: str) -> None:
        self.user_ns, self.events, self.called = {"In": ["", *cells]}, self, dict[str, Any]()

    def register(self, event: str, call: Any) -> None:
        self.called[event] = call

    def run(self, cell: str, error: BaseException | None = None) -> None:
        self.called["pre_run_cell"](Thing(raw_cell=cell))
        self.called["post_run_cell"](Thing(error_before_exec=None, error_in_exec=error))


def test_a_cell_is_noted_when_it_begins_and_its_error_when_it_ends(home: Home, node: Any) -> None:
    incident, shell = session.open_incident(node, 7, fault="paper"), Shell("node = labkit.connect()", "open it")
    cells_noted.watch(home, True, shell)
    shell.run("1 / 0", ZeroDivisionError("division by zero"))
    for noise in ('guess = labkit.predict("08.old")\nguess', "guess.seen(\n  'yes')", "guess"):
        shell.run(noise)
    shell.run("cluster.delete('x')\nguess.seen('yes')")
    incident.end()
    shell.run("after")
    texts = [(entry["where"], entry["text"].split("\n")[0]) for entry in incident.result().journal]
    assert texts == [("notebook", "open it"), ("notebook", "1 / 0"), ("error", "ZeroDivisionError: division by zero"),
                     ("notebook", "cluster.delete('x')")]


def test_the_cells_before_an_incident_goes_on_in_another_kernel_belong_to_it(home: Home, node: Any) -> None:
    session.open_incident(node, 7, fault="paper")
    shell = Shell("node = labkit.connect()", "incident = labkit.open_incident(node)")
    cells_noted.watch(home, False, shell)
    cells_noted.watch(home, False, shell)
    assert [entry["text"] for entry in store.journal(home)] == shell.user_ns["In"][1:]


def test_a_draw_without_a_seed_prefers_what_was_not_met_then_what_was_met_longest_ago(home: Home, node: Any) -> None:
    home.make()
    drawn = []
    for _ in range(6):
        incident = session.open_incident(node)
        drawn.append(incident.result().state.fault)
        incident.end()
    assert set(drawn[:2]) == {"paper", "other"} and drawn[:2] == drawn[2:4] == drawn[4:]
    assert store.met(home) == drawn[-2:]
    (home.data / store.MET).write_text("{")
    assert store.met(home) == []


def test_the_events_of_an_incidents_pods_are_removed(home: Home, node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Other, "neighbours", {"first-come": ()})
    selectors: list[str] = []
    node.cluster.kube.delete_collection_namespaced_event = lambda _, field_selector: selectors.append(field_selector)
    session.open_incident(node, fault="paper")
    session.end_incident(node)
    each = [f"involvedObject.kind=Pod,involvedObject.name={name}" for name in ("first-come", "orders", "orders-next")]
    assert selectors == each * 2


def test_the_command_line_has_the_manifest_and_says_that_the_node_is_down(
    home: Home, node: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session.open_incident(node, 7, fault="paper")
    assert main(["incident", "manifest"]) == 0 and "name: orders" in capsys.readouterr().out
    assert main(["incident", "manifest", "--pod", "x"]) == 1 and "has no Pod 'x'" in capsys.readouterr().err
    for state, is_said in (("down", True), ("ready", False)):
        monkeypatch.setattr(discovery, "report", lambda home, wanted, state=state: {"state": state})
        assert main(["incident"]) == 0 and ("sim-worker is down" in capsys.readouterr().out) is is_said
    with pytest.raises(SystemExit):
        main(["incident", "--help"])
    told = capsys.readouterr().out
    assert "faults" not in told and "--seeds" not in told


def test_who_asks_for_the_seeds_of_faults_is_noted(
    home: Home, node: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The faults that there are do not say which seed draws which. The note outlives the incident and the draws after it."""
    monkeypatch.setattr(discovery, "resolve", lambda wanted, home: NodeSelector("containerd"))
    seeds = {name: next(seed for seed in range(99) if draw(seed, "containerd").name == name) for name in ("paper", "other")}
    assert main(["incident", "faults", "--json"]) == 0
    assert [*map(dict.keys, json.loads(capsys.readouterr().out))] == [{"name", "cause"}] * 2
    session.open_incident(node, 7)
    assert Result(home, store.load(home)).report()["seeds_listed"] == ""
    assert main(["incident", "faults", "--seeds", "--json"]) == 0
    output = capsys.readouterr()
    assert {row["name"]: row["seed"] for row in json.loads(output.out)} == seeds
    assert "say that the seeds were listed" in output.err
    session.end_incident(node)
    session.open_incident(node, 8)
    result = Result(home, store.load(home))
    assert result.report()["seeds_listed"] and "Seeds and their faults" in result.page() and len(store.met(home)) >= 1


def test_a_second_incident_and_one_on_another_kind_of_node_start_no_node(
    home: Home, node: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session.open_incident(node, 7, fault="paper")
    monkeypatch.delattr(incident_command, "connect")
    kinds = {"auto": "containerd"}
    monkeypatch.setattr(discovery, "resolve", lambda wanted, home: NodeSelector(kinds.get(wanted.kind, wanted.kind)))
    for words, says in ((["--seed", "8"], "seed 7 is open"), (["start", "--fault", "other"], "seed 7 is open"),
                        (["start", "--node", "vm"], "open on a node of kind containerd")):
        assert main(["incident", *words]) == 1
        assert says in capsys.readouterr().err


def test_the_networks_files_are_as_before_whatever_the_learner_has_made_of_them(tmp_path: Path) -> None:
    (tmp_path / "10-lab.conflist").write_text("before\n")
    (tmp_path / "notes.txt").write_text("hers\n")
    scene = Scene(Thing(host=ThisMachine(), cni=Thing(directory=str(tmp_path), repair=lambda: "")))  # type: ignore[arg-type]
    network = node_faults.NetworkFault()
    network.remember(scene)
    for damage in (lambda file: file.write_text("hers\n"), Path.unlink, lambda file: None):
        damage(tmp_path / "10-lab.conflist")
        network.undo(scene)
        assert (tmp_path / "10-lab.conflist").read_text() == "before\n" and (tmp_path / "notes.txt").read_text() == "hers\n"
    assert scene.kept["network"] == {"10-lab.conflist": "before\n"}


def test_what_has_not_the_incidents_label_is_not_removed_where_nothing_is_known(home: Home, node: Any) -> None:
    deleted: list[tuple[str, ...]] = []
    node.cluster.delete = lambda *names, kind="pod": deleted.append((kind, *names))
    session.end_incident(node)
    assert deleted == []
    session.open_incident(node, 7, fault="paper").end()
    assert deleted == [("pod", "orders")]


def test_the_file_does_not_show_the_fault_to_who_looks_at_it(home: Home, node: Any) -> None:
    session.open_incident(node, 7, fault="paper")
    texts = [file.read_text() for file in home.data.iterdir() if file.is_file()]
    assert texts and not any("paper" in text for text in texts)


def test_an_open_incident_is_all_that_status_and_connect_say_of_its_node(
    home: Home, node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready: dict[str, Any] = {"node": "containerd", "state": "ready", "endpoint": "e", "pid": 1, "since": "s", "runtime": {}}
    ready["processes"] = {"containerd": 2}
    stopped = {**ready, "state": "stopped", "processes": {}}
    assert incident_note.veiled(home, stopped) == stopped
    session.open_incident(node, 7, fault="paper")
    veiled = incident_note.veiled(home, ready)
    assert veiled["state"] == "incident" and incident_note.veiled(home, stopped) == veiled
    assert incident_note.veiled(home, {**ready, "node": "vm"})["state"] == "ready"
    assert incident_note.veiled(home, {**ready, "state": "down"})["state"] == "down"
    node.lesson = "05"
    assert unfinished.of_incident(node) and not unfinished.of_incident(Thing(**{**vars(node), "lesson": "08"}))
    session.end_incident(node)
    assert incident_note.veiled(home, stopped) == stopped and not unfinished.of_incident(node)


def test_only_the_kind_of_node_that_it_is_on_is_held(home: Home, node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Paper, "holds", (incident_note.RUNTIME,))
    session.open_incident(node, 7, fault="paper")
    holds = [incident_note.holds(home, what, kind) for what in ("runtime", "network") for kind in ("containerd", "vm")]
    assert holds == [True, False, False, False]
    session.end_incident(node)
    assert not incident_note.holds(home, "runtime", "containerd")


def test_an_open_incidents_result_does_not_name_the_fault(home: Home, node: Any) -> None:
    session.open_incident(node, 7, fault="paper")
    result = Result(home, store.load(home))
    for text in (result.text(), result.page(), json.dumps(result.report())):
        assert Paper.cause not in text and '"fault"' not in text


def test_a_command_of_labkits_is_noted(home: Home, node: Any, capsys: pytest.CaptureFixture[str]) -> None:
    session.open_incident(node, 7, fault="paper")
    assert main(["incident", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["commands"][0]["text"] == "labkit incident status --json"


def test_bad_words_on_the_command_line_are_one_sentence_and_start_no_node(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(incident_command, "connect")
    kinds = {"auto": "containerd"}
    monkeypatch.setattr(discovery, "resolve", lambda wanted, home: NodeSelector(kinds.get(wanted.kind, wanted.kind)))
    for words, says in ((["--seed", "x"], "is no seed"), (["--seed", ""], "is no seed"), (["check"], "No incident is open"),
                        (["hint"], "No incident is open"), (["report"], "There was no incident"),
                        (["--fault", "gremlin"], "no fault 'gremlin'"), (["start", "--fault", "gremlin"], "no fault 'gremlin'"),
                        (["start", "--node", "cri:unix:///run/x.sock"], "no fault can be made"),
                        (["--node", "gremlin"], "no kind of node")):
        assert main(["incident", *words]) == 1
        assert says in capsys.readouterr().err


def test_the_labels_name_is_the_ledgers() -> None:
    assert fault.INCIDENT == "labkit.incident"
