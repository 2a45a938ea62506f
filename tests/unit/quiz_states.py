"""States of a node in which a notebook's cell reports an option of its question: what that cell reads, for each option."""

from __future__ import annotations

from types import SimpleNamespace as Some
from typing import Any
from unittest.mock import MagicMock

from labkit.course.measures import shared_namespaces
from labkit.cri import CriError
from labkit.node import NodeError

State = dict[str, Any]


def node(**more: Any) -> MagicMock:
    return MagicMock(**{"pods.return_value": [], **more})


def process(role: str, pid: int = 9, ppid: int = 8, **more: Any) -> Some:
    return Some(role=role, pid=pid, ppid=ppid, **{"from_ns": None, "to_ns": None, "container": None, **more})


def pod(*roles: str, containers: tuple[Any, ...] = (), **more: Any) -> Some:
    return Some(processes=[process(role) for role in roles], containers=containers, name="web", **more)


def container(name: str, state: str = "Running", pid: int = 1) -> Some:
    return Some(name=name, state=state, pid=pid)


def counts(*numbers: int) -> MagicMock:
    """A node whose Pod has so many processes, call after call."""
    return node(**{"pod.side_effect": [Some(processes=[None] * number) for number in numbers]})


def parent_of(pid: int) -> MagicMock:
    """A node whose Pod has a pause 2, a shim 3, and a process of sidecar below `pid`."""
    processes = [process("pause", 2), process("shim", 3), process("application", 4, pid, container="sidecar")]
    return node(**{"pod.return_value": Some(processes=processes)})


def ps(*lines: str) -> State:
    text = "\n".join(["PID COMMAND", *lines])
    return {"family": MagicMock(), "node": node(**{"cri.exec_sync.return_value.stdout.decode.return_value": text})}


def killed_pause(*alive: str, page: bytes = b"") -> State:
    after = [pod(containers=tuple(map(container, alive)))]
    return {
        "after": after,
        "before": [pod("pause")],
        "sidecar_id": "",
        "wget": [],
        "node": node(**{"cri.exec_sync.return_value.stdout": page}),
    }


def pinned(*types: str) -> State:
    return {"alone": [Some(pinned=[Some(type=each) for each in types])]}


def shares(*types: str) -> State:
    """Two containers that have these namespaces in common, and a node that has others."""
    kinds = ("net", "ipc", "uts", "mnt", "pid")
    own = [{kind: 1 if kind in types else number for kind in kinds} for number in (2, 3)]
    processes = tuple(process("application", namespaces=each) for each in own)
    return {"before": [pod_of(processes)], "host": dict.fromkeys(kinds, 0), "labkit": lab(shared_namespaces=shared_namespaces)}


def pod_of(processes: tuple[Any, ...]) -> Some:
    return Some(processes=processes, containers=(), name="shop")


def exits(code: int) -> State:
    return {"node": node(**{"cri.container_status.return_value.status": Some(exit_code=code, reason="")})}


def starts(number: int) -> State:
    """Of the flight, so many processes that started, besides an older one."""
    return {"flight": Some(processes=[Some(from_ns=None), *[Some(from_ns=1)] * number])}


def load(*failed_at: int) -> Some:
    return Some(failed=[Some(at_ns=at) for at in failed_at])


def logs(first: int, grows: bool = False) -> State:
    """A log that ended at 7 while containerd was down, and goes on with `first` afterwards."""
    lines = [*map(str, range(1, 8)), *map(str, range(first, first + 4))]
    return {"grows": grows, "earlier": lines[:7], "logged": lambda: lines, "written": lambda: 1024}


def upgraded(pids: int, *failed_at: int) -> State:
    now = pod(containers=(container("server", pid=pids), container("scribe", pid=2)))
    before = {"server": container("server", pid=1), "scribe": container("scribe", pid=2)}
    return {"node": node(**{"pod.return_value": now}), "load": load(*failed_at), **before}


