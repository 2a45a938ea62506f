import base64
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from labkit.figures import style
from labkit.figures.figure import Figure, fit, text_width, wrap

PNG = b"\x89PNG\r\n\x1a\n"


def paint(canvas):
    canvas.title(["Two processes & one pipe"])
    canvas.box(0, 40, 300, 30, "band")
    canvas.line([(20, 50), (80, 50)])
    canvas.dot(20, 50, 12, "shim")
    canvas.dot(80, 50, 12, "pause", "text", shape="s")
    canvas.text(100, 50, "pause $1 <x>")


@pytest.fixture
def figure():
    return Figure("Two processes: shim & pause.", paint, 300, 90)


@pytest.fixture
def theme(monkeypatch):
    monkeypatch.setattr(style, "_chosen", "light")
    return style.theme


def test_a_notebook_gets_text_svg_and_png(figure, theme):
    data, metadata = figure._repr_mimebundle_()
    assert set(data) == {"text/plain", "image/svg+xml", "image/png"}
    assert data["text/plain"] == repr(figure) == str(figure) == figure.alt
    assert base64.b64decode(data["image/png"]).startswith(PNG)
    assert metadata["image/png"] == {"width": 300, "height": 90}


def test_the_same_figure_is_the_same_bytes(figure, tmp_path):
    for kind in ("svg", "png", "pdf"):
        first = figure.save(tmp_path / f"first.{kind}").read_bytes()
        assert figure.save(tmp_path / f"second.{kind}").read_bytes() == first


def test_the_svg_carries_its_alternative_text_and_no_font_or_date(figure, tmp_path):
    text = figure.save(tmp_path / "x.svg").read_text()
    root = ET.fromstring(text)
    assert root.findtext("{http://www.w3.org/2000/svg}desc") == figure.alt
    assert "<text" not in text and not re.search(r"20\d\d-\d\d-\d\d", text)


def test_each_theme_has_its_own_background(figure, tmp_path):
    light, dark = (figure.save(tmp_path / f"{name}.svg", theme=name).read_text() for name in ("light", "dark"))
    assert style.colour("background", "light") in light and style.colour("background", "dark") not in light
    assert style.colour("background", "dark") in dark and style.colour("background", "light") not in dark


def test_a_page_svg_turns_every_colour_drawn_into_its_dark_partner(figure, tmp_path):
    text = figure.save(tmp_path / "x.svg", theme="page").read_text()
    drawn = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", text.split("</style>", 1)[1]))
    for name in ("background", "band", "text", "line", "shim", "pause"):
        light, dark, _ = style.COLOURS[name]
        assert light in drawn
        assert f'[style*="fill: {light}"]{{fill:{dark}!important}}' in text


@pytest.mark.parametrize("width", [150, 600])
def test_a_width_enlarges_everything(figure, tmp_path, width):
    png = figure.save(tmp_path / "x.png", width=width).read_bytes()
    assert int.from_bytes(png[16:20], "big") == width
    assert int.from_bytes(png[20:24], "big") == pytest.approx(width * 90 / 300, abs=1)
    svg = ET.fromstring(figure.save(tmp_path / "x.svg", width=width).read_text())
    assert float(svg.get("width").removesuffix("pt")) == pytest.approx(width * 72 / 96)


@pytest.mark.parametrize(("name", "theme"), [("x.gif", "light"), ("x", "light"), ("x.png", "page"), ("x.svg", "sepia")])
def test_what_cannot_be_written_is_refused_in_words(figure, tmp_path, name, theme):
    with pytest.raises(ValueError, match="Use "):
        figure.save(tmp_path / name, theme=theme)
    assert not (tmp_path / name).exists()


def test_text_is_measured_as_matplotlib_draws_it():
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    words = "containerd-shim-runc-v2 mnt"
    drawn = TextPath((0, 0), words, size=100, prop=FontProperties(family=style.FONT)).get_extents().width
    assert text_width(words, 100) == pytest.approx(drawn, rel=0.03)


def test_wrap_and_fit_keep_to_the_width():
    words = "The shims are children of init, not of containerd"
    lines = wrap(words, 120)
    assert " ".join(lines) == words and len(lines) > 1
    assert all(text_width(line) <= 120 for line in lines)
    assert fit(words, 1000) == words
    short = fit(words, 120)
    assert short.endswith("…") and words.startswith(short[:-1]) and text_width(short) <= 120


def test_drawing_leaves_pyplot_alone_and_import_leaves_matplotlib_alone():
    program = (
        "import sys, labkit.figures as v; assert 'matplotlib' not in sys.modules\n"
        "v.process_tree([])._repr_mimebundle_(); assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stderr == ""
