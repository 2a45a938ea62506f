"""Each option of each question is what some state of a node reports.

The notebook's own verdict is run, from its cell, on what its code measures in that state. States that a node cannot be brought to
cheaply are among them (a runtime that answers in another version, a kernel that kills for CPU time). So this holds the verdicts,
and tests/notebooks holds what this machine's node shows.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator, Mapping
from functools import cache
from types import SimpleNamespace as Thing
from typing import Any

import pytest

from authoring.lesson import find, lessons
from labkit.course import measures
from labkit.course.answer import Verdict
from labkit.course.order import Order
from labkit.course.predict import Prediction
from labkit.course.quiz import Question, quiz

State = Mapping[str, Any]


class Shell:
    """In place of a node: of what a verdict asks, which processes run, and the listening socket's process."""

    def __init__(self, running: tuple[int, ...] = (), pod: Any = None, listener: int = 2) -> None:
        self._running, self._pod, self._listener = running, pod, listener
        self.daemon = Thing(kill=lambda: None)

    def runs(self, pid: int) -> bool:
        return pid in self._running

    def pod(self, _: object) -> Any:
        return self._pod

    def pods(self, others: bool = False) -> list[Any]:
        return [self._pod] if self._pod else []

    def listener(self) -> Any:
        return Thing(pid=self._listener)

    def shims(self) -> list[Any]:
        return []


def processes(*roles: str, **more: Any) -> Any:
    return Thing(processes=[Thing(pid=n, role=role, ppid=0, container=None) for n, role in enumerate(roles, 10)], **more)


def container(name: str, state: str = "Running", pid: int = 1) -> Any:
    return Thing(name=name, state=state, pid=pid)


def pod_with_namespaces(*shared: str) -> Any:
    """Two applications that are together in these namespaces, and not with the node (whose numbers are below 10)."""
    kinds = ("net", "ipc", "uts", "mnt")
    apps = [{kind: 100 if kind in shared else 200 + n for kind in kinds} for n in range(2)]
    return Thing(name="shop", processes=[Thing(role="application", namespaces=spaces) for spaces in apps])


def ps(*commands: str) -> bytes:
    return "\n".join(["PID COMMAND", *(f"{n} {name}" for n, name in enumerate(commands, 1))]).encode()


def executing(said: bytes) -> Any:
    return Thing(cri=Thing(exec_sync=lambda **_: Thing(stdout=said)))


def flight(*parts: tuple[int, str, int | None, int | None], source: str = "proc connector") -> Any:
    """pid, role, from and to of each process."""
    return Thing(processes=[Thing(pid=p, role=r, from_ns=a, to_ns=b) for p, r, a, b in parts], source=source)


def calls(pod: str, *methods: str) -> Any:
    return Thing(calls=[Thing(pod=pod, asks=False, method=method) for method in methods])


def statuses(**of: str) -> Any:
    return Thing(status=lambda name: of[name])


def web(*names: str) -> Any:
    """The Pod web with containers in these states: "sleep Running"."""
    made = [container(*name.split()) for name in names]
    return Thing(name="web", containers=made, processes=[Thing(role="pause", pid=5, ppid=1)])


def pinned(*types: str) -> State:
    return {"alone": [Thing(pinned=[Thing(type=each) for each in types])]}


