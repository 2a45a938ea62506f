"""Live panels and replays: what they show of a look, when they draw again, how they end. What tells them of changes is tested on
a real node (tests/live/test_live.py)."""

from __future__ import annotations

import threading
import xml.etree.ElementTree as ET
from dataclasses import replace
from types import SimpleNamespace

import pytest

import labkit
from labkit.cri import CriClient, CriError
from labkit.cri.pods import PodContainer, PodProcess, PodSnapshot
from labkit.figures import process_tree
from labkit.figures.markup import markup, theme_rules
from labkit.figures.pods.cluster_model import EventLine
from labkit.kernel.events.below_process import Descendants
from labkit.kernel.events.connector_socket import EXEC, EXIT, FORK
from labkit.kernel.events.stream import EventsError
from labkit.live import feeds, follower, views
from labkit.live.panel import CLOSED, Menu, Panel
from labkit.live.views import Look
from labkit.node import Node
from labkit.recording.flight import Flight
from tests.unit.flights import execs, pods
from tests.unit.test_showable import VIEWS
from tests.waits import wait_for

SCRIPTS = ("日本語-ポッド", "под", "بود", "ποδ", "पॉड", "a" * 253, "<b>&amp;\u202e", "x\x1b[31m")


def pod(name: str, number: int, applications: int = 1) -> PodSnapshot:
    first = 100 * number + 10
    namespaces = {"net": first, "pid": first + 1, "mnt": first + 2}
    pids = range(first + 2, first + 2 + applications)
    processes = (
        PodProcess(first, 1, "shim", "containerd-shim", None, {"net": 1}, ("/usr/bin/containerd-shim-runc-v2",)),
        PodProcess(first + 1, first, "pause", "pause", None, namespaces, ("/pause",)),
        *(PodProcess(pid, first, "application", "app", f"c{n}", namespaces, ("app", name)) for n, pid in enumerate(pids)),
    )
    containers = tuple(PodContainer(f"c{n}", f"id{n}", "Running", 0, "busybox", pid) for n, pid in enumerate(pids))
    return PodSnapshot(name, "default", f"uid{number}", f"sandbox{number}", "Ready", "10.1.2.3", processes, (), containers)


def look(*members: PodSnapshot, **more: object) -> Look:
    init = PodProcess(1, 0, "host", "init", None, {"net": 1})
    return Look((init, *(process for each in members for process in each.processes)), members, **more)


# The figure as text in an SVG


@pytest.mark.parametrize("view", VIEWS)
def test_every_figure_is_text_in_an_svg(view: str) -> None:
    """All that a figure paints is in it, in letters, with the width that was measured."""
    figure = VIEWS[view]("日本 a<b>&\x1b[31m")
    root = ET.fromstring(markup(figure))
    assert root.get("aria-label") == figure.alt
    texts = [each for each in root.iter() if each.tag.endswith("text")]
    assert texts and all(float(each.get("textLength")) > 0 and each.text.isprintable() for each in texts)
    assert {each.tag.rpartition("}")[2] for each in root} <= {"rect", "polyline", "circle", "polygon", "text"}


def test_each_colour_of_a_figure_has_its_dark_partner() -> None:
    rules = theme_rules(".dark")
    root = ET.fromstring(markup(process_tree(look(pod("web", 1)).processes, [pod("web", 1)])))
    inks = {(kind, ink) for each in root.iter() for kind in ("fill", "stroke") if (ink := each.get(kind)) not in (None, "none")}
    assert inks and all(f".dark [{kind}='{ink}']{{" in rules for kind, ink in inks)


# What a panel shows


@pytest.mark.parametrize("view", [views.TREE, views.NAMESPACES, views.PODS], ids=lambda view: view.name)
@pytest.mark.parametrize("width", [300.0, 640.0])
def test_forty_pods_two_hundred_processes_and_names_of_every_script(view: views.View, width: float) -> None:
    """No text leaves the sheet, whatever its name; the table escapes it."""
    many = [pod(SCRIPTS[n] if n < len(SCRIPTS) else f"pod-{n}", n, applications=3) for n in range(40)]
    event = EventLine(1.0, "Warning", "Failed", "kubelet", "m" * 600, SCRIPTS[5])
    shown = view.draw(look(*many, statuses={}, events=[event]), width)
    root = ET.fromstring(markup(shown.figure))
    for text in (each for each in root.iter() if each.tag.endswith("text")):
        x, long = float(text.get("x")), float(text.get("textLength"))
        left = x - {"start": 0, "middle": long / 2, "end": long}[text.get("text-anchor")]
        assert left >= -1 and left + long <= width + 1, text.text
    assert all(line.isprintable() for line in shown.text().split("\n"))
    if view is views.PODS:
        table = ET.fromstring(shown.table())
        assert len(table.findall("tbody/tr")) == 40
        assert "<b>" not in shown.table() and "\u202e" not in shown.table()


