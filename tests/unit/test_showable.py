"""Text of any kind, shown: nothing raises, nothing is drawn outside of its place, and data keeps the whole."""

import io
import json
import re
import unicodedata
import warnings
import xml.etree.ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from labkit.cri.pods import PodContainer, PodProcess, PodSnapshot
from labkit.cri.text import to_dict
from labkit.figures import (
    Layer,
    availability,
    bundle,
    call_chain,
    capacity,
    cgroup_tree,
    event_log,
    field_map,
    figure,
    layers,
    namespace_matrix,
    pod_lifecycle,
    process_tree,
    shims,
)
from labkit.figures.figure import Figure, drawable, fit, text_width, wrap
from labkit.figures.pods.cluster_model import CgroupLine, EventLine, PodRequest, Resource, StatusChange
from labkit.figures.pods.terminal import pod_tree
from labkit.figures.runtime.incident_timeline import IncidentMoment, incident_timeline
from labkit.figures.runtime.load import Answer, Moment
from labkit.node import NodeError
from labkit.node.observe.shims import HeldContainer, ShimHold
from labkit.podspec.messages import container_config, sandbox_config
from labkit.recording.flight import Call, Exec, Flight, FlightError, FlightProcess
from labkit.util.showable import columns, escaped, fitted, padded, short_path, showable, showable_lines
from tests.unit.test_views_bundle import POD
from tests.unit.test_views_flight_others import OVERLAY

AWKWARD = [
    "日",
    "\n",
    "\x1b",
    "\udcff",
    "\ud800",
    "\0",
    "\t",
    "\u202e",
    "\u200b",
    "\u0301",
    "\ufffe",
    "😀",
    "\u3000",
    "$x$",
    "a-->b]]>",
]
anything = st.text(st.characters(), max_size=60) | st.sampled_from(AWKWARD)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sleep 1000", "sleep 1000"),
        ("日本 naïve", "日本 naïve"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\udcffb\ud800", "a\\xffb\\ud800"),
        ("one\ntwo\tthree", "one two three"),
        ("\u202eevil\u200b\0", "\\u202eevil\\u200b\\x00"),
        ("e\u0301", "e\u0301"),
        ("\u0301", "\\u0301"),
        ("e" + "\u0301" * 5, "e" + "\u0301" * 3 + "\\u0301" * 2),
        ("a\u3000b\xa0c", "a b c"),
    ],
)
def test_what_does_not_print_is_escaped(text, shown):
    assert showable(text) == shown


@given(anything)
def test_shown_text_prints_everywhere(text):
    shown = showable(text)
    assert shown.isprintable() and shown.encode().decode() == shown
    assert not any(unicodedata.category(letter).startswith(("C", "Zl", "Zp")) for letter in shown)
    assert showable(shown) == shown
    assert all(line == showable(line) for line in showable_lines(text).split("\n"))


def test_a_long_text_loses_its_middle():
    shown = showable("begin" + "x" * 10_000 + "end")
    assert len(shown) == 400 and shown.startswith("begin") and shown.endswith("end") and "…" in shown


def test_columns_of_a_terminal():
    assert (columns("日本"), columns("e\u0301"), columns("abc")) == (4, 1, 3)
    assert padded("日", 4) == "日  " and padded("日", 4, right=True) == "  日"
    assert columns(fitted("日本" * 40, 21)) <= 21


def test_paths_are_shortened_in_their_middle():
    long = "/run/containerd/io.containerd.runtime.v2.task/k8s.io/49cfd39c7753ca19b3796ae35b4c20f99b3992beda60b0aa3c/rootfs/"
    assert short_path(long, 36) == "/run/containerd/…/rootfs/"
    assert short_path("/etc/hosts", 36) == "/etc/hosts"
    assert fitted(f"cp /kind/product_uuid {long}", 60) == "cp /kind/product_uuid /run/containerd/…/rootfs/"


@given(anything, st.integers(8, 60))
def test_what_is_fitted_fits(text, width):
    assert columns(fitted(showable(text), width)) <= width


@settings(deadline=None)
@given(anything, st.booleans())
@example("日" * 200, False)
def test_every_text_has_a_width_and_is_drawn_without_a_warning(text, bold):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = text_width(text, 10, bold)
        assert whole >= 0 and text_width(drawable(text), 10, bold) == whole
        assert text_width(fit(text, 80, 10, bold), 10, bold) <= 80
        assert all(text_width(line, 10, bold) <= 80 for line in wrap(text, 80, 10, bold))


def test_other_fonts_are_looked_through_without_a_word(caplog):
    assert drawable("日\U0001d400") in ("\\u65e5\U0001d400", "日\U0001d400")
    Figure("x", lambda canvas: canvas.text(10, 20, "\U0001d400", bold=True), 300, 40)._repr_mimebundle_()
    assert caplog.text == ""
    assert not [family for family in figure._families() if family.startswith("Last Resort")], "it draws a box for every letter"


