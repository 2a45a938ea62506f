import itertools
import re
from dataclasses import replace

import pytest

from labkit.figures import style
from labkit.figures.figure import MARGIN, text_width
from labkit.figures.flight.layout import BAR
from labkit.figures.flight.timeline import flight_timeline
from tests.unit import flights

MS = flights.MS


class Paper:
    """A canvas that keeps what is drawn: texts as (left, top, right, bottom, words)."""

    theme = "light"

    def __init__(self, figure):
        self.width, self.height = figure.width, figure.height
        self.texts, self.lines, self.dots, self.boxes, self.heading = [], [], [], [], ""
        figure.paint(self)

    def title(self, lines):
        self.heading = " ".join(lines)
        for number, words in enumerate(lines):
            self.text(MARGIN, MARGIN + style.TITLE * (0.6 + 1.35 * number), words, style.TITLE, bold=True)

    def text(self, x, y, words, size=style.BODY, colour="text", bold=False, align="left"):
        if words:
            wide = text_width(words, size, bold)
            left = x - {"left": 0, "center": wide / 2, "right": wide}[align]
            self.texts.append((left, y - size / 2, left + wide, y + size / 2, words))

    def line(self, points, colour="line", width=1.2):
        self.lines.append((points, colour, width))

    def dot(self, x, y, size, fill, edge="", edge_width=1.3, shape="o"):
        self.dots.append((x, y, size, fill, shape))

    def box(self, x, y, width, height, fill):
        self.boxes.append((x, y, x + width, y + height, fill))

    def words(self):
        return [words for *_, words in self.texts]


def overlaps(first, second):
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def clashes(paper):
    """Pairs of texts that overlap, and texts that leave the sheet."""
    pairs = [(a[4], b[4]) for a, b in itertools.combinations(paper.texts, 2) if overlaps(a, b)]
    return pairs + [t[4] for t in paper.texts if t[0] < 0 or t[1] < 0 or t[2] > paper.width or t[3] > paper.height]


RECORDINGS = {
    "one Pod": lambda: flights.pods(1),
    "five Pods": lambda: flights.pods(5),
    "five Pods one after the other": lambda: flights.pods(5, gap=400),
    "forty Pods": lambda: flights.pods(40),
    "forty Pods at once": lambda: flights.pods(40, gap=0.4),
    "teardown": flights.teardown,
    "teardown with a wait": flights.patient_teardown,
    "forty execs": lambda: flights.execs(40),
    "two execs": lambda: flights.execs(2),
    "nothing": flights.exact,
    "poll": lambda: flights.pods(1, source="poll", precision="a process that lives a few milliseconds may be missing", lost=3),
}


@pytest.mark.parametrize("width", [420, 600, 960, 1200])
@pytest.mark.parametrize("name", RECORDINGS)
def test_no_text_meets_another_or_leaves_the_sheet(name, width):
    assert clashes(Paper(flight_timeline(RECORDINGS[name](), width=width))) == []


@pytest.mark.parametrize("width", [600, 1200])
@pytest.mark.parametrize("name", RECORDINGS)
def test_no_text_lies_on_a_process_bar_or_its_diamonds(name, width):
    paper = Paper(flight_timeline(RECORDINGS[name](), width=width))
    bars = [box for box in paper.boxes if box[3] - box[1] == pytest.approx(BAR)]
    marks = [(x - size / 2, y - size / 2, x + size / 2, y + size / 2) for x, y, size, _, shape in paper.dots if shape in "D>"]
    assert [(t[4], mark) for t in paper.texts for mark in [*bars, *marks] if overlaps(t, mark)] == []


@pytest.mark.parametrize("zoom", [0, 3, 5])
@pytest.mark.parametrize("width", [600, 1200])
def test_a_zoom_keeps_labels_apart(zoom, width):
    assert clashes(Paper(flight_timeline(flights.pods(1), zoom=zoom, width=width))) == []


def test_unfolded_every_process_has_its_row():
    flight = flights.pods(5)
    paper = Paper(flight_timeline(flight, fold=False))
    assert paper.words().count("pause -P") == 5
    assert clashes(paper) == []