def test_the_table_joins_runtime_and_api() -> None:
    """A Pod that only the API has as yet is there; of a container its last attempt; no address is."""
    again = PodContainer("c0", "id9", "Exited", 1, "busybox", 0)
    web = pod("web", 1)
    web = PodSnapshot(**{**vars(web), "containers": (*web.containers, again)})
    statuses = {("default", "web"): "CrashLoopBackOff", ("default", "late"): "Pending"}
    shown = views.PODS.draw(look(web, pod("mine", 2), statuses=statuses), 640)
    assert [row.cells() for row in shown.rows] == [
        ("late", "Pending", "", "API"),
        ("mine", "Ready", "c0 Running", "by hand"),
        ("web", "CrashLoopBackOff", "c0 Exited", "API"),
    ]
    assert shown.text().startswith("Pod late: Pending, API\nPod mine: Ready, c0 Running, by hand\n")
    assert "10.1.2.3" not in shown.text() + shown.table()


def test_a_node_without_pods_has_a_panel() -> None:
    shown = views.PODS.draw(look(), 640)
    assert shown.text().startswith("No Pod is on the node.") and "No Pod" in shown.table()


def test_a_panel_draws_again_only_what_has_changed() -> None:
    panel = Panel(views.TREE)
    sent = []
    panel.widget().observe(lambda change: sent.append(change.name), "picture")
    for each in (look(), look(), look(pod("web", 1)), look(pod("web", 1))):
        panel.show(each)
    assert panel.redraws == 2 and sent == ["picture"] * 2


@pytest.mark.parametrize("view", [views.TREE, views.NAMESPACES, views.PODS], ids=lambda view: view.name)
def test_a_look_that_shows_the_same_is_not_drawn(view: views.View) -> None:
    """And one that differs in any part is: each part of a look is drawn by some panel that knows it for its own."""
    drawn: list[Look] = []
    counting = replace(view, draw=lambda look, width: drawn.append(look) or view.draw(look, width))
    panel, facts = Panel(counting), {"statuses": {}, "events": (), "host": {"net": 1}}
    for name in ("web", "web", "api"):
        panel.show(look(pod(name, 1), **facts))
    assert len(drawn) == 2
    panel._asked(None, {"do": "width", "px": 420}, [])
    assert len(drawn) == 3


def test_every_part_of_a_look_is_some_panels() -> None:
    parts = {name: object() for name in vars(look())}
    known = [part for view in (views.TREE, views.NAMESPACES, views.PODS) for part in view.parts(SimpleNamespace(**parts))]
    assert {id(part) for part in known} == {id(part) for part in parts.values()}


def test_its_static_form_is_the_figure() -> None:
    """Text, pictures, and a widget for pages that show one; the text has no pid and no time."""
    panel = Panel(views.TREE)
    panel.show(look(pod("web", 1)))
    shown, _ = panel._repr_mimebundle_()
    assert shown["text/plain"] == repr(panel) == "Process tree: 1 shim, a child of init, not of containerd; " \
        "containerd is not among the processes.\n" \
        "Pod web: the shim, below it pause and c0 (app)."  # fmt: skip
    assert shown["image/svg+xml"].lstrip().startswith("<?xml") and shown["image/png"]
    assert "application/vnd.jupyter.widget-view+json" in shown


def test_a_page_says_how_wide_the_panel_is() -> None:
    panel = Panel(views.TREE)
    panel.show(look(pod("web", 1)))
    for asked, made in ((420, 420), (20, 300), (9000, 1000)):
        panel._asked(None, {"do": "width", "px": asked}, [])
        assert panel.figure.width == made


def test_a_closed_panel_keeps_its_picture_and_changes_no_more() -> None:
    panel = Panel(views.TREE)
    panel.show(look(pod("web", 1)))
    left = []
    panel.closing = lambda: left.append(1)
    panel.close()
    panel.show(look())
    panel.tell("news")
    assert "Pod web" in repr(panel) and panel.status == CLOSED and panel.widget().closed and left == [1]


def test_a_menu_opens_one_panel_at_a_time() -> None:
    menu = Menu({name: lambda: Panel(views.TREE) for name in ("one", "two")})
    assert repr(menu) == "Live panels to open: one, two."
    assert len(menu.widget().children) == 1, "nothing runs until a button is pressed"
    first, second = menu.open("one"), menu.open("two")
    assert first.closed and not second.closed
    assert menu.widget().children[1] is second.widget()