@settings(deadline=None, max_examples=25)
@given(anything)
@example("a -- $\\frac{1}{2}$ ]]> <&> 日本")
def test_a_picture_of_any_text_is_whole_xml(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("x") / "x.svg"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Figure(text, lambda canvas: canvas.text(10, 20, text), 300, 40).save(path)
    described = ET.parse(path).getroot().findtext("{http://www.w3.org/2000/svg}desc")
    assert described == showable_lines(text)


def test_a_letter_that_no_font_has_is_escaped_and_one_that_another_has_is_drawn(monkeypatch):
    monkeypatch.setattr(figure, "_families", lambda: ())
    for cached in (figure._other_family, figure.drawable, figure.text_width, figure._advance):
        cached.cache_clear()
    assert drawable("echo 日") == "echo \\u65e5" and escaped("日") == "\\u65e5"
    for cached in (figure._other_family, figure.drawable, figure.text_width, figure._advance):
        cached.cache_clear()
    monkeypatch.undo()
    other = next((each for each in "日あ한\U0001d400" if figure._other_family(each)), None)
    assert other is None or (drawable(other) == other and text_width(other, 10) > 0)
    for cached in (figure._other_family, figure.drawable, figure.text_width, figure._advance):
        cached.cache_clear()


def flight_of(text: str) -> Flight:
    """A call about a Pod and a container of any name, and a process of any arguments."""
    call = Call("RuntimeService", "StartContainer", 10, 90, text, text, text)
    shim = FlightProcess(7, 1, "shim", None, None, name="shim", pod=text)
    started = FlightProcess(8, 7, "application", 20, 80, 1, None, 0, (Exec(30, (text, text)),), "", text, text)
    return Flight.from_json(Flight((call,), (shim, started), "proc-connector", notes=(text,)).to_json())


def pod_of(text: str) -> PodSnapshot:
    shim = PodProcess(7, 1, "shim", text, None, {"net": 1, "pid": 1}, (text,))
    process = PodProcess(8, 7, "application", text, text, {"net": 2, "pid": 3}, (text, text))
    container = PodContainer(text, "c" * 64, "Running", 0, text, 8)
    return PodSnapshot(text, text, "u", "s" * 64, "Ready", text, (shim, process), (), (container,))


def manifest(text: str) -> dict:
    """A Pod with values of any text."""
    containers = [{"name": "app", "image": text, "command": [text], "env": [{"name": text, "value": text}]}]
    return {"metadata": {"name": text, "labels": {text: text}}, "spec": {"hostname": text, "containers": containers}}


VIEWS = {
    "timeline": lambda text: flight_of(text).plot(),
    "chain": lambda text: call_chain(flight_of(text)),
    "matrix": lambda text: namespace_matrix([pod_of(text)]),
    "tree": lambda text: process_tree(pod_of(text).processes, [pod_of(text)]),
    "events": lambda text: event_log([EventLine(1.0, "Warning", text, text, text, text, 1, text)]),
    "capacity": lambda text: capacity(
        [Resource("cpu", 2000, 1800, (PodRequest(text, 250),), (PodRequest(text, 9000),))], node=text
    ),
    "cgroups": lambda text: cgroup_tree([CgroupLine(0, text, "kubepods"), CgroupLine(1, text, "pod")]),
    "availability": lambda text: availability([Answer(0, 9, "new", text), Answer(5, 9, "new")], [Moment(0, text, 9, text)]),
    "lifecycle": lambda text: pod_lifecycle([StatusChange(0, text, text), StatusChange(95, text, text)], flight_of(text)),
    "layers": lambda text: layers(text, [Layer(text, 9, (text,), text)], OVERLAY, written=[text]),
    "incident": lambda text: incident_timeline([IncidentMoment(9, "found", text), IncidentMoment(99, "found", text)], title=text),
    "shims": lambda text: shims([ShimHold(text, text, text, 7, 1, 5, text, text, 0, (HeldContainer(text, text, 8),))]),
    "fields": lambda text: field_map(manifest(text), to_dict(sandbox_config(POD)), to_dict(container_config(POD, "app"))),
    "bundle": lambda text: bundle(
        {"process": {"args": [text], "env": [text]}, "hostname": text, "annotations": {text: text}},
        {"hostname": text, "metadata": {"name": text}, "labels": {text: text}},
        {"command": [text], "args": [text], "envs": [{"key": text, "value": text}]},
    ),
}


@settings(deadline=None, max_examples=8)
@pytest.mark.parametrize("view", VIEWS)
@given(text=anything)
@example(text="日本\x1b[31m\udcff\u202e$[bold]\n\0")
def test_every_view_draws_every_text(tmp_path_factory, view, text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = VIEWS[view](text)
        made.save(path := tmp_path_factory.mktemp("x") / "x.svg")
    ET.parse(path)
    assert all(line.isprintable() for line in made.alt.split("\n"))


@settings(deadline=None, max_examples=50)
@given(anything)
def test_a_recording_keeps_every_text_and_shows_it(text):
    flight = flight_of(text)
    assert flight.processes[1].execs[0].argv == (text, text) and flight.calls[0].pod == text
    assert Flight.from_json(flight.to_json().encode()).processes == flight.processes
    assert flight.to_json().isascii()
    assert json.dumps(json.loads(flight.to_trace()), ensure_ascii=False).encode(), "no half of a surrogate pair is in it"
    for told in (repr(flight.steps()), flight.steps().table(), str(flight.tree())):
        assert all(line.isprintable() for line in told.split("\n"))
    assert max(columns(line) for line in flight.steps().table().split("\n")[:-1]) <= 120
    ET.fromstring(flight.steps()._repr_html_().join(("<html>", "</html>")))


@settings(deadline=None, max_examples=50)
@given(anything)
@example("[bold red]x[/] :warning: \\")
@example("[/]")
def test_a_terminal_shows_a_pod_of_any_name(text):
    console = Console(file=io.StringIO(), width=4000, emoji=False, color_system="truecolor", force_terminal=True)
    console.print(pod_tree(text, text, [pod_of(text)]))
    shown = re.sub("\x1b\\[[0-9;]*m", "", console.file.getvalue())
    assert all(line.isprintable() for line in shown.split("\n"))
    assert showable(f"{text}/{text}").strip() in shown


def test_an_error_shows_what_a_runtime_said():
    for error in (NodeError("a\x1b[2J\udcff"), FlightError("a\x1b[2J\udcff")):
        assert error._render_traceback_() == ["a\\x1b[2J\\xff"]
