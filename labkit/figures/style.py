"""The one style sheet of all figures: a colour for each role, hues for namespaces, light and dark.

Colours are Paul Tol's "bright" and "vibrant" schemes (SRON technical note 3.2), which stay apart for the colour-blind, a
few made lighter or darker to be seen on both backgrounds. Text is never coloured: colour marks, words say. One colour has one
meaning in all figures: PALETTE is the table, which docs/authoring.md explains.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

FONT = "DejaVu Sans"
"""Comes with matplotlib, so that widths measured here are widths drawn everywhere."""
BODY, SMALL, TITLE, LARGE = 13.0, 11.0, 15.0, 17.0
"""Font sizes, px; none is smaller than SMALL. LARGE is for the one thing that a figure is about."""
WHITE, BLACK = "#fefefe", "#010101"
"""Text on a coloured fill. Nearly white: pure white is the background's name in an SVG for both themes."""

class Colour(NamedTuple):
    """One colour on a light and on a dark page, and the one thing that it means in every figure."""

    light: str
    dark: str
    meaning: str


PALETTE = {
    # No two are the same on light: an SVG for both themes finds each colour's partner by it.
    "background": Colour("#ffffff", "#111111", "the page"),
    "band": Colour("#f3f3f3", "#1f1f1f", "an area that belongs together"),
    "text": Colour("#1a1a1a", "#e8e8e8", "text, and marks that need no colour"),
    "muted": Colour("#5a5a5a", "#a8a8a8", "text of second rank"),
    "line": Colour("#8c8c8c", "#787878", "lines"),
    "faint": Colour("#b4b4b4", "#5c5c5c", "lines of second rank"),
    # The roles of labkit.cri.pods.ROLES: a process, and what it does.
    "host": Colour("#777777", "#999999", "the node itself: its processes, and what is reserved for it"),
    "other": Colour("#a0a0a0", "#6e6e6e", "anything else"),
    "kubelet": Colour("#4477aa", "#6699cc", "the kubelet, or whoever calls CRI in its place"),
    "containerd": Colour("#332288", "#9988ee", "the runtime that answers CRI: containerd, or CRI-O"),
    "shim": Colour("#aa3377", "#c0508f", "a shim"),
    "runc": Colour("#b8a52c", "#ccbb44", "runc"),
    "cni": Colour("#33a9d0", "#66ccee", "a CNI plugin"),
    "pause": Colour("#228833", "#2f9c41", "the pause"),
    "application": Colour("#ee6677", "#f07281", "an application's process, and what it does"),
    "exec": Colour("#ee7733", "#f28a4e", "a process that exec started in a container"),
    # The contract
    "RuntimeService": Colour("#3d4a5c", "#b4c0d4", "CRI: its RuntimeService, and its versions"),
    "ImageService": Colour("#93643a", "#b98a5e", "images: CRI's ImageService, and an image's layers"),
    "pod": Colour("#3f9a86", "#2e8371", "a Pod as a whole: its requests, its cgroup"),
    # What became of it
    "running": Colour("#0a5a5c", "#2fd0c0", "a STATUS in which all is well: Running, Completed"),
    "waiting": Colour("#d8cdb4", "#5d533c", "a STATUS that passes: Pending, ContainerCreating"),
    "failed": Colour("#a80014", "#ff2d2d", "a failure: a Warning, a STATUS that names one, a request without an answer"),
}
"""The table of colours: one meaning each, in all figures. The namespace matrix, which draws no role, has HUES of its own."""


def _inks() -> dict[str, Colour]:
    """Names of inks, "on shim" for text on the colour "shim": black or white by what is read better on that theme's fill. Each
    differs by a trace from all others on light, so that an SVG for both themes finds its partner, too."""
    inks = {}
    for number, (name, fill) in enumerate(PALETTE.items(), 2):
        white = text_on(fill.light) == WHITE
        light = f"#fefe{0xFE - number:02x}" if white else f"#0101{number:02x}"
        inks[f"on {name}"] = Colour(light, text_on(fill.dark), f"text on the colour of {name}")
    return inks


HUES = ("#238934", "#de5565", "#4879ac", "#aa8800", "#b04088", "#009a89", "#d4641f", "#7a68c8")
"""One hue a namespace, the same on light and dark: each has 3:1 against both backgrounds."""