def shim_killed(*rows: Some) -> State:
    return {"app": 4, "flight": Some(source="kernel", processes=list(rows))}


def calls(*methods: str, of: str = "fine") -> Some:
    return Some(calls=[Some(method=each, pod=of, asks=False) for each in methods], processes=[], pod=lambda name: calls(*methods))


def recorded(*methods: str, of: str) -> State:
    recording = MagicMock(**{"record.return_value.__enter__.return_value": calls(*methods, of=of), "pods.return_value": []})
    return {"node": recording, "heard": True}


def status(word: str, **more: Any) -> MagicMock:
    return MagicMock(**{"wait_outcome.return_value": word, "status.return_value": word, **more})


def warnings(**messages: str) -> dict[str, Any]:
    return {"warnings.side_effect": lambda name: [Some(message=messages.get(name, ""))]}


def address(before: str, after: str) -> MagicMock:
    return node(**{"pod.side_effect": [Some(ip=before), Some(ip=after)]})


def allocatable(cpu: int) -> State:
    return {
        "before": {"cpu": Some(allocatable=1800)},
        "pod": MagicMock(),
        "cluster": MagicMock(**{"capacity.return_value": [Some(name="cpu", allocatable=cpu)]}),
    }


def steps(*taken: tuple[str, str]) -> State:
    """A kubelet whose rounds take these steps, on a node with a Pod."""
    there = MagicMock(processes=[process("application"), process("pause")])
    return {
        "settle": lambda: [(*step, 0) for step in taken],
        "web": MagicMock(),
        "want": MagicMock(),
        "wanted": {},
        "node": node(**{"pod.return_value": there}),
    }


def left(*pods: Some) -> State:
    return {
        "settle": lambda: [],
        "web": {"metadata": {"uid": "1"}},
        "wanted": {},
        "node": node(**{"pods.return_value": list(pods)}),
    }


def crashes(times: int) -> State:
    uid = {"metadata": {"uid": "1"}}
    return {"want": lambda *_: uid, "look": lambda: {"1": ([], [None] * times)}, "run_for": lambda *_: None}


def other(*methods: str) -> State:
    return {
        **recorded(*methods, of="same"),
        "yours": ["RunPodSandbox", "StartContainer"],
        "hold": MagicMock(),
        "web": MagicMock(),
    }


def raising(error: Exception | None) -> MagicMock:
    return node(**{"cri.create_container.side_effect": error, "cri.create_container.return_value.container_id": ""})


def lab(**more: Any) -> MagicMock:
    """labkit, as far as a cell needs it; nothing is waited for."""
    return MagicMock(NodeError=NodeError, CriError=CriError, within=lambda _, true: true(), **more)


