from dataclasses import replace
from itertools import pairwise

import pytest

from labkit.figures import shims, style
from labkit.figures.runtime.shim_holds import compare
from labkit.node.observe.shims import HeldContainer, ShimHold
from tests.unit.test_views_process_tree import Paper

SHIM = "/usr/bin/containerd-shim-runc-v2"


def fifos(container):
    return tuple(f"/run/containerd/io/{container}-{stream}" for stream in ("stderr", "stdout"))


def held(pod, pid, *names, exe=SHIM, **more):
    containers = [HeldContainer("", f"{pod}-pause", pid + 1)]
    for number, name in enumerate(names, start=2):
        containers.append(HeldContainer(name, f"{pod}-{name}", pid + number, fifos=fifos(f"{pod}-{name}")))
    made = ShimHold(
        pod, "default", f"{pod}-sandbox", pid, 1, 5_000, exe, f"/run/containerd/s/{'a1' * 32}", -998, tuple(containers)
    )
    return replace(made, **more)


def ended(hold, name, code):
    containers = [replace(c, pid=0, exit_code=code, fifos=()) if c.name == name else c for c in hold.containers]
    return replace(hold, containers=tuple(containers))


class Sheet(Paper):
    """What was painted, with the marks' edges."""

    def __init__(self, figure):
        self.rings = []
        super().__init__(figure)

    def dot(self, x, y, size, fill, edge="", edge_width=1.3, shape="o"):
        super().dot(x, y, size, fill)
        self.rings += [edge] if edge else []

    def words(self):
        return [words for _, _, words in self.texts]


@pytest.fixture
def web():
    return held("web", 4100, "server", "log")


def test_one_side_says_who_looks_after_whom_and_names_no_pid(web):
    figure = shims([web])
    assert repr(figure).splitlines() == [
        "Shims: The Pod's processes are held by its shim.",
        "web: a shim, child of process 1. It looks after pause, server (FIFOs held: stdout and stderr)"
        " and log (FIFOs held: stdout and stderr).",
    ]
    assert {"4100", "4101", "4102", "4103"} <= set(Sheet(figure).words())


def test_what_is_particular_to_a_machine_is_in_the_picture_alone(web):
    changed = replace(web, pid=9, start_ns=1, socket="/run/containerd/s/ff", oom_score_adj=1, exe=f"{SHIM} (deleted)")
    assert repr(shims([changed])) == repr(shims([web]))
    words = " ".join(Sheet(shims([changed])).words())
    assert "OOM score adjusted by 1" in words and "listens on /run/containerd/s/ff" in words and "(deleted)" in words


def test_a_parent_that_is_not_process_1_is_told(web):
    assert "web: a shim, child of another process that adopts orphans." in repr(shims([replace(web, ppid=812)]))


def test_the_same_processes_are_joined_by_a_line(web):
    figure = shims([web], [web])
    sheet = Sheet(figure)
    assert repr(figure).splitlines()[0] == "Shims before and after: The shim is the same process."
    assert "the same shim. It looks after pause (the same), server (the same) and log (the same)." in repr(figure)
    assert len(sheet.lines) == 4 and sheet.rings == []


def test_a_new_pod_has_rings_and_no_line(web):
    figure = shims([web], [web, held("young", 7000, "main")])
    assert repr(figure).splitlines()[-1] == "young: a new shim. It looks after pause (new) and main (new)."
    assert len(Sheet(figure).rings) == 3


def test_a_pid_that_was_given_to_another_shim_is_not_the_same_process(web):
    again = replace(web, start_ns=web.start_ns + 10_000_000)
    (block,) = compare([web], [again])
    assert not block.rows[0].same and "web: another shim." in block.text
    assert repr(shims([web], [again])).splitlines()[0].endswith("No shim is the same process.")


def test_a_container_that_ended_shows_the_code_that_the_shim_keeps(web):
    after = ended(web, "log", 3)
    figure = shims([web], [after])
    assert "log (ended; the shim keeps exit code 3)" in repr(figure)
    assert "ended; the shim keeps exit code 3" in Sheet(figure).words() and "ended" in Sheet(figure).words()
    assert "log (ended)" in repr(shims([web], [ended(web, "log", None)])), "where the shim could not be asked"
    assert "log (ended; the shim keeps exit code 0)" in repr(shims([ended(web, "log", 0)]))


def test_a_container_that_nobody_holds_any_more_is_gone_and_a_restarted_one_is_new(web):
    without = replace(web, containers=web.containers[:2])
    assert "server (the same) and log (gone)" in repr(shims([web], [without]))
    again = HeldContainer("log", "web-log-1", 4200, fifos=fifos("web-log-1"))
    assert "log (gone) and log (new)" in repr(shims([web], [replace(without, containers=(*without.containers, again))]))


def test_a_shim_that_is_gone_holds_nothing(web):
    young = held("young", 7000, "main")
    figure = shims([web, young], [web])
    assert repr(figure).splitlines() == [
        "Shims before and after: 1 of 2 shims are the same process.",
        "web: the same shim. It looks after pause (the same), server (the same) and log (the same).",
        "young: the shim is gone.",
    ]


def test_pods_of_another_namespace_are_told_apart(web):
    assert "kube-system/web: a shim" in repr(shims([replace(web, namespace="kube-system")]))


def test_no_pod_at_all():
    assert repr(shims([])) == "Shims: No Pod has a shim."
    assert repr(shims([], [])) == "Shims before and after: No Pod has a shim."


@pytest.mark.parametrize("width", [520, 780, 1400])
def test_nothing_leaves_the_sheet_or_overlaps(web, width):
    from labkit.figures.figure import text_width

    long = replace(web, exe="/root/.cache/labkit/containerd/a-distribution-with-a-long-name/2.1.9/root" + SHIM + " (deleted)")
    pods = [
        long,
        *(held(f"pod-{n}", 5000 + 10 * n, "app", "a-container-with-a-long-name-of-sixty-three-letters") for n in range(20)),
    ]
    figure = shims(pods, pods, width=width)
    sheet = Sheet(figure)
    details = [(x, y, words) for x, y, words in sheet.texts if words.startswith(("runs", "listens", "child", "its exit"))]
    assert len(details) > 60
    for x, _, words in details:
        assert x + text_width(words, style.SMALL) <= width
    assert [words.endswith("(deleted)") for _, _, words in sheet.texts].count(True) == 1
    rows = sorted({y for _, y, _ in details})
    assert all(b - a >= 14 for a, b in pairwise(rows)) and rows[-1] < figure.height


def test_the_versions_are_large_and_whole_and_the_title_says_which_pod_has_which(web):
    old, new = replace(web, version="1.6.20"), held("young", 7000, "main", version="2.1.9")
    sheet = Sheet(shims([old], [old, new]))
    assert sheet.heading == "web has shim 1.6.20; young has shim 2.1.9"
    assert {"version 1.6.20", "version 2.1.9"} <= set(sheet.words())
    assert repr(shims([old], [old, new])) == repr(shims([web], [web, held("young", 7000, "main")])), "no text has a version"
    assert Sheet(shims([old], [old])).heading == "The shim is the same process"


def test_the_title_says_what_a_shim_keeps(web):
    assert Sheet(shims([web], [ended(web, "log", 3)])).heading == "log has ended; the shim keeps exit code 3"


def test_it_can_be_written_in_both_themes(web, tmp_path):
    for theme in ("light", "dark"):
        assert shims([web], [web]).save(tmp_path / f"{theme}.png", theme).stat().st_size > 1000