THEMES = ("light", "dark", "page")
"""Fixed light, fixed dark, or both in one SVG: then the page that shows it decides (CSS prefers-color-scheme)."""

JUPYTERLAB_EXTENSIONS = Path(__file__).parent / "jupyterlab"
"""For JupyterLab's --LabApp.extra_labextensions_path, together with LABKIT_THEME=page: figures then follow its theme at once."""

_chosen = "auto"


def colour(name: str, theme: str = "light") -> str:
    """The colour of that name ("text", "shim", …) as #rrggbb; a #rrggbb comes back as it is. Unknown roles are "other".

    "on shim" is the ink for text on the colour "shim"; "on #rrggbb" that for text on a colour which is the same in all themes.
    """
    if name.startswith("#"):
        return name
    if name.startswith("on #"):
        return text_on(name.removeprefix("on "))
    return COLOURS.get(name, COLOURS["on other" if name.startswith("on ") else "other"])[theme == "dark"]


def namespace_colour(family: int, shade: int = 0) -> str:
    """The colour of one namespace, #rrggbb: `family` chooses the hue; `shade` 0 is the hue, 1, 2, … lighter and darker kin."""
    hue = HUES[family % len(HUES)]
    step = shade + 3 * (family // len(HUES))
    return hue if not step else mix(hue, "#ffffff" if step % 2 else "#000000", min(0.3 + 0.14 * (step - 1), 0.75))


def mix(first: str, second: str, part: float) -> str:
    """`first` with `part` (0…1) of `second` in it, #rrggbb."""
    pairs = zip(bytes.fromhex(first[1:]), bytes.fromhex(second[1:]), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in pairs)


def contrast(first: str, second: str) -> float:
    """The contrast ratio of two #rrggbb colours, 1…21 (WCAG 2.2, relative luminance)."""
    bright, dim = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def text_on(fill: str) -> str:
    """WHITE or BLACK, whichever reads better on `fill`: one of the two always has a contrast of 4.5."""
    return max((WHITE, BLACK), key=lambda ink: contrast(ink, fill))


def theme(name: str | None = None) -> str:
    """Choose the theme of all figures drawn from now on, and return the one in force: "light", "dark" or "page".

    `name` is one of those or "auto" (what is in force at the start); None only asks. "auto" takes the environment
    variable LABKIT_THEME, else JupyterLab's own setting: its dark themes give "dark", "synchronise with system settings"
    gives "page", all else "light". JupyterLab shows an SVG as an image, cut off from the page's theme, and declares no
    CSS color-scheme that such an image could follow: hence a look at its settings. Raises ValueError for another name.
    """
    global _chosen
    if name is not None:
        if name not in (*THEMES, "auto"):
            raise ValueError(f"There is no theme {name!r}. Use one of: auto, {', '.join(THEMES)}.")
        _chosen = name
    return _chosen if _chosen != "auto" else _jupyterlab_theme()


def _jupyterlab_theme() -> str:
    wish = os.environ.get("LABKIT_THEME", "")
    if wish in THEMES:
        return wish
    settings = _jupyterlab_settings()
    if settings.get("adaptive-theme") is True:
        return "page"
    return "dark" if "dark" in str(settings.get("theme", "")).lower() else "light"


def _jupyterlab_settings() -> dict[str, object]:
    """JupyterLab's theme settings, {} if there are none: a JSON file, comments allowed, written when the user chooses a theme."""
    config = Path(os.environ.get("JUPYTER_CONFIG_DIR") or Path.home() / ".jupyter")
    home = Path(os.environ.get("JUPYTERLAB_SETTINGS_DIR") or config / "lab" / "user-settings")
    try:
        text = (home / "@jupyterlab" / "apputils-extension" / "themes.jupyterlab-settings").read_text(encoding="utf-8")
        settings = json.loads("\n".join(line for line in text.splitlines() if not line.lstrip().startswith(("//", "/*", "*"))))
    except (OSError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}


def _luminance(value: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (b / 255 for b in bytes.fromhex(value[1:]))]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


COLOURS: dict[str, Colour] = {**PALETTE, **_inks()}
"""All names of colours."""

TERMINAL = {
    "call": "bold", "kubelet": "bright_blue", "containerd": "blue", "shim": "magenta", "runc": "yellow", "cni": "cyan",
    "pause": "green", "application": "red", "exec": "bright_red", "failed": "bold yellow",
}
"""The same meanings in the colours that every terminal has (`rich.style`)."""
