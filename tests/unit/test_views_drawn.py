"""Every figure as it is drawn, in each theme and for each width: text that can be read, and nothing on top of it."""

import itertools
import xml.etree.ElementTree as ET

import pytest

from labkit.cri.pods import ROLES
from labkit.figures import style
from labkit.figures.figure import NARROW, Figure
from labkit.figures.flight.pod_lifecycle import pod_lifecycle
from labkit.figures.flight.timeline import flight_timeline
from labkit.figures.namespaces.matrix import namespace_matrix
from labkit.figures.pods.capacity import capacity
from labkit.figures.pods.cgroup_tree import cgroup_tree
from labkit.figures.pods.cluster_model import StatusChange
from labkit.figures.pods.event_log import event_log
from labkit.figures.pods.process_tree import process_tree
from labkit.figures.runtime.incident_timeline import incident_timeline
from labkit.figures.runtime.load import Answer, Moment
from labkit.figures.runtime.requests_over_time import availability
from labkit.figures.runtime.shim_holds import shims
from labkit.figures.written import variants
from labkit.recording.flight import Flight
from tests.conftest import ROOT
from tests.unit import drawn, flights, test_views_bundle, test_views_flight_others, test_views_incident, test_views_kube
from tests.unit.test_views_flight_timeline import Paper, clashes
from tests.unit.test_views_namespace_matrix import HOST, crashed, make_pod
from tests.unit.test_views_process_tree import everything
from tests.unit.test_views_process_tree import make_pod as pod_with_commands
from tests.unit.test_views_shims import held

MS = flights.MS
READABLE = 4.5
"""The contrast that text needs (WCAG 2.2, 1.4.3)."""
ANSWERS = (*test_views_kube.ANSWERS, Answer(1000 * MS, MS, "kept", "refused"))
MOMENTS = [Moment(0, "", None, "1.6.20"), Moment(300 * MS, "SIGKILL", None, "down"), Moment(500 * MS, "start", 600 * MS, "2.1.9")]
STATUSES = (*test_views_kube.CHANGES, StatusChange(600 * MS, "shop", "CrashLoopBackOff"))
SHOP = make_pod("shop", ["web", "sidecar"], 40)
WEB = pod_with_commands("web", {"web": "httpd -f -p 80", "sidecar": "sleep 1000"}, 4100)
FIGURES = {
    **{name: make for name, make in test_views_flight_others.FIGURES.items() if "nothing" not in name},
    "fields, some lit": lambda **o: test_views_flight_others.of_pod(lit=["image", "limits.memory", "livenessProbe"], **o),
    "bundle": lambda **o: test_views_bundle.of_pod(**o),
    "timeline": lambda **o: flight_timeline(flights.pods(1), **o),
    "timeline of forty": lambda **o: flight_timeline(flights.pods(40), **o),
    "timeline of an end": lambda **o: flight_timeline(flights.teardown(), **o),
    "lifecycle": lambda **o: pod_lifecycle(STATUSES, Flight(calls=test_views_kube.CALLS), **o),
    "capacity": lambda **o: capacity([test_views_kube.cpu(800)], **o),
    "cgroups": lambda **o: cgroup_tree(test_views_kube.TREE, **o),
    "events": lambda **o: event_log(test_views_kube.EVENTS, **o),
    "availability": lambda **o: availability(ANSWERS, MOMENTS, **o),
    "incident": lambda **o: incident_timeline(test_views_incident.MOMENTS, **o),
    "shims": lambda **o: shims([held("web", 4100, "server", version="1.6.20")], [held("young", 9, "m", version="2.1.9")], **o),
    "tree": lambda **o: process_tree(everything(WEB), [WEB], **o),
    "matrix": lambda **o: namespace_matrix([SHOP], HOST, **o),
    "matrix of two moments": lambda **o: namespace_matrix([SHOP], HOST, after=[crashed(SHOP, "web")], **o),
}


@pytest.mark.parametrize("theme", ["light", "dark", "page"])
@pytest.mark.parametrize("name", FIGURES)
def test_every_text_can_be_read_on_what_is_beneath_it(name, theme):
    figure = FIGURES[name]()
    for svg in [figure._svg(theme)] + ([figure.at(NARROW[-1])._svg(theme)] if theme == "page" else []):
        texts = drawn.texts(svg) + (drawn.texts(svg, dark_page=True) if theme == "page" else [])
        assert len(texts) > 2
        assert [(t.words, round(t.contrast, 2)) for t in texts if t.contrast < READABLE] == []
        assert [(t.words, round(t.size, 1)) for t in texts if t.size < style.SMALL - 0.1] == []


