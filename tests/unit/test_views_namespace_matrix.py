import itertools
from dataclasses import replace

import pytest

from labkit.cri.pods import PinnedNamespace, PodProcess, PodSnapshot
from labkit.figures import namespace_matrix
from labkit.figures.namespaces import groups as ng
from labkit.figures.namespaces import matrix_text
from labkit.figures.namespaces.groups import Group
from labkit.kernel import NAMESPACE_TYPES

HOST = {"net": 1, "ipc": 2, "uts": 3, "pid": 4, "mnt": 5, "cgroup": 6, "user": 7, "time": 8}
LESS = {"cgroup": 6, "user": 7, "time": 8}


def make_pod(name, apps, base, shared=("net", "ipc", "uts"), host=(), pinned=("net",), state="Ready"):
    """A Pod as a node makes it: shim on the host's side, a pause, then the applications. Inodes count from 100 × base."""
    inodes = iter(range(base * 100, base * 100 + 100))
    common = {kind: HOST[kind] if kind in host else next(inodes) for kind in shared}
    processes = [PodProcess(base, 1, "shim", "containerd-shim", None, HOST)]
    for number, container in enumerate(["pause", *apps], start=1):
        own = {kind: HOST[kind] if kind in host else next(inodes) for kind in ("pid", "mnt") if kind not in shared}
        role = "pause" if container == "pause" else "application"
        namespaces = {**LESS, **common, **own}
        processes.append(
            PodProcess(base + number, base, role, container[:15], None if number == 1 else container, namespaces)
        )
    held = tuple(PinnedNamespace(kind, common[kind], f"/run/{kind}ns/x") for kind in pinned)
    return PodSnapshot(name, "default", f"uid-{name}", f"id-{base}", state, f"10.88.0.{base}", tuple(processes), held)


@pytest.fixture
def web():
    return make_pod("web", ["web", "sidecar"], 40)


def changed(pod, container, **values):
    """The Pod with other values in the process of that container."""
    return replace(pod, processes=tuple(replace(p, **values) if p.container == container else p for p in pod.processes))


def crashed(pod, container):
    old = next(p for p in pod.processes if p.container == container)
    return changed(pod, container, pid=old.pid + 500, namespaces={**old.namespaces, "pid": 90001, "mnt": 90002})


def without(pod, *names):
    return replace(pod, processes=tuple(p for p in pod.processes if p.role not in names and p.container not in names))


def test_a_usual_pod_in_words(web):
    assert repr(namespace_matrix([replace(web, pinned=())], HOST)) == (
        "Namespaces of Pod web: pause, web and sidecar share net, ipc and uts; each has its own pid and mnt; "
        "cgroup, user and time are the host's."
    )


def test_a_bind_mount_is_told(web):
    assert repr(namespace_matrix([web], HOST)).endswith("; a bind mount holds net too.")


def test_groups_of_a_usual_pod(web):
    found = ng.groups(web, HOST)
    assert found["net"] == (Group("net", 4000, ("pause", "web", "sidecar"), host=False, pinned=True),)
    assert [group.members for group in found["mnt"]] == [("pause",), ("web",), ("sidecar",)]
    assert found["user"] == (Group("user", 7, ("pause", "web", "sidecar"), host=True, pinned=False),)
    assert [ng.pattern(found[kind]) for kind in NAMESPACE_TYPES] == [ng.WHOLE] * 3 + [ng.EACH] * 2 + [ng.HOST] * 3


def test_a_shared_pid_namespace():
    pod = make_pod("shared", ["app"], 50, shared=("net", "ipc", "uts", "pid"), pinned=())
    assert (
        ng.describe(pod, HOST)
        == "pause and app share net, ipc, uts and pid; each has its own mnt; cgroup, user and time are the host's"
    )


def test_the_hosts_network():
    pod = make_pod("agent", ["app"], 50, host=("net", "uts"), pinned=())
    assert (
        ng.describe(pod, HOST)
        == "pause and app share ipc; each has its own pid and mnt; net, uts, cgroup, user and time are the host's"
    )


def test_some_share(web):
    pause = next(p for p in web.processes if p.role == "pause")
    pod = changed(replace(web, pinned=()), "sidecar", namespaces={**pause.namespaces, "mnt": 1234, "net": HOST["net"]})
    assert ng.describe(pod, HOST) == (
        "pause, web and sidecar share ipc and uts; pause and web share net, sidecar uses the host's net; "
        "pause and sidecar share pid, web has its own pid; each has its own mnt; cgroup, user and time are the host's"
    )


