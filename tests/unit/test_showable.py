"""Text of any kind, shown: nothing raises, nothing is drawn outside of its place, and data keeps the whole."""

import unicodedata
import warnings
import xml.etree.ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from labkit.showable import columns, escaped, fitted, padded, short_path, showable, showable_lines
from labkit.views import figure
from labkit.views.figure import Figure, drawable, fit, text_width, wrap

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
