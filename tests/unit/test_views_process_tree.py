import itertools
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from labkit.cri.pods import PodProcess, PodSnapshot
from labkit.figures import process_tree
from labkit.figures.pods.process_tree import build, natural, role_of

NODE = [
    PodProcess(1, 0, "host", "systemd", None, {}),
    PodProcess(300, 1, "host", "python3", None, {}),
    PodProcess(310, 300, "containerd", "containerd", None, {}, ("/usr/bin/containerd", "--config", "c.toml")),
]


def make_pod(name, apps, base, parent=1):
    processes = [
        PodProcess(base, parent, "shim", "containerd-shim", None, {}, ("/usr/bin/containerd-shim-runc-v2", "-id", name)),
        PodProcess(base + 1, base, "pause", "pause", None, {}, ("/pause", "-P")),
    ]
    for number, (container, command) in enumerate(apps.items(), start=2):
        processes.append(
            PodProcess(base + number, base, "application", command.split()[0], container, {}, tuple(command.split()))
        )
    return PodSnapshot(name, "default", name, name, "Ready", "10.88.0.7", tuple(processes))


def everything(*pods):
    return [*NODE, *(process for pod in pods for process in pod.processes)]


@pytest.fixture
def web():
    return make_pod("web", {"web": "httpd -f -p 80", "sidecar": "sleep 1000"}, 4100)


class Paper:
    def __init__(self, figure):
        self.width = figure.width
        self.texts, self.lines, self.dots, self.boxes = [], [], [], []
        figure.paint(self)

    def title(self, lines):
        self.heading = " ".join(lines)

    def text(self, x, y, words, *args, **options):
        if words:
            self.texts.append((x, y, words))

    def line(self, points, *args):
        self.lines.append(points)

    def dot(self, x, y, size, fill):
        self.dots.append((x, y, fill))

    def box(self, x, y, width, height, fill):
        self.boxes.append((y, y + height))


def test_the_text_of_one_pod(web):
    assert repr(process_tree(everything(web), [web])) == (
        "Process tree: 1 shim, a child of init, not of containerd.\n"
        "Pod web: the shim, below it pause, web (httpd) and sidecar (sleep)."
    )


def test_the_truth_is_told_when_containerd_is_the_parent(web):
    child = make_pod("web", {"web": "httpd"}, 4100, parent=310)
    figure = process_tree(everything(child), [child])
    assert repr(figure).startswith("Process tree: 1 shim, a child of containerd.")
    assert Paper(figure).heading == "The shim is a child of containerd; it runs the Pod"


def test_a_subreaper_is_not_called_init(web):
    adopted = make_pod("web", {"web": "httpd"}, 4100, parent=300)
    assert "a child of a host process, not of containerd" in repr(process_tree(everything(adopted), [adopted]))


def test_the_text_has_no_pid_and_the_picture_has_them_all(web):
    figure = process_tree(everything(web), [web])
    drawn = [words for *_, words in Paper(figure).texts]
    for process in everything(web):
        assert str(process.pid) in drawn
    assert not any(str(process.pid) in repr(figure).split() for process in everything(web)[1:])
    shifted = [replace(p, pid=p.pid + 50, ppid=p.ppid + 50 if p.ppid > 1 else p.ppid) for p in everything(web)[1:]]
    moved = replace(web, processes=tuple(p for p in shifted if p.pid >= 4150))
    assert repr(process_tree([NODE[0], *shifted], [moved])) == repr(figure)


def test_containerd_has_no_line_to_the_shim(web):
    paper = Paper(process_tree(everything(web), [web]))
    at = {words: (x, y) for x, y, words in paper.texts}
    dots = {y: x for x, y, _ in paper.dots}
    shim = at["containerd-shim-runc-v2"][1]
    elbow = next(points for points in paper.lines if len(points) == 3 and points[-1][1] == shim)
    assert elbow[0] == (dots[at["init"][1]], at["init"][1])
    assert "has no child" in at


def test_a_snapshot_of_a_whole_machine_shows_only_the_runtimes_part(web):
    @dataclass(frozen=True)
    class Process:
        pid: int
        ppid: int
        comm: str
        cmdline: tuple[str, ...] = ()
        start_ns: int = 0

    machine = {
        process.pid: process
        for process in [
            Process(1, 0, "systemd"),
            Process(2, 0, "kthreadd"),
            Process(9, 2, "kworker/0:1"),
            Process(200, 1, "sshd"),
            Process(310, 1, "containerd", ("/usr/bin/containerd",)),
            Process(311, 1, "kubelet", ("/usr/bin/kubelet",)),
            *(Process(p.pid, p.ppid, p.comm, p.cmdline) for p in web.processes),
            Process(5000, 4102, "sh", ("sh", "-c", "true")),
        ]
    }
    snapshot = SimpleNamespace(processes=machine)
    drawn = [words for *_, words in Paper(process_tree(snapshot, [web])).texts]
    assert "sshd" not in drawn and "kthreadd" not in drawn
    assert {"init", "containerd", "kubelet", "httpd -f -p 80"} <= set(drawn)
    assert repr(process_tree(machine, [web])) == repr(process_tree(snapshot, [web]))