# Who tells of changes


def event(kind: str, pid: int, ppid: int | None = None) -> SimpleNamespace:
    return SimpleNamespace(kind=kind, pid=pid, ppid=ppid)


def test_only_what_is_below_the_runtime_is_followed() -> None:
    own = {10}
    told = [event("fork", 11, 10), event("fork", 12, 11), event("exec", 12), event("fork", 90, 1), event("exec", 90),
            event("exit", 11), event("exec", 11), event("exit", 12), event("exit", 90)]  # fmt: skip
    assert [feeds.concerns(each, own) for each in told] == [True, True, True, False, False, True, False, True, False]
    assert own == {10}


def test_the_reader_tells_of_descendants_only() -> None:
    """What others start is left out, threads too, and a pid that is given to another process again."""
    wanted = Descendants([10])
    messages = [
        (FORK, 1, 10, 10, 11, 11), (FORK, 2, 10, 10, 12, 11), (EXEC, 3, 11, 11, 0, 0), (FORK, 4, 1, 1, 90, 90),
        (EXEC, 5, 90, 90, 0, 0), (EXIT, 6, 12, 11, 0, 0), (EXIT, 7, 11, 11, 0, 0), (FORK, 8, 1, 1, 11, 11),
        (EXEC, 9, 11, 11, 0, 0), (EXIT, 10, 10, 10, 0, 0),
    ]  # fmt: skip
    told = [wanted.event(what, *rest) for what, *rest in messages]
    assert [each for each in told if each] == [
        ("fork", 1, 11, 10), ("exec", 3, 11, None), ("exit", 7, 11, None), ("exit", 10, 10, None)
    ]  # fmt: skip


class Feed:
    def __init__(self, words: str, served: bool = True) -> None:
        self.words, self.served, self.stopped = words, served, False

    def stop(self) -> None:
        self.stopped = True


def test_a_panel_says_what_it_follows_and_what_it_lacks() -> None:
    words = "the kernel's process events (tracefs)", "the runtime's events", "the API's watches"
    processes, runtime, api = map(Feed, words)
    assert feeds.describe([processes, runtime, api], "") == (
        "Follows the kernel's process events (tracefs), the runtime's events and the API's watches."
    )
    assert feeds.describe([runtime], "They need root.") == f"Follows the runtime's events. They need root. {feeds.UNSEEN}"
    assert feeds.describe([Feed("the runtime's events", served=False)], "They need root.") == (
        "Nothing tells this panel of changes: press “Look again”. They need root."
    )


def test_a_poll_is_no_event() -> None:
    """Where the node's processes can only be polled, the panel follows something else, and the poll is ended."""
    stream = SimpleNamespace(source="poll", stop=lambda: ended.append(1))
    ended: list[int] = []
    node = SimpleNamespace(sources=SimpleNamespace(open=lambda watch: SimpleNamespace(events=stream)))
    with pytest.raises(EventsError, match="need root"):
        feeds.ProcessFeed(node, lambda: None, lambda: None)
    assert ended == [1]


# The follower


class StandIn(Node):
    """A node whose looks and feeds the test gives."""

    def __init__(self, endpoint: str) -> None:
        self.kind, self.endpoint, self.runtime = "containerd", endpoint, "containerd 2"
        self.cri, self.api = SimpleNamespace(away=lambda: None), SimpleNamespace(kube=None)

    def listener(self) -> None:
        return None


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch, tmp_path) -> SimpleNamespace:
    """A node that shows `pods`, and is down while `away` is set; `changed` is what its feed calls."""
    world = SimpleNamespace(pods=(), away=None, feeds=[], changed=lambda: None, node=StandIn(f"unix://{tmp_path}/s"))
    world.api_changed, world.asked, world.answers = None, [], lambda: ({}, ())

    def open_feeds(node, cri, changed, ended, unserved, *, api):
        world.changed, world.failed, world.api_changed = changed, ended, api
        world.feeds.append(Feed("the API's watches" if api else "the runtime's events"))
        return [world.feeds[-1]], ""

    def ask_api(kube):
        world.asked.append(kube)
        return world.answers()

    def now(self):
        if world.away:
            raise world.away
        return look(*world.pods)

    monkeypatch.setattr(feeds, "open_feeds", open_feeds)
    monkeypatch.setattr(follower.Follower, "look", now)
    monkeypatch.setattr(follower, "api_facts", ask_api)
    monkeypatch.setattr(CriClient, "version", lambda self, **_: None)
    monkeypatch.setattr(CriClient, "connects", lambda self, within: world.away is None)
    yield world
    for each in list(follower._followers.values()):
        each.close()