def ticks(paper):
    """number → x of the marks on the axis."""
    lowest = max(y for _, y, _, _, words in paper.texts if re.fullmatch(r"-?[\d.]+", words))
    return {float(words): (a + b) / 2 for a, y, b, _, words in paper.texts if y == lowest}


def test_an_idle_second_breaks_the_axis_and_times_stay_right():
    whole, short = Paper(flight_timeline(flights.patient_teardown())), Paper(flight_timeline(flights.teardown()))
    told = next(words for words in whole.words() if words.startswith("milliseconds since StopContainer"))
    left_out = float(re.search(r"; (\d+) of them", told)[1])
    assert 950 < left_out < 1010
    assert not any("left out" in words for words in short.words())
    marks = ticks(whole)
    assert 0 in marks and not any(100 < number < 900 for number in marks)
    first, last = sorted(marks)[-2:]
    per_ms = (marks[last] - marks[first]) / (last - first)
    strokes = [points[0][0] for points, _, width in whole.lines if width == 2.0]
    assert any(x == pytest.approx(marks[last] + (1095 - last) * per_ms) for x in strokes)  # the pause's end, a second late
    assert min(b - a for a, b in itertools.pairwise(sorted(marks.values()))) > 30


def test_a_long_call_without_processes_breaks_no_axis():
    flight = flights.patient_teardown()
    pull = replace(flight.calls[0], service="ImageService", method="PullImage", from_ns=0, to_ns=2000 * MS)
    stop = replace(flight.calls[0], from_ns=2001 * MS, to_ns=2100 * MS)
    paper = Paper(flight_timeline(replace(flight, calls=(pull, stop), processes=())))
    assert not any("left out" in words for words in paper.words())


def test_a_bar_across_the_break_is_cut_and_its_label_is_not():
    paper = Paper(flight_timeline(flights.patient_teardown()))
    cuts = [points for points, colour, width in paper.lines if colour == "background" and width == 4.0]
    assert len(cuts) == 5  # StopContainer, containerd, shim, pause and httpd
    boxes = [(min(a, c), min(b, d), max(a, c), max(b, d)) for (a, b), (c, d) in cuts]
    assert [text[4] for text in paper.texts for box in boxes if overlaps(text, box)] == []


def test_the_text_is_that_of_an_end_without_the_wait():
    assert repr(flight_timeline(flights.patient_teardown())) == repr(flight_timeline(flights.teardown()))


def test_the_title_tells_the_story():
    assert Paper(flight_timeline(flights.pods(1))).heading == (
        "Six calls start a Pod of two containers; 19 processes start, 4 stay"
    )
    assert Paper(flight_timeline(flights.pods(40))).heading == (
        "240 calls start 40 Pods of two containers each; 760 processes start, 160 stay"
    )
    assert Paper(flight_timeline(flights.teardown())).heading == (
        "Four calls end a Pod of one container; 4 processes start and end; 3 older ones end"
    )
    assert Paper(flight_timeline(flights.made_anew())).heading.startswith("Four calls end and start a Pod of one container; ")
    assert Paper(flight_timeline(flights.execs(1))).heading == "ExecSync: 3 processes start and end"
    assert Paper(flight_timeline(flights.execs(3))).heading == "Three ExecSync calls: 9 processes start and end"
    assert Paper(flight_timeline(flights.exact())).heading == "Nothing was recorded: no call and no process"


def test_the_text_names_every_call_and_process_in_order():
    assert repr(flight_timeline(flights.pods(1))) == (
        "Flight timeline: six calls start a Pod of two containers; 4 processes stay.\n"
        "Pod web:\n"
        "1. RunPodSandbox: shim and pause -P stay. On the way: containerd → bridge (cni); bridge → host-local (cni); "
        "containerd → loopback (cni); containerd → shim start; shim start → shim; shim → runc create; "
        "runc create → runc init; runc create → pause -P; shim → runc start.\n"
        "2. PullImage: no process stays. On the way: none.\n"
        "3. CreateContainer web: no process stays. On the way: none.\n"
        "4. StartContainer web: httpd -f -p 80 (application) stays. On the way: containerd → shim start; shim → runc create; "
        "runc create → runc init; runc create → httpd -f -p 80 (application); shim → runc start.\n"
        "5. CreateContainer sidecar: no process stays. On the way: none.\n"
        "6. StartContainer sidecar: sleep 1000 (application) stays. On the way: containerd → shim start; shim → runc create; "
        "runc create → runc init; runc create → sleep 1000 (application); shim → runc start."
    )