NONE_LOST = {"grows": False, "earlier": ["1"], "logged": lambda: ["1", "2", "3"]}
TABLE: dict[str, dict[str, State]] = {
    "00.who": {"no": {"listed": "srw-rw---- 1 root root"}, "yes": {"listed": "srw-rw-rw- 1 root root"}},
    "00.version": {
        "the same": {"answer": Thing(runtime_version="1.6.20"), "printed": "containerd 1.6.20"},
        "another": {"answer": Thing(runtime_version="2.0.0"), "printed": "containerd 1.6.20"},
    },
    "00.processes": {
        "one": {"pod": processes("application")},
        "two": {"pod": processes("shim", "application")},
        "three or more": {"pod": processes("shim", "pause", "application")},
    },
    "00.bootid": {
        "the same": {"inside": "a", "boot_id": 0, "node": Thing(shell=lambda _: "a")},
        "another": {"inside": "a", "boot_id": 0, "node": Thing(shell=lambda _: "b")},
    },
    "00.removed": {
        "none": {"left": []}, "the shim": {"left": ["shim"]}, "the pause and the shim": {"left": ["shim", "pause"]},
    },
    "01.never": {
        "the image": {"sent": "COLOUR 67108864 httpGet", "image": "busybox"},
        "the variable COLOUR": {"sent": "busybox 67108864 httpGet", "image": "busybox"},
        "the memory limit": {"sent": "busybox COLOUR httpGet", "image": "busybox"},
        "the readiness probe": {"sent": "busybox COLOUR 67108864", "image": "busybox"},
    },
    "01.ended": {
        gone: {"node": Thing(processes=lambda left=left: processes(*left, "pause").processes)}
        for gone, left in (("runc", ["containerd", "shim"]), ("shim", ["containerd", "runc"]), ("containerd", ["shim", "runc"]))
    },
    "01.crash": {
        "has exited, and nobody has started it again": {"states": ["CONTAINER_EXITED"]},
        "runs again, started by the runtime": {"states": ["CONTAINER_EXITED", "CONTAINER_RUNNING"]},
    },
    "01.every-rpc": {"yes": {"answered": {"Version": True}}, "no": {"answered": {"Version": True, "StreamContainers": False}}},
    "01.v2": {
        "it answers in v1": {"status": "answered in v1"}, "it answers UNIMPLEMENTED": {"status": "UNIMPLEMENTED"},
        "it does not answer": {"status": "DEADLINE_EXCEEDED"},
    },
    "01.other-version": {"none": {"worked": {"1.6": True, "1.7": True}}, "some": {"worked": {"1.6": True, "1.7": False}}},
    "02.sandbox": {"none": {"pod": processes()}, "one": {"pod": processes("shim")}, "two": {"pod": processes("shim", "pause")}},
    "02.start": {
        "PullImage": {"pulled": 3, "created": 3, "started": 3}, "CreateContainer": {"pulled": 2, "created": 3, "started": 3},
        "StartContainer": {"pulled": 2, "created": 2, "started": 3},
    },
    "02.child": {
        "the child of the pause": {"roles": {7: "pause"}, "child": Thing(ppid=7)},
        "the child of the shim": {"roles": {7: "shim"}, "child": Thing(ppid=7)},
        "the child of containerd": {"roles": {7: "shim"}, "child": Thing(ppid=2)},
    },
    "02.shared": {
        answer: {"before": [pod_with_namespaces(*kinds)], "host": dict.fromkeys(("net", "ipc", "uts", "mnt"), 1),
                 "labkit": Thing(shared_namespaces=measures.shared_namespaces)}
        for answer, kinds in (("net", ["net"]), ("net and ipc", ["net", "ipc"]), ("net, ipc and uts", ["net", "ipc", "uts"]),
                              ("net, ipc, uts and mnt", ["net", "ipc", "uts", "mnt"]))
    },
    "02.crash": {
        answer: {"address": lambda _: "10.88.0.2/16", "web_id": "", "old_address": old}
        for answer, old in (("no", "10.88.0.2/16"), ("yes", "10.88.0.9/16"))
    },
    "02.pid1": {
        "pause": {"table": ps("pause", "httpd", "sleep").decode()}, "web": {"table": ps("httpd", "sleep").decode()},
        "sidecar": {"table": ps("sleep", "httpd").decode()}, "each container its own": {"table": ps("sleep", "ps").decode()},
    },
    "02.pause": {
        "they die with it": {"after": [web("web Exited", "sidecar Exited")], "before": [processes("pause")]},
        "they run on, and reach each other": {"after": [web("web", "sidecar")], "before": [processes("pause")],
                                              "node": executing(b"It works"), "sidecar_id": "", "wget": []},
        "they run on, but cannot reach each other": {"after": [web("web", "sidecar")], "before": [processes("pause")],
                                                     "node": executing(b""), "sidecar_id": "", "wget": []},
    },
    "02.left": {"none of them": pinned(), "net": pinned("net"), "all three": pinned("net", "ipc", "uts")},
    "02.repair": {"yes": {"answer": "yes"}, "no": {"answer": "no"}},
    "02.reborn": {"yes": {"same": False}, "no": {"same": True}},
    "03.many": {"up to 3": {"started": 3}, "4 to 9": {"started": 9}, "10 or more": {"started": 10}},
    "03.parent": {
        answer: {"roles": {7: answer}, "app": Thing(ppid=7)} for answer in ("the shim", "process 1 of the node", "the pause")
    },
    "03.exec": {
        "the Pod's shim, by way of runc": {"chain": "shim → runc"}, "a new shim": {"chain": "containerd → shim"},
        "httpd, whose container it is": {"chain": "application → exec"}, "containerd itself": {"chain": "containerd → runc"},
    },
    "03.end": {"SIGTERM": {"status": Thing(exit_code=143)}, "SIGKILL": {"status": Thing(exit_code=137)}},
    "04.parent": {
        answer: {"before": [Thing(ppid=parent)], "pod": processes("pause"), "node": Shell(listener=2)}
        for answer, parent in (("containerd", 2), ("the pause", 10), ("neither of them", 1))
    },
    "04.kill": {
        "nothing": {"back": 5, "load": Thing(failed=[])},
        "errors until containerd is back": {"back": 5, "load": Thing(failed=[Thing(at_ns=4)])},
        "errors that last after containerd is back": {"back": 5, "load": Thing(failed=[Thing(at_ns=6)])},
    },
    "04.log": {
        "they are in the log file at once": {**NONE_LOST, "grows": True}, "they are in the log file later": NONE_LOST,
        "they are lost": {**NONE_LOST, "logged": lambda: ["1", "7", "8"]},
    },
    "04.upgrade": {
        answer: {"now": {"server": now, "scribe": 2}, "server": container("server", pid=1), "scribe": container("scribe", pid=2),
                 "load": Thing(failed=failed)}
        for answer, now, failed in (("they are restarted", 9, []), ("they run on, and some requests fail", 1, [1]),
                                    ("they run on, and no request fails", 1, []))
    },
    "04.shim": {
        "it runs on": {"flight": flight((7, "application", None, None)), "app": 7},
        "containerd ends it": {"flight": flight((8, "runc", 1, 2), (7, "application", None, 3)), "app": 7},
        "the kernel ends it": {"flight": flight((7, "application", None, 3)), "app": 7},
    },
    "04.shim-alone": {"it runs on": {"node": Shell((7,)), "app": 7}, "it ends": {"node": Shell(), "app": 7}},
    "04.flood": {
        "it writes all of it": {"node": Shell((7,)), "flood": Thing(pid=7), "kib": 1024},
        "it stops in the middle": {"node": Shell((7,)), "flood": Thing(pid=7), "kib": 68},
        "it fails": {"node": Shell(), "flood": Thing(pid=7), "kib": 68},
    },
    **{name: {answer: {"status": Thing(exit_code=code)} for answer, code in (("3", 3), ("255", 255), ("another one", 0))}
       for name in ("04.code", "04.code-again")},
    "05.last-call": {
        method: {"flight": calls("fine", method)} for method in ("RunPodSandbox", "CreateContainer", "StartContainer")
    },
    "05.typo": {
        "ContainerCreating": {"status": "ContainerCreating"}, "ErrImagePull": {"status": "ImagePullBackOff"},
        "CrashLoopBackOff": {"status": "CrashLoopBackOff"},
    },
    "05.mount": {
        "none": {"flight": calls("unconfigured"), "heard": True},
        "only RunPodSandbox": {"flight": calls("unconfigured", "RunPodSandbox"), "heard": True},
        "more than RunPodSandbox": {"flight": calls("unconfigured", "RunPodSandbox", "PullImage"), "heard": True},
    },
    "05.ready": {answer: {"ready": lambda answer=answer: answer} for answer in ("Ready", "NotReady")},
    "05.claim": {
        answer: {"cluster": Thing(warnings=lambda _, source=source: [Thing(source=source)])}
        for answer, source in (("the scheduler", "default-scheduler"), ("the kubelet", "kubelet"),
                               ("another controller", "persistentvolume-controller"))
    },
    "05.repair": {
        answer: {"runs": runs, "address": "10.88.0.2", "node": Shell(pod=Thing(ip=ip))}
        for answer, runs, ip in (("it runs, with its old address", True, "10.88.0.2"),
                                 ("it runs, with a new address", True, "10.88.0.3"), ("it stays stuck", False, "10.88.0.2"))
    },
    "05.password": {
        "STATUS": {"status": "CreateContainerError", "found": [True, False]},
        "the message of the event": {"status": "ErrImagePull", "found": [True, False]},
        "neither of them": {"status": "ErrImagePull", "found": [True, True]},
    },
    "06.allocatable": {"the same": {"less": 0}, "less by 250m": {"less": 250}, "less by what it uses": {"less": 3}},
    "06.greedy": {"it waits": {"status": "Pending"}, "it runs": {"status": "Running"}, "it fails": {"status": "OutOfcpu"}},
    "06.cpu": {
        "it kills it": {"alive": False, "slowed": True}, "it slows it down": {"alive": True, "slowed": True},
        "nothing": {"alive": True, "slowed": False},
    },
    "06.memory": {"it kills it": {"ended": True}, "it slows it down": {"ended": False}},
    "06.room": {"it runs": {"runs": True}, "it waits until it is created again": {"runs": False}},
    "07.rounds": {answer: {"steps": [("start", "main", 0)] * count} for answer, count in (("1", 1), ("2", 2), ("more", 3))},
    "07.app": {
        "nothing": {"steps": []}, "start main": {"steps": [("start", "main", 1)]},
        "run sandbox, start main": {"steps": [("run", "sandbox", 1), ("start", "main", 1)]},
    },
    "07.pause": {
        "nothing": {"steps": [], "pauses": [5]}, "start main": {"steps": [("start", "main", 1)], "pauses": [5]},
        "run sandbox, start main": {"steps": [("run", "sandbox", 1), ("start", "main", 1)], "pauses": [5]},
    },
    "07.unwanted": {
        "it leaves it alone": {"node": Shell(pod=web("main"))},
        "it ends only its containers": {"node": Shell(pod=web("main Exited"))},
        "it stops and removes it": {"node": Shell()},
    },
    "07.crash": {answer: {"starts": lambda n=n: n} for answer, n in (("once", 1), ("twice", 2), ("again and again", 3))},
    "07.other": {
        "the same, in the same order": {"yours": ["a", "b"], "theirs": ["a", "b"]},
        "the same, in another order": {"yours": ["a", "b"], "theirs": ["b", "a"]},
        "other calls": {"yours": ["a", "b"], "theirs": ["a", "c"]},
    },
    "08.old": {answer: {"answers": lambda _, well=well: well}
               for answer, well in (("it answers", True), ("it does not answer", False))},
    "08.far": {
        "it has no sandbox": {"node": Shell()},
        "it has a sandbox": {"node": Shell(pod=Thing(name="orders", state="Ready", containers=[]))},
        "it has a container": {"node": Shell(pod=Thing(name="orders", state="Ready", containers=[1]))},
    },
    "08.free": {"it runs": {"runs": True}, "it stays as it is": {"runs": False}},
    "08.holds": {answer: {"verdict": Thing(done=done)} for answer, done in (("yes", True), ("no", False))},
}
"""Of each question, each option with a state in which the notebook's code reports it: what its names hold then."""