def test_a_change_is_shown(followed: SimpleNamespace) -> None:
    panel = labkit.live.tree(followed.node)
    assert "no shim" in repr(panel)
    wait_for(lambda: panel.follows == "Follows the runtime's events.")
    followed.pods = (pod("web", 1),)
    followed.changed()
    wait_for(lambda: "Pod web" in repr(panel))


def test_it_opens_on_a_node_that_is_down_and_shows_it_when_it_is_up(followed: SimpleNamespace) -> None:
    followed.away = CriError("Version", "UNAVAILABLE", "nobody listens", "Start it with `labkit up`.")
    panel = labkit.live.tree(followed.node)
    wait_for(lambda: panel.status == "The node cannot be looked at: " + str(followed.away) or "is down" in panel.status)
    followed.pods, followed.away = (pod("web", 1),), None
    wait_for(lambda: "Pod web" in repr(panel))


def test_a_runtime_that_goes_down_and_comes_back(followed: SimpleNamespace) -> None:
    """The picture stays, the panel says from when it is; afterwards from when to when the runtime was away."""
    followed.pods = (pod("web", 1),)
    panel = labkit.live.tree(followed.node)
    wait_for(lambda: followed.feeds)
    followed.away = CriError("ListContainers", "UNAVAILABLE", "gone", "")
    followed.changed()
    wait_for(lambda: panel.status.startswith("containerd is down: what you see is from "))
    assert "Pod web" in repr(panel) and followed.feeds[0].stopped
    followed.pods, followed.away = (), None
    wait_for(lambda: "no shim" in repr(panel))
    assert panel.status.startswith("containerd was down from ")


def test_the_last_panel_that_closes_ends_the_threads(followed: SimpleNamespace) -> None:
    before = set(threading.enumerate())
    tree, namespaces = labkit.live.tree(followed.node), labkit.live.namespaces(followed.node)
    wait_for(lambda: followed.feeds)
    assert len(set(threading.enumerate()) - before) == 1, "panels of one node share a thread"
    tree.close()
    followed.pods = (pod("web", 1),)
    followed.changed()
    wait_for(lambda: "web" in repr(namespaces))
    namespaces.close()
    assert set(threading.enumerate()) <= before and all(feed.stopped for feed in followed.feeds)
    again = labkit.live.tree(followed.node)
    assert "Pod web" in repr(again), "a node can be followed again"
    again.close()
    again.close()


def test_a_second_panel_of_a_kind_takes_the_place_of_the_first(followed: SimpleNamespace) -> None:
    first, second = labkit.live.tree(followed.node), labkit.live.tree(followed.node)
    assert first.closed and "has taken the place of this one" in first.status and not second.closed


def test_the_api_is_watched_once_a_panel_shows_it(followed: SimpleNamespace) -> None:
    tree = labkit.live.tree(followed.node)
    wait_for(lambda: tree.follows == "Follows the runtime's events.")
    labkit.live.pods(followed.node)
    wait_for(lambda: tree.follows == "Follows the API's watches.")


def test_a_panel_of_the_kernel_does_not_wait_for_the_api(followed: SimpleNamespace) -> None:
    """Nor is the API asked again before one of its watches has told of a change."""
    tree, pods = labkit.live.tree(followed.node), labkit.live.pods(followed.node)
    wait_for(lambda: followed.api_changed and pods.follows)
    go_on = threading.Event()

    def slow():
        go_on.wait()
        return {("default", "web"): "Running"}, ()

    followed.answers, followed.pods = slow, (pod("web", 1),)
    followed.api_changed()
    try:
        wait_for(lambda: "Pod web" in repr(tree), "the tree, while the API does not answer")
        assert "c0 Running, API" not in repr(pods)  # a look that began earlier may have shown it as made by hand
    finally:
        go_on.set()
    wait_for(lambda: "Pod web: Running, c0 Running, API" in repr(pods))
    asked = len(followed.asked)
    followed.pods = (pod("web", 1), pod("new", 2))
    followed.changed()
    wait_for(lambda: "Pod new" in repr(pods))
    assert len(followed.asked) == asked


def test_an_api_that_does_not_answer_is_asked_again(followed: SimpleNamespace) -> None:
    def down():
        raise OSError("refused")

    followed.answers = down
    pods = labkit.live.pods(followed.node)
    wait_for(lambda: pods.follows)
    followed.pods, followed.answers = (pod("web", 1),), lambda: ({("default", "web"): "Running"}, ())
    followed.changed()
    wait_for(lambda: "Pod web: Running, c0 Running, API" in repr(pods))