def test_what_a_poll_misses_changes_nothing_before_on_the_way():
    """A poll sees what stays, and perhaps nothing of what lives for some milliseconds."""

    def told(flight):
        text = re.sub(r" Recorded by [^\n]*", "", repr(flight_timeline(flight)))
        return re.sub(r" On the way: [^\n]*", "", text)

    exact = flights.pods(1)
    lasting = tuple(p for p in exact.processes if p.to_ns is None)
    polled = replace(exact, processes=lasting, source="poll", precision="some may be missing")
    assert told(polled) == told(exact) != repr(flight_timeline(exact))
    ending = flights.teardown()
    before = tuple(replace(p, exit_code=None, signal=None) for p in ending.processes if p.from_ns is None)
    polled = replace(ending, processes=before, source="poll")
    assert told(polled) == re.sub(r" by SIG\w+", "", told(ending))


def test_forty_pods_alike_are_told_once():
    text = repr(flight_timeline(flights.pods(40)))
    assert text.count("1. RunPodSandbox") == 1 and "Pods web-0, web-1" in text


def test_the_text_is_the_same_for_other_pids_times_and_order_of_cni_plugins():
    flight = flights.pods(1)
    moved = [
        replace(
            p,
            pid=p.pid + 7000,
            ppid=p.ppid + 7000 if p.ppid != 1 else 1,
            from_ns=p.from_ns and p.from_ns * 3 + 17,
            to_ns=p.to_ns and p.to_ns * 3 + 17,
        )
        for p in flight.processes
    ]
    calls = tuple(replace(c, from_ns=c.from_ns * 3 + 17, to_ns=c.to_ns * 3 + 17) for c in flight.calls)
    bridge, loopback = (next(p for p in moved if p.name == name) for name in ("bridge", "loopback"))
    moved[moved.index(loopback)] = replace(loopback, from_ns=bridge.from_ns - MS)
    other = replace(flight, calls=calls, processes=tuple(sorted(moved, key=lambda p: p.from_ns or -1)))
    assert repr(flight_timeline(other)) == repr(flight_timeline(flight))
    assert not re.search(r"\b(1\d{3}|8\d{3})\b", repr(flight_timeline(flight)).replace("sleep 1000", ""))


def test_bad_exits_are_said_in_picture_and_text():
    figure = flight_timeline(flights.teardown())
    drawn = Paper(figure).words()
    assert {"bridge · exit 1", "pause -P · SIGKILL", "httpd -f -p 80 · SIGTERM"} <= set(drawn)
    assert "bridge (cni) with exit 1" in repr(figure) and "pause -P by SIGKILL" in repr(figure)
    assert "runc kill" in drawn, "an exit 0 needs no word"


def test_a_failed_call_says_its_code():
    flight = flights.pods(1)
    failed = replace(flight, calls=(replace(flight.calls[0], code="UNKNOWN"), *flight.calls[1:]))
    figure = flight_timeline(failed)
    assert "RunPodSandbox · UNKNOWN" in Paper(figure).words() and "RunPodSandbox (UNKNOWN)" in repr(figure)


def test_precision_is_stated_only_where_it_is_not_exact():
    exact = Paper(flight_timeline(flights.pods(1)))
    assert not any("Recorded" in words or "lost" in words for words in exact.words())
    figure = flight_timeline(flights.pods(1, source="poll", precision="short lives may be missing", lost=2), width=1200)
    assert "Recorded by polling /proc: short lives may be missing; 2 events lost" in Paper(figure).words()
    assert "Recorded by polling /proc" in repr(figure)


def test_each_mark_is_drawn():
    paper = Paper(flight_timeline(flights.pods(1)))
    execs = sum(len(p.execs) for p in flights.pods(1).processes)
    assert sum(shape == "D" for *_, shape in paper.dots) == execs
    assert sum(shape == ">" for *_, shape in paper.dots) == 5, "containerd, shim, pause and two applications live on"
    strokes = [points for points, colour, width in paper.lines if colour == "text" and width == 2.0]
    assert len(strokes) == 15