def test_a_pause_alone():
    assert ng.describe(make_pod("bare", [], 50, pinned=()), HOST) == (
        "pause has its own net, ipc, uts, pid and mnt; cgroup, user and time are the host's"
    )


def test_a_namespace_held_by_a_bind_mount_alone(web):
    figure = namespace_matrix([replace(web, state="NotReady", processes=())], HOST)
    assert repr(figure) == "Namespaces of Pod web (NotReady): no process is left; a bind mount alone holds net."
    assert ng.describe(replace(web, processes=(), pinned=()), HOST) == "no process is left"


def test_processes_of_one_container_are_one_row(web):
    sidecar = web.processes[-1]
    workers = tuple(replace(sidecar, pid=600 + number) for number in range(5))
    pod = replace(web, processes=(*web.processes, *workers))
    assert [(row.name, len(row.pids)) for row in ng.rows(pod)] == [("shim", 1), ("pause", 1), ("web", 1), ("sidecar", 6)]
    assert ng.describe(pod, HOST) == ng.describe(web, HOST)


def test_a_process_elsewhere_than_its_container_has_a_row_and_a_name_of_its_own(web):
    lost = replace(web.processes[-1], pid=700, comm="unshare", namespaces={**web.processes[-1].namespaces, "uts": 777})
    pod = replace(web, processes=(*web.processes, lost, replace(lost, namespaces={**lost.namespaces, "uts": 778})))
    assert [row.name for row in ng.rows(pod)][-3:] == ["sidecar", "sidecar: unshare", "sidecar: unshare 2"]
    assert "sidecar: unshare has its own uts" in ng.describe(pod, HOST)


def test_the_host_is_taken_from_the_shim_when_not_given(web):
    assert repr(namespace_matrix([web])) == repr(namespace_matrix([web], HOST))
    assert "host" not in repr(namespace_matrix([without(web, "shim")]))


@pytest.mark.parametrize("kind", NAMESPACE_TYPES)
def test_another_inode_is_another_text(web, kind):
    other = changed(
        web, "sidecar", namespaces={**web.processes[-1].namespaces, kind: HOST[kind] if kind in ("pid", "mnt") else 99999}
    )
    assert repr(namespace_matrix([other], HOST)) != repr(namespace_matrix([web], HOST))


def test_other_inode_numbers_and_pids_of_the_same_pattern_are_the_same_text(web):
    def moved(pod):
        processes = tuple(
            replace(p, pid=9000 - p.pid, ppid=p.ppid + 7, namespaces={k: 70000 - v for k, v in p.namespaces.items()})
            for p in pod.processes
        )
        pins = tuple(replace(pin, inode=70000 - pin.inode) for pin in pod.pinned)
        return replace(pod, processes=processes, pinned=pins, ip="10.1.2.3")

    host = {kind: 70000 - inode for kind, inode in HOST.items()}
    after = crashed(web, "web")
    assert repr(namespace_matrix([moved(web)], host)) == repr(namespace_matrix([web], HOST))
    assert repr(namespace_matrix([moved(web)], host, after=[moved(after)])) == repr(
        namespace_matrix([web], HOST, after=[after])
    )


def test_the_text_has_no_number_of_the_machine(web):
    text = repr(namespace_matrix([web], HOST, after=[crashed(web, "web")]))
    assert not any(character.isdigit() for character in text)


def test_a_crash_before_and_after(web):
    after = [crashed(web, "web")]
    first, *rest = repr(namespace_matrix([web], HOST, after=after)).splitlines()
    assert first == (
        "Pod web, before and after: the net, ipc and uts namespaces are the same; web is a new process with a new pid and mnt; "
        "pause and sidecar are the same processes; the Pod's IP address is the same."
    )
    assert [line.split(":")[0] for line in rest] == ["Namespaces before and after of Pod web"]
    assert (
        matrix_text.title([web], HOST, after)
        == "Pod web: the net, ipc and uts namespaces are the same; web is a new process"
    )