SHOWN = {"sandbox": "busybox:1 COLOUR 67108864 httpGet"}
TWO = {"hello": "", "shop": "", "config": "", "ref": "", "sandbox": "", "web_id": ""}
OLD = {"old_address": "10.0.0.1", "again": ""}
STATES: dict[str, dict[str, State]] = {
    "00.who": {
        each: {"node": node(**{"shell.return_value": listed})}
        for each, listed in {"no": "srw-rw---- 1 root", "yes": "srw-rw-rw- 1 root"}.items()
    },
    "00.version": {
        each: {"node": node(**{"shell.return_value": f"containerd {version}"}), "answer": Some(runtime_version="1.6")}
        for each, version in {"the same": "1.6", "another": "1.7"}.items()
    },
    "00.processes": {each: {"pod": pod(*["x"] * number)} for each, number in {"one": 1, "two": 2, "three or more": 3}.items()},
    "00.bootid": {
        each: {
            "pod": MagicMock(),
            "node": node(**{"cri.exec_sync.return_value.stdout.decode.return_value": "a", "shell.return_value": own}),
        }
        for each, own in {"the same": "a", "another": "b"}.items()
    },
    "00.removed": {
        each: {"pod": pod("shim", "pause"), "node": node(**{"runs.side_effect": [True, *alive]})}
        for each, alive in {"none": [False, False], "the shim": [True, False], "the pause and the shim": [True, True]}.items()
    },
    "01.never": {
        option: {
            "image": "busybox:1",
            "container": "",
            "labkit": lab(to_yaml=lambda text, gone=gone: text.replace(gone, "")),
            **SHOWN,
        }
        for option, gone in {
            "the image": "busybox:1",
            "the variable COLOUR": "COLOUR",
            "the memory limit": "67108864",
            "the readiness probe": "httpGet",
        }.items()
    },
    "01.ended": {
        gone: {
            "node": node(**{"processes.return_value": [process(each) for each in ("containerd", "shim", "runc") if each != gone]})
        }
        for gone in ("containerd", "shim", "runc")
    },
    "01.crash": {
        each: {
            "pod_id": "",
            "to_dict": lambda each: {"state": each},
            "node": node(**{"cri.list_containers.return_value.containers": states}),
        }
        for each, states in {
            "has exited, and nobody has started it again": ["CONTAINER_EXITED"],
            "runs again, started by the runtime": ["CONTAINER_EXITED", "CONTAINER_RUNNING"],
        }.items()
    },
    "01.every-rpc": {"yes": {"answered": {"Version": True}}, "no": {"answered": {"Version": True, "Status": False}}},
    "01.v2": {
        each: {"ask": lambda version, said=said: (said, "")}
        for each, said in {
            "it answers in v1": "answered in v1",
            "it answers UNIMPLEMENTED": "UNIMPLEMENTED",
            "it does not answer": "DEADLINE_EXCEEDED",
        }.items()
    },
    "01.other-version": {
        each: {"node": MagicMock(runtime="containerd 1.6"), "serves_a_page": lambda where, served=served: served.pop()}
        for each, served in {"none": [True, True], "some": [False, True]}.items()
    },
    "02.sandbox": {each: {**TWO, "node": counts(number)} for each, number in {"none": 0, "one": 1, "two": 2}.items()},
    "02.start": {
        each: {**TWO, "pulled": 2, "node": counts(*numbers)}
        for each, numbers in {"PullImage": (2, 2), "CreateContainer": (3, 3), "StartContainer": (2, 3)}.items()
    },
    "02.child": {
        each: {**TWO, "node": parent_of(pid)}
        for each, pid in {"the child of the pause": 2, "the child of the shim": 3, "the child of containerd": 1}.items()
    },
    "02.shared": {
        each: shares(*each.replace(" and ", ", ").split(", "))
        for each in ("net", "net and ipc", "net, ipc and uts", "net, ipc, uts and mnt")
    },
    "02.crash": {
        each: {**TWO, **OLD, "node": node(), "address": lambda _, now=now: now}
        for each, now in {"no": "10.0.0.1", "yes": "10.0.0.2"}.items()
    },
    "02.pid1": {
        "pause": ps("1 pause", "7 httpd", "13 sleep"),
        "web": ps("1 httpd", "7 sleep"),
        "sidecar": ps("1 sleep", "7 httpd"),
        "each container its own": ps("1 sleep"),
    },
    "02.pause": {
        "they die with it": killed_pause(),
        "they run on, and reach each other": killed_pause("web", "sidecar", page=b"It works"),
        "they run on, but cannot reach each other": killed_pause("web", "sidecar"),
    },
    "02.left": {"none of them": pinned(), "net": pinned("net"), "all three": pinned("net", "ipc", "uts")},
    "02.repair": {
        "yes": {**TWO, **OLD, "node": raising(None)},
        "no": {**TWO, **OLD, "node": raising(CriError("CreateContainer", "NOT_FOUND", "no pause", ""))},
    },
    "02.reborn": {
        each: {**TWO, **OLD, "node": node(), "address": lambda _, now=now: now}
        for each, now in {"no": "10.0.0.1", "yes": "10.0.0.2"}.items()
    },
    "03.many": {"up to 3": starts(3), "4 to 9": starts(9), "10 or more": starts(10)},
    "03.parent": {
        each: {**TWO, "node": parent_of(pid)} for each, pid in {"the pause": 2, "the shim": 3, "process 1 of the node": 1}.items()
    },
    "03.exec": {
        each: {"execution": None, "labkit": lab(**{"who_started.return_value": chain})}
        for each, chain in {
            "the Pod's shim, by way of runc": "shim → runc",
            "a new shim": "containerd → shim",
            "httpd, whose container it is": "application → exec",
            "containerd itself": "containerd → exec",
        }.items()
    },
    "03.end": {each: {"status": Some(exit_code=code)} for each, code in {"SIGTERM": 143, "SIGKILL": 137}.items()},
    "04.parent": {
        each: {
            "pod": Some(processes=[process("pause", 2)]),
            "node": node(**{"shims.return_value": [Some(pod="web", ppid=pid)], "listener.return_value.pid": 3}),
        }
        for each, pid in {"neither of them": 1, "the pause": 2, "containerd": 3}.items()
    },
    "04.kill": {
        each: {"moments": [Some(to_ns=5)], "load": failed}
        for each, failed in {
            "nothing": load(),
            "errors until containerd is back": load(4),
            "errors that last after containerd is back": load(4, 6),
        }.items()
    },
    "04.flood": {
        each: {"flood": Some(pid=1), "kib": kib, "node": node(**{"runs.return_value": runs})}
        for each, kib, runs in [
            ("it writes all of it", 1024, True),
            ("it stops in the middle", 128, True),
            ("it fails", 128, False),
        ]
    },
    "04.code": {each: {"guest": Some(id=""), **exits(code)} for each, code in {"3": 3, "255": 255, "another one": 137}.items()},
    "04.log": {
        "they are in the log file at once": logs(8, grows=True),
        "they are in the log file later": logs(8),
        "they are lost": logs(13),
    },
    "04.upgrade": {
        "they are restarted": upgraded(9),
        "they run on, and some requests fail": upgraded(1, 5),
        "they run on, and no request fails": upgraded(1),
    },
    "04.code-again": {
        each: {"main": Some(id=""), **exits(code)} for each, code in {"3": 3, "255": 255, "another one": 137}.items()
    },
    "04.shim": {
        "it runs on": shim_killed(process("shim", to_ns=1)),
        "the kernel ends it": shim_killed(process("application", 4, to_ns=3), process("runc", from_ns=5)),
        "containerd ends it": shim_killed(process("application", 4, to_ns=3), process("runc", from_ns=2)),
    },
    "04.shim-alone": {
        each: {
            "young": {},
            "node": node(**{"start_pod.return_value": MagicMock(processes=[process("shim")]), "runs.return_value": runs}),
        }
        for each, runs in {"it runs on": True, "it ends": False}.items()
    },
    "05.last-call": {
        each: {"flight": calls("RunPodSandbox", "CreateContainer", each)}
        for each in ("RunPodSandbox", "CreateContainer", "StartContainer")
    },
    "05.typo": {
        each: {"image": "busybox", "pod": MagicMock(), "cluster": status(each)}
        for each in ("ErrImagePull", "ContainerCreating", "CrashLoopBackOff")
    },
    "05.repair": {
        each: {"image": "", "cluster": status(word), "node": address("1", now)}
        for each, word, now in [
            ("it runs, with its old address", "Running", "1"),
            ("it runs, with a new address", "Running", "2"),
            ("it stays stuck", "ImagePullBackOff", "1"),
        ]
    },
    "05.password": {
        each: {"pod": MagicMock(), "cluster": status(word, **warnings(**said))}
        for each, word, said in [
            ("STATUS", "Forbidden", {}),
            ("the message of the event", "ErrImagePull", {"typo": "not found", "secretive": "401"}),
            ("neither of them", "ErrImagePull", {"typo": "not found", "secretive": "not found"}),
        ]
    },
    "05.mount": {
        each: {"pod": MagicMock(), "cluster": status(""), **recorded(*made, of="unconfigured")}
        for each, made in {
            "none": (),
            "only RunPodSandbox": ("RunPodSandbox",),
            "more than RunPodSandbox": ("RunPodSandbox", "CreateContainer"),
        }.items()
    },
    "05.ready": {
        each: {"cluster": MagicMock(**{"kubectl.return_value": said})}
        for each, said in {"Ready": "True", "NotReady": "False"}.items()
    },
    "05.claim": {
        each: {
            "pod": MagicMock(),
            "claim": {},
            "volume": {},
            "cluster": status("Pending", **{"warnings.return_value": [Some(source=by)]}),
        }
        for each, by in {
            "the scheduler": "default-scheduler",
            "the kubelet": "kubelet",
            "another controller": "persistentvolume-controller",
        }.items()
    },
    "06.allocatable": {
        "the same": allocatable(1800),
        "less by 250m": allocatable(1550),
        "less by what it uses": allocatable(1799),
    },
    "06.greedy": {
        each: {"free": 9, "pod": MagicMock(), "cluster": status(word)}
        for each, word in {"it waits": "Pending", "it runs": "Running", "it fails": "OutOfcpu"}.items()
    },
    "06.room": {
        each: {"cluster": status(word)}
        for each, word in {"it runs": "Running", "it waits until it is created again": "Pending"}.items()
    },
    "06.cpu": {
        each: {"cpu_seconds": lambda used=used: used, "cluster": status(word)}
        for each, used, word in [
            ("it slows it down", 0.3, "Running"),
            ("it kills it", 0.3, "OOMKilled"),
            ("nothing", 6.0, "Running"),
        ]
    },
    "06.memory": {
        each: {"pod": MagicMock(), "node": node(), "cluster": status(word)}
        for each, word in {"it kills it": "OOMKilled", "it slows it down": "Running"}.items()
    },
    "07.rounds": {
        "1": steps(("run", "sandbox")),
        "2": steps(("run", "sandbox"), ("start", "main")),
        "more": steps(*[("start", "main")] * 4),
    },
    **{
        question: {
            "nothing": steps(),
            "start main": steps(("start", "main")),
            "run sandbox, start main": steps(("run", "sandbox"), ("start", "main")),
        }
        for question in ("07.app", "07.pause")
    },
    "07.unwanted": {
        "it leaves it alone": left(pod(containers=(container("main"),))),
        "it ends only its containers": left(pod(containers=(container("main", "Exited"),))),
        "it stops and removes it": left(),
    },
    "07.crash": {"once": crashes(1), "twice": crashes(2), "again and again": crashes(3)},
    "07.other": {
        "the same, in the same order": other("RunPodSandbox", "StartContainer"),
        "the same, in another order": other("StartContainer", "RunPodSandbox"),
        "other calls": other("RunPodSandbox"),
    },
    "08.old": {
        each: {"answers": lambda name, there=there: there}
        for each, there in {"it answers": True, "it does not answer": False}.items()
    },
    "08.far": {
        each: {"node": node(**{"pods.return_value": pods})}
        for each, pods in {
            "it has no sandbox": [],
            "it has a sandbox": [Some(name="orders", state="Ready", containers=())],
            "it has a container": [Some(name="orders", state="Ready", containers=(container("main"),))],
        }.items()
    },
    "08.free": {each: {"cluster": status(word)} for each, word in {"it runs": "Running", "it stays as it is": "Pending"}.items()},
    "08.holds": {
        each: {"incident": MagicMock(**{"check.return_value.done": done})} for each, done in {"yes": True, "no": False}.items()
    },
}