def test_a_call_s_number_stands_at_its_processes_too():
    words = Paper(flight_timeline(flights.pods(1))).words()
    assert [words.count(number) for number in "123456"] == [2, 1, 1, 2, 1, 2], "only calls that started a process have rows"


def test_the_fork_line_starts_at_the_parent_and_ends_at_the_child():
    paper = Paper(flight_timeline(flights.pods(1)))
    rows = {words: (box[1] + box[3]) / 2 for *box, words in paper.texts if words in ("shim", "host-local", "bridge")}
    forks = [points for points, colour, width in paper.lines if colour == "faint" and width == 1.0]
    own = [points for points in forks if points[1][1] == pytest.approx(rows["host-local"] - BAR / 2)]
    assert [points[0][1] for points in own] == [pytest.approx(rows["bridge"] + BAR / 2)]


def test_services_have_colours_of_their_own():
    fills = {box[4] for box in Paper(flight_timeline(flights.pods(1))).boxes if box[3] - box[1] == pytest.approx(18)}
    assert len(fills) == 2
    for fill, theme in itertools.product(fills, ("light", "dark")):
        assert style.contrast(style.colour(fill, theme), style.colour("background", theme)) >= 3


def test_many_pods_get_a_row_each_and_one_is_enlarged():
    words = Paper(flight_timeline(flights.pods(40))).words()
    assert "Pod web-11" in words and "28 more Pods" in words and "Pod web-0, enlarged" in words
    assert words.count("pause -P") == 1


def test_calls_that_only_ask_become_ticks():
    flight = flights.pods(1)
    asking = tuple(flights.Call("RuntimeService", "ListContainers", n * 20 * MS, n * 20 * MS + MS, "labkit") for n in range(12))
    figure = flight_timeline(replace(flight, calls=(*flight.calls, *asking)))
    words = Paper(figure).words()
    assert "only asking: ListContainers ×12" in words and "ListContainers" not in words
    assert "Only asking: ListContainers × 12." in repr(figure)


def test_a_zoom_shows_one_call_and_says_so():
    figure = flight_timeline(flights.pods(1), zoom=2)
    assert Paper(figure).heading == "CreateContainer: no process starts"
    figure = flight_timeline(flights.pods(1), zoom=3)
    assert "httpd -f -p 80" in Paper(figure).words() and "pause -P" not in Paper(figure).words()


def test_a_window_shows_what_happened_in_it():
    words = Paper(flight_timeline(flights.pods(1), zoom=(10 * MS, 60 * MS))).words()
    assert "bridge" in words and "sleep 1000" not in words


@pytest.mark.parametrize("zoom", [6, -1, (5, 5), (9, 3)])
def test_an_impossible_zoom_is_refused_in_words(zoom):
    with pytest.raises(ValueError, match=r"(Use an index from 0 to 5|the earlier first)"):
        flight_timeline(flights.pods(1), zoom=zoom)


def test_too_narrow_is_refused():
    with pytest.raises(ValueError, match="at least 280"):
        flight_timeline(flights.pods(1), width=100)


def test_pictures_can_be_written_in_both_themes(tmp_path):
    figure = flight_timeline(flights.pods(5), width=600)
    light, dark = (figure.save(tmp_path / f"{theme}.svg", theme).read_text() for theme in ("light", "dark"))
    assert style.colour("shim", "light") in light and style.colour("shim", "dark") in dark


def test_a_used_pid_is_told_from_the_one_before():
    r = flights.Recording()
    call = r.call("RuntimeService", "ExecSync", 0, 100, "web", "app")
    first = r.process(r.daemon, "runc", "runc exec", 5, 20, call)
    child = r.process(first, "exec", "true", 10, 15, call)
    again = replace(child, pid=first.pid, ppid=r.daemon.pid, name="runc state", role="runc", from_ns=50 * MS, to_ns=60 * MS)
    late = replace(child, pid=9999, ppid=first.pid, name="late", from_ns=55 * MS, to_ns=57 * MS)
    r.processes += [again, late]
    assert "runc exec → true (exec); containerd → runc state; runc state → late (exec)." in repr(flight_timeline(r.finish()))
