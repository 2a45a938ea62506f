import itertools
import json

import pytest

from labkit.cri.pods import ROLES
from labkit.figures import style


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("background", ["background", "band"])
@pytest.mark.parametrize("ink", ["text", "muted"])
def test_text_is_readable(theme, background, ink):
    assert style.contrast(style.colour(ink, theme), style.colour(background, theme)) >= 4.5


@pytest.mark.parametrize("family", range(8))
@pytest.mark.parametrize("shade", range(5))
def test_letters_are_readable_on_every_namespace_colour(family, shade):
    fill = style.namespace_colour(family, shade)
    assert style.contrast(fill, style.text_on(fill)) >= 4.5


@pytest.mark.parametrize("hue", style.HUES)
@pytest.mark.parametrize("background", style.COLOURS["background"][:2])
def test_hues_stand_out_on_both_backgrounds(hue, background):
    assert style.contrast(hue, background) >= 3


def test_contrast_is_wcags():
    assert style.contrast("#000000", "#ffffff") == pytest.approx(21)
    assert style.contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_every_role_has_a_colour_of_its_own_in_both_themes():
    for theme in ("light", "dark"):
        colours = [style.colour(role, theme) for role in ROLES]
        assert len(set(colours)) == len(ROLES)


def test_an_svg_for_both_themes_can_tell_colours_apart_by_their_light_value():
    light = [pair[0] for pair in style.COLOURS.values()]
    drawn_alike_in_both = [style.namespace_colour(f, s) for f, s in itertools.product(range(24), range(5))] + [
        "#fefefe",
        "#010101",
    ]
    assert len(set(light)) == len(light)
    assert not set(light) & set(drawn_alike_in_both)


def test_pods_do_not_share_colours():
    colours = [
        style.namespace_colour(family, shade) for family, shade in itertools.product(range(len(style.HUES)), range(5))
    ]
    assert len(set(colours)) == len(colours)


@pytest.fixture
def jupyterlab(tmp_path, monkeypatch):
    """Write JupyterLab's theme settings as it does."""
    monkeypatch.delenv("LABKIT_THEME", raising=False)
    monkeypatch.setenv("JUPYTERLAB_SETTINGS_DIR", str(tmp_path))
    monkeypatch.setattr(style, "_chosen", "auto")

    def write(text: str) -> None:
        file = tmp_path / "@jupyterlab" / "apputils-extension" / "themes.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    return write


def test_theme_is_light_without_settings(jupyterlab):
    assert style.theme() == "light"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"theme": "JupyterLab Dark"}, "dark"),
        ({"theme": "JupyterLab Dark High Contrast"}, "dark"),
        ({"theme": "JupyterLab Light"}, "light"),
        ({"theme": "JupyterLab Light", "adaptive-theme": True}, "page"),
    ],
)
def test_theme_follows_jupyterlabs_settings(jupyterlab, settings, expected):
    jupyterlab("{\n    // Theme\n    // @jupyterlab/apputils-extension:themes\n" + json.dumps(settings, indent=4)[1:])
    assert style.theme() == expected


def test_a_broken_settings_file_is_no_error(jupyterlab):
    jupyterlab("{ theme")
    assert style.theme() == "light"


def test_a_chosen_theme_wins_and_auto_takes_it_back(jupyterlab, monkeypatch):
    jupyterlab('{"theme": "JupyterLab Dark"}')
    assert style.theme("light") == "light"
    monkeypatch.setenv("LABKIT_THEME", "page")
    assert style.theme() == "light"
    assert style.theme("auto") == "page"


def test_an_unknown_theme_is_refused_in_words():
    with pytest.raises(ValueError, match=r"no theme 'sepia'.*Use one of: auto, light, dark, page"):
        style.theme("sepia")


def test_the_jupyterlab_extension_is_complete():
    package = style.JUPYTERLAB_EXTENSIONS / "labkit-figures"
    built = json.loads((package / "package.json").read_text())["jupyterlab"]["_build"]
    assert f'_JUPYTERLAB["{package.name}"]' in (package / built["load"]).read_text()