def test_a_pause_killed_before_and_after(web):
    after = without(replace(web, state="NotReady"), "pause")
    told = matrix_text.change(web, after, HOST)
    assert told.gone == ("pause",) and told.same == ("net", "ipc", "uts") and told.new == ()
    assert "pause is gone" in matrix_text.title([web], HOST, [after])


def test_only_the_bind_mount_keeps_the_network_namespace(web):
    told = matrix_text.change(web, replace(web, processes=()), HOST)
    assert told.same == ("net",) and told.gone == ("pause", "web", "sidecar")


def test_a_new_sandbox_has_new_namespaces_and_another_address(web):
    again = make_pod("web", ["web", "sidecar"], 60)
    told = matrix_text.change(web, again, HOST)
    assert told.new == ("net", "ipc", "uts", "pid", "mnt") and told.same == () and told.same_address is False
    assert "the Pod's IP address is another" in repr(namespace_matrix([web], HOST, after=[again]))


def test_nothing_changed(web):
    assert matrix_text.title([web], HOST, [web]) == "Nothing changed"


def test_pods_that_come_and_go(web):
    other = make_pod("db", ["db"], 60)
    text = repr(namespace_matrix([web], HOST, after=[other]))
    assert text.startswith("Pod web is gone.\nPod db is new.\n")


def test_the_title_of_several_pods(web):
    shared = make_pod("shared", ["app"], 50, shared=("net", "ipc", "uts", "pid"))
    agent = make_pod("agent", ["app"], 60, host=("net", "uts"), pinned=())
    pods = [web, shared, agent, make_pod("db", ["db"], 70)]
    assert matrix_text.title(pods, HOST) == (
        "Each of 4 Pods has its own net, ipc and uts, but Pod agent uses the host's net and uts; Pod shared shares pid too"
    )
    assert matrix_text.title([web, pods[3]], HOST) == "Each of 2 Pods has its own net, ipc and uts"


def test_pods_of_one_pattern_share_a_line_and_sharing_across_pods_is_told():
    pods = [make_pod(f"shop-{number}", ["app"], 40 + number) for number in range(3)]
    assert repr(namespace_matrix(pods, HOST)).startswith(
        "Namespaces of Pods shop-0, shop-1 and shop-2, in each: pause and app share net"
    )
    joined = changed(
        pods[1], "app", namespaces={**pods[1].processes[-1].namespaces, "net": pods[0].processes[-1].namespaces["net"]}
    )
    assert "Namespaces across Pods: shop-0 and shop-1 share net." in repr(namespace_matrix([pods[0], joined], HOST))


class Paper:
    """A canvas that only remembers, to test what is drawn where."""

    def __init__(self, figure):
        self.width, self.height = figure.width, figure.height
        self.texts, self.lines, self.dots, self.boxes = [], [], [], []
        figure.paint(self)

    def text(self, x, y, words, *args, **options):
        if words:
            self.texts.append((x, y, words))

    def line(self, points, colour="line", width=1.2):
        self.lines.append((points, colour, width))

    def dot(self, x, y, size, fill, edge="", edge_width=1.3, shape="o"):
        self.dots.append((x, y, fill, shape))

    def box(self, x, y, width, height, fill):
        self.boxes.append((y, y + height))

    def title(self, lines):
        self.heading = " ".join(lines)


def test_five_pods_never_share_a_colour_and_no_join_leaves_its_pod():
    pods = [make_pod(f"pod-{number}", ["app", "sidecar"], 40 + number) for number in range(5)]
    paper = Paper(namespace_matrix(pods, HOST))
    fills = [
        {fill for _, y, fill, _ in paper.dots if top < y < bottom and fill.startswith("#")} for top, bottom in paper.boxes
    ]
    assert len(fills) == 5 and all(len(each) == 4 for each in fills)
    assert len(set().union(*fills)) == 20
    joins = [points for points, colour, _ in paper.lines if colour.startswith("#")]
    assert len(joins) == 5 * (3 * 2 + 1)
    assert all(any(top < y < bottom for top, bottom in paper.boxes) for points in joins for _, y in points)
    assert all(
        sum(top < points[0][1] < bottom and top < points[-1][1] < bottom for top, bottom in paper.boxes) == 1
        for points in joins
    )