def test_a_notebook_gets_a_figure_for_wide_and_for_narrow_pages():
    figure = FIGURES["events"]()
    whole = figure._repr_mimebundle_()[0]["image/svg+xml"]
    found = [ET.fromstring(each) for each in variants(whole)]
    assert [round(float(svg.get("width").removesuffix("pt")) * 96 / 72) for svg in found] == [figure.width, *NARROW]
    assert {svg.findtext(f"{drawn.SVG}desc") for svg in found} == {figure.alt}
    assert not any(svg.get("display") for svg in found)
    assert [svg.get("display") for svg in ET.fromstring(whole).findall(f"{drawn.SVG}svg")] == ["none"] * len(NARROW)
    narrow = figure.at(NARROW[0])
    assert len(variants(narrow._repr_mimebundle_()[0]["image/svg+xml"])) == 2, "of a narrow figure there are only narrower ones"


@pytest.mark.parametrize("width", NARROW)
@pytest.mark.parametrize("name", FIGURES)
def test_a_narrow_figure_keeps_its_letters_and_no_text_meets_another(name, width):
    figure = FIGURES[name]()
    narrow = figure.at(width)
    assert (narrow.width, narrow.alt) == (width, figure.alt)
    assert clashes(Paper(narrow)) == []


def test_a_text_that_cannot_be_read_is_found():
    """The walk itself: pale letters on a box, on a mark, on a thick line; and on a page that turns dark."""

    def paint(canvas):
        canvas.box(0, 0, 100, 40, "containerd")
        canvas.text(10, 20, "box", colour="#332299")
        canvas.dot(150, 20, 40, "#777777")
        canvas.text(150, 20, "m", colour="#777778", align="center")
        canvas.line([(220, 20), (290, 20)], "#000001", 20)
        canvas.text(240, 20, "line", colour="#010102")
        canvas.box(300, 0, 50, 40, "containerd")
        canvas.text(305, 20, "fixed", colour=style.WHITE)
        canvas.box(400, 0, 50, 40, "containerd")
        canvas.text(405, 20, "ink", colour="on containerd")

    svg = Figure("x", paint, 500, 40)._svg("page")
    light = {t.words: t.contrast for t in drawn.texts(svg)}
    dark = {t.words: t.contrast for t in drawn.texts(svg, dark_page=True)}
    assert max(light["box"], light["m"], light["line"]) < 1.5
    assert light["fixed"] > READABLE > dark["fixed"]
    assert min(light["ink"], dark["ink"]) > READABLE


def test_every_colour_has_one_meaning_and_is_told_from_the_others():
    assert set(ROLES) <= set(style.PALETTE)
    assert len({each.meaning for each in style.PALETTE.values()}) == len(style.PALETTE)
    greys = ("background", "band", "text", "muted", "line", "faint")
    marks = {name: each for name, each in style.PALETTE.items() if name not in greys}
    for theme in ("light", "dark"):
        for (one, first), (other, second) in itertools.combinations(marks.items(), 2):
            assert distance(getattr(first, theme), getattr(second, theme)) > 12, f"{one} and {other} look alike when {theme}"


def test_the_guide_for_authors_has_the_table_of_colours():
    guide = (ROOT / "docs/authoring.md").read_text()
    rows = [f"| `{name}` | `{each.light}`, `{each.dark}` | {each.meaning} |" for name, each in style.PALETTE.items()]
    assert [row for row in rows if row not in guide] == []


def test_no_figure_takes_a_colour_that_is_not_in_the_table():
    """A colour that is named in code but not in the table would be drawn as "other", and one by its number has no meaning."""
    known = set(style.COLOURS) | {""}

    class Sheet(Paper):
        def note(self, colour):
            assert colour in known or colour.startswith(("#", "on #")), colour
            if colour.startswith("#"):
                assert colour in namespaces, f"{colour} is in no table"

        def text(self, x, y, words, size=style.BODY, colour="text", bold=False, align="left"):
            self.note(colour if colour not in (style.WHITE, style.BLACK) else "text")

        def line(self, points, colour="line", width=1.2):
            self.note(colour)

        def dot(self, x, y, size, fill, edge="", edge_width=1.3, shape="o"):
            self.note(fill)
            self.note(edge)

        def box(self, x, y, width, height, fill):
            self.note(fill)

    namespaces = {style.namespace_colour(family, shade) for family in range(24) for shade in range(5)}
    for make in FIGURES.values():
        Sheet(make())


def distance(one, other):
    """How far apart two colours look: CIE 1976, in CIELAB, where 2.3 is just seen."""

    def lab(colour):
        r, g, b = (
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in bytes.fromhex(colour[1:]))
        )
        white = (0.95047, 1.0, 1.08883)
        xyz = (0.4124 * r + 0.3576 * g + 0.1805 * b, 0.2126 * r + 0.7152 * g + 0.0722 * b, 0.0193 * r + 0.1192 * g + 0.9505 * b)
        x, y, z = ((v / w) ** (1 / 3) if v / w > 0.008856 else 7.787 * v / w + 16 / 116 for v, w in zip(xyz, white, strict=True))
        return 116 * y - 16, 500 * (x - y), 200 * (y - z)

    return sum((a - b) ** 2 for a, b in zip(lab(one), lab(other), strict=True)) ** 0.5