@pytest.mark.parametrize(
    ("comm", "cmdline", "role"),
    [
        ("containerd", ("/usr/bin/containerd",), "containerd"),
        ("containerd-shim", ("/usr/bin/containerd-shim-runc-v2",), "shim"),
        ("conmon", ("/usr/bin/conmon",), "shim"),
        ("crio", (), "containerd"),
        ("kubelet", (), "kubelet"),
        ("runc", ("runc", "create"), "runc"),
        ("bash", ("-bash",), "other"),
    ],
)
def test_roles_by_name(comm, cmdline, role):
    assert role_of(SimpleNamespace(pid=1, ppid=0, comm=comm, cmdline=cmdline)) == role


def test_a_pods_processes_stay_together_when_it_has_several_shims():
    first, second = make_pod("a", {"one": "sleep 1"}, 4000), make_pod("b", {"two": "sleep 2"}, 4100)
    late = PodProcess(4200, 1, "shim", "conmon", None, {})
    first = replace(first, processes=(*first.processes, late))
    paper = Paper(process_tree(everything(first, second), [first, second]))
    assert len(paper.boxes) == 2
    assert [words for *_, words in paper.texts if words.startswith("Pod ")] == ["Pod a", "Pod b"]


def test_pods_stand_in_the_order_of_their_names():
    pods = [make_pod(f"web-{number}", {"app": f"sleep {number}"}, 4000 + 10 * number) for number in (10, 2, 1)]
    drawn = [words for *_, words in Paper(process_tree(everything(*pods), pods)).texts if words.startswith("Pod ")]
    assert drawn == ["Pod web-1", "Pod web-2", "Pod web-10"]
    assert natural("web-2") < natural("web-10") and natural("") < natural("a")


def test_what_repeats_is_folded_inside_its_pod(web):
    workers = tuple(PodProcess(6000 + n, 4102, "application", "httpd", "web", {}, ("httpd", "worker")) for n in range(20))
    busy = replace(web, processes=(*web.processes, *workers))
    paper = Paper(process_tree(everything(busy), [busy]))
    at = {words: y for _, y, words in paper.texts}
    assert "… 12 more like this" in at
    assert len(paper.boxes) == 1 and paper.boxes[0][0] < at["… 12 more like this"] < paper.boxes[0][1]
    assert "21 × web (httpd)" in repr(process_tree(everything(busy), [busy]))


def test_pods_that_repeat_are_folded_and_counted():
    pods = [make_pod(f"shop-{number}", {"app": "httpd"}, 4000 + 10 * number) for number in range(66)]
    figure = process_tree(everything(*pods), pods)
    assert "… 58 more Pods like this" in [words for *_, words in Paper(figure).texts]
    assert repr(figure).startswith("Process tree: 66 shims, children of init, not of containerd.\nPods shop-0, shop-1, ")


@pytest.mark.parametrize("count", [1, 2, 5, 13])
def test_rows_do_not_overlap_and_labels_end_on_the_sheet(count):
    from labkit.figures.figure import text_width

    pods = [
        make_pod(
            f"a-rather-long-name-of-a-pod-{n}",
            {f"container-with-a-long-name-{n}": f"/bin/server --option={n} " + "x" * 90},
            4000 + 10 * n,
        )
        for n in range(count)
    ]
    figure = process_tree(everything(*pods), pods)
    paper = Paper(figure)
    rows = sorted(y for _, y, _ in paper.dots)
    assert len(rows) == 3 + 3 * count
    assert min(b - a for a, b in itertools.pairwise(rows)) >= 20
    commands = [(x, words) for x, _, words in paper.texts if words.startswith("server")]
    brackets = min(points[1][0] for points in paper.lines if len(points) == 4)
    assert len(commands) == count and all(x + text_width(words) < brackets for x, words in commands)


def test_a_vanished_parent_makes_a_root():
    orphan = PodProcess(50, 49, "containerd", "containerd", None, {})
    (root,) = build([orphan])
    assert (root.pid, root.children) == (50, ())


def test_nothing_to_draw():
    figure = process_tree([])
    assert repr(figure) == "Process tree: no shim; containerd is not among the processes."
    assert Paper(figure).heading == "0 processes; no shim, so no Pod is running"


@pytest.mark.parametrize("ended", ["zombie", "main thread ended"])
def test_a_long_command_does_not_hide_that_its_process_has_ended(web, ended):
    long = PodProcess(4199, 4102, "application", "sh", "web", {}, ("sh", "-c", "echo " + "x" * 300), ended)
    drawn = [words for *_, words in Paper(process_tree([*everything(web), long], [web])).texts]
    assert [words.endswith(f"… ({ended})") for words in drawn if words.startswith("sh -c")] == [True]