def test_a_bind_mount_is_a_square_and_what_changed_is_ringed(web):
    paper = Paper(namespace_matrix([web], HOST, after=[crashed(web, "web")]))
    assert [shape for *_, shape in paper.dots].count("s") == 2
    places = [(x, y) for x, y, _, shape in paper.dots if shape == "o"]
    assert sorted(places.count(place) for place in set(places))[-3:] == [1, 2, 2]
    assert "new process" in [words for *_, words in paper.texts]


def test_a_join_goes_round_a_process_that_does_not_share(web):
    pause = next(p for p in web.processes if p.role == "pause")
    pod = changed(
        replace(web, pinned=()), "sidecar", namespaces={**web.processes[-1].namespaces, "pid": pause.namespaces["pid"]}
    )
    bent = [
        points
        for points, colour, _ in Paper(namespace_matrix([pod], HOST)).lines
        if len({x for x, _ in points}) > 1 and colour[0] == "#"
    ]
    assert len(bent) == 1


def test_sixty_pods_are_folded_and_counted():
    pods = [make_pod(f"pod-{number}", ["app"], 1000 + 10 * number) for number in range(60)]
    figure = namespace_matrix(pods, HOST)
    assert "… 52 more Pods like pod-0" in [words for *_, words in Paper(figure).texts]
    assert figure.height < 1400


@pytest.mark.parametrize("count", [1, 2, 5, 13])
def test_labels_stay_on_the_sheet_and_rows_apart(count):
    pods = [
        make_pod(f"a-rather-long-pod-name-{number}", [f"container-{number}-with-a-very-long-name"], 40 + number)
        for number in range(count)
    ]
    figure = namespace_matrix(pods, HOST)
    paper = Paper(figure)
    assert all(0 <= x <= figure.width and 0 < y < figure.height for x, y, _ in paper.texts)
    labels = sorted(y for x, y, words in paper.texts if words in ("shim", "pause", "bind mount"))
    assert min(b - a for a, b in itertools.pairwise(labels)) >= 20


def test_no_pod_at_all():
    assert repr(namespace_matrix([], HOST)) == "Namespaces: there is no Pod."
    assert "image/svg+xml" in namespace_matrix([], HOST)._repr_mimebundle_()[0]


def test_a_number_used_again_is_not_the_same_namespace(web):
    """The kernel gives the numbers of web's dead namespaces to the new web at once."""
    after = changed(web, "web", pid=777)
    assert [p.namespaces for p in after.processes] == [p.namespaces for p in web.processes]
    told = repr(namespace_matrix([web], HOST, after=[after]))
    assert "the net, ipc and uts namespaces are the same; web is a new process with a new pid and mnt" in told


def test_a_network_namespace_that_nothing_held_is_another_one(web):
    bare = replace(web, pinned=())
    after = replace(bare, processes=tuple(replace(p, pid=p.pid + 500) for p in bare.processes))
    assert "the net, ipc, uts, pid and mnt namespaces are new" in repr(namespace_matrix([bare], HOST, after=[after]))
    held = replace(web, processes=after.processes)
    assert "the net namespace is the same" in repr(namespace_matrix([web], HOST, after=[held]))


@pytest.mark.parametrize("width", [None, 520, 300])
@pytest.mark.parametrize("ended", ["zombie", "main thread ended"])
def test_a_long_name_does_not_hide_that_its_process_has_ended(web, ended, width):
    long = "a-container-with-a-name-of-sixty-three-letters-which-is-the-most"
    last = PodProcess(77, 40, "application", "sh", long, web.processes[2].namespaces, (), ended)
    pod = replace(web, processes=(*web.processes, last))
    twice = replace(pod, processes=(*pod.processes, replace(pod.processes[-1], pid=78)))
    for each, tail in ((pod, f" ({ended})"), (twice, f" ({ended}) ×2")):
        labels = [words for *_, words in Paper(namespace_matrix([each], HOST, width=width)).texts if words.startswith("a-c")]
        assert labels and all(words.endswith(f"…{tail}") for words in labels)


def test_each_moment_has_the_state_of_its_own_where_one_is_below_the_other(web):
    after = without(replace(web, state="NotReady"), "pause")

    def told(width):
        paper = Paper(namespace_matrix([web], HOST, after=[after], width=width))
        return [words for *_, words in sorted(paper.texts, key=lambda text: text[1]) if words.startswith(web.ip)]

    assert told(None) == [f"{web.ip}, Ready → NotReady"]
    assert told(320) == [web.ip, f"{web.ip}, NotReady"]