def test_looks_that_follow_each_other_cost_no_more_than_their_share() -> None:
    """A few come at once; then the pauses are as long as the looks are dear. After a rest a few may come at once again."""
    budget, now, spent, pauses = follower.Budget(), 0.0, 0.0, []
    for _ in range(40):
        pauses.append(budget.pause(0.04, now))
        spent, now = spent + 0.04, now + 0.04 + pauses[-1]
    assert pauses[:3] == [follower.PAUSE_S] * 3
    assert spent <= follower.BURST_S + follower.SHARE * now
    assert pauses[-1] == pytest.approx(0.04 / follower.SHARE - 0.04)
    assert budget.pause(0.04, now + 60) == follower.PAUSE_S
    assert budget.pause(4.0, now + 120) > 40


def test_a_panel_that_joins_others_says_what_is_followed(followed: SimpleNamespace) -> None:
    tree = labkit.live.tree(followed.node)
    wait_for(lambda: tree.follows)
    namespaces = labkit.live.namespaces(followed.node)
    assert namespaces.follows == tree.follows
    assert len(followed.feeds) == 1


def test_a_feed_that_fails_is_opened_again(followed: SimpleNamespace) -> None:
    panel = labkit.live.tree(followed.node)
    wait_for(lambda: followed.feeds)
    followed.pods = (pod("web", 1),)
    followed.failed()
    wait_for(lambda: len(followed.feeds) == 2 and "Pod web" in repr(panel))
    assert followed.feeds[0].stopped


def test_a_fault_in_a_look_is_told_and_the_panel_goes_on(followed: SimpleNamespace, caplog) -> None:
    panel = labkit.live.tree(followed.node)
    wait_for(lambda: followed.feeds)
    followed.away = ZeroDivisionError("x")
    followed.changed()
    wait_for(lambda: "Reading the node failed (ZeroDivisionError: x)" in panel.status)
    followed.away, followed.pods = None, (pod("web", 1),)
    wait_for(lambda: "Pod web" in repr(panel))


@pytest.mark.parametrize("opener", [labkit.live.tree, labkit.live.namespaces, labkit.live.pods, labkit.live.menu])
def test_a_panel_of_no_node_is_refused(opener) -> None:
    with pytest.raises(TypeError, match="needs a node, not str"):
        opener("kind")


# Replays


def test_a_replay_has_every_event_in_order() -> None:
    flight = pods(1)
    told = flight.replay().moments
    assert [each.at_ns for each in told] == sorted(each.at_ns for each in told)
    words = [each.words for each in told]
    assert words[0] == "RunPodSandbox begins, called by labkit"
    assert {"containerd forks", "shim start forks", "RunPodSandbox ends"} <= set(words)
    assert any(each.startswith("runc init becomes ") for each in words)
    begun = sum(process.from_ns is not None for process in flight.processes)
    assert sum(" forks" in each for each in words) == begun


def test_its_cover_goes_with_the_axis_of_the_figure() -> None:
    """At the first moment the cover hides all of the axis, at the last one nothing; each variant has its own axis."""
    replay = pods(2).replay()
    wide, *narrow = replay.variants()
    assert len(narrow) == 2 and wide["width"] > narrow[0]["width"] > narrow[1]["width"]
    for variant in (wide, *narrow):
        ET.fromstring(variant["svg"])
        for axis in variant["axes"]:
            places = [x for _, x in axis["points"]]
            assert places == sorted(places) and places[-1] <= axis["right"] <= variant["width"]
            assert axis["top"] < axis["bottom"]


def test_a_replay_of_ten_thousand_events_is_as_large_as_its_words() -> None:
    """The figure folds what repeats; the page gets the words of each event, once."""
    flight = execs(910)
    widget = flight.replay().widget()
    assert len(widget.moments) >= 10_000
    assert sum(len(words) for _, words in widget.moments) < 1_000_000
    assert all(len(variant["svg"]) < 300_000 for variant in widget.variants)


def test_its_static_form_is_the_timeline() -> None:
    flight = pods(1)
    shown, _ = flight.replay()._repr_mimebundle_()
    assert shown["text/plain"] == flight.plot().alt == repr(flight.replay())
    assert "application/vnd.jupyter.widget-view+json" in shown and "image/png" in shown


def test_an_empty_recording_can_be_replayed() -> None:
    replay = Flight().replay()
    assert replay.moments == [] and replay.widget().moments == []


@pytest.mark.parametrize("speed", [0, -1, float("nan"), float("inf"), "fast", None])
def test_a_speed_is_above_0(speed: object) -> None:
    with pytest.raises(ValueError, match="Give a number above 0"):
        Flight().replay(speed)