ROWS = [(question, option) for question, states in TABLE.items() for option in states]


@cache
def questions(lesson: str) -> dict[str, Question]:
    return quiz(find(lesson).quiz)


@cache
def code(lesson: str) -> list[ast.Module]:
    return [ast.parse(cell.source) for cell in find(lesson).code]


def verdict_cell(question: str) -> tuple[str, ast.Module]:
    """The name to which the notebook gives the question, and the cell that answers it."""
    cells = code(question[:2])
    [name] = [
        node.targets[0].id
        for tree in cells
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and ast.unparse(node.value) in (f"labkit.predict('{question}')", f"labkit.predict_order('{question}')")
    ]
    [cell] = [tree for tree in cells if any(answers(node, name) for node in ast.walk(tree))]
    return name, cell


def answers(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == f"{name}.seen"


def reported(question: str, state: State) -> str:
    """What the cell's own code answers in that state. What the state holds already is not measured, and no Pod is made."""
    name, cell = verdict_cell(question)
    asked = Prediction(questions(question[:2])[question])
    heard: list[str] = []
    names = {**state, name: Thing(options=asked.options, seen=lambda answer: heard.append(answer), unseen=heard.append)}
    for statement in computed(cell, name, set(state)):
        exec(compile(ast.Module([statement], []), question, "exec"), names)
    assert isinstance(asked.seen(heard[0]), Verdict)
    return heard[0]


def computed(cell: ast.Module, name: str, measured: set[str]) -> Iterator[ast.stmt]:
    """The statements that turn what was measured into the answer: those that need nothing else."""
    known = measured
    for statement in cell.body:
        if any(answers(node, name) for node in ast.walk(statement)):
            yield statement
        elif isinstance(statement, ast.Assign | ast.AugAssign | ast.If):
            stored = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
            loops = [c.target for c in ast.walk(statement) if isinstance(c, ast.comprehension)]
            bound = stored - {n.id for target in loops for n in ast.walk(target) if isinstance(n, ast.Name)}
            read = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
            if not bound & measured and read - stored <= known | {name, *dir(builtins)}:
                known = known | bound
                yield statement


@pytest.mark.parametrize(("question", "option"), ROWS, ids=[f"{q}: {o}" for q, o in ROWS])
def test_each_option_is_what_some_state_reports(question: str, option: str) -> None:
    assert reported(question, TABLE[question][option]) == option


def test_the_table_has_every_option_of_every_question() -> None:
    asked = {name: question for lesson in lessons() for name, question in quiz(lesson.quiz).items()}
    options = {name: sorted(option.answer for option in each.options) for name, each in asked.items() if each.options}
    assert {name: sorted(states) for name, states in TABLE.items()} == options


def test_an_order_is_reported_as_it_was_seen() -> None:
    orders = [each for lesson in lessons() for each in quiz(lesson.quiz).values() if each.steps]
    assert [each.id for each in orders] == ["03.steps"]
    for question in orders:
        for order in (question.steps, question.steps[::-1], question.steps[:3]):
            assert repr(Order(question).seen(order)).splitlines()[1 : len(order) + 1] == [
                f"{n}. {step}" for n, step in enumerate(order, 1)
            ]


def test_what_no_option_says_is_reported_all_the_same() -> None:
    asked = Prediction(quiz(find("05").quiz)["05.typo"])
    asked.choose("ContainerCreating")
    said = repr(asked.seen("CreateContainerError"))
    assert said.startswith("Seen: CreateContainerError. You predicted ContainerCreating.")
    assert "None of the options says what your node showed." in said
    assert "The node on which this notebook was written showed: ErrImagePull." in said
