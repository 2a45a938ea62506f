"""The one style sheet of all figures: a colour for each role, hues for namespaces, light and dark.

Colours are Paul Tol's "bright" and "vibrant" schemes (SRON technical note 3.2), which stay apart for the colour-blind, a
few made lighter or darker to be seen on both backgrounds. Text is never coloured: colour marks, words say.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

FONT = "DejaVu Sans"
"""Comes with matplotlib, so that widths measured here are widths drawn everywhere."""
BODY, SMALL, TITLE = 13.0, 11.0, 15.0
"""Font sizes, px."""

COLOURS: dict[str, tuple[str, str]] = {
    # name: (on light, on dark). No two are the same on light: an SVG for both themes finds each colour's partner by it.
    "background": ("#ffffff", "#111111"),
    "band": ("#f3f3f3", "#1f1f1f"),
    "text": ("#1a1a1a", "#e8e8e8"),
    "muted": ("#5a5a5a", "#a8a8a8"),
    "line": ("#8c8c8c", "#787878"),
    "faint": ("#b4b4b4", "#5c5c5c"),
    "host": ("#777777", "#999999"),
    "other": ("#a0a0a0", "#6e6e6e"),
    "kubelet": ("#4477aa", "#6699cc"),
    "containerd": ("#332288", "#9988ee"),
    "shim": ("#aa3377", "#c0508f"),
    "runc": ("#b8a52c", "#ccbb44"),
    "cni": ("#33a9d0", "#66ccee"),
    "pause": ("#228833", "#2f9c41"),
    "application": ("#ee6677", "#f07281"),
    "exec": ("#ee7733", "#f28a4e"),
}
"""Names of colours, among them every role of labkit.cri.pods.ROLES."""

HUES = ("#238934", "#de5565", "#4879ac", "#aa8800", "#b04088", "#009a89", "#d4641f", "#7a68c8")
"""One hue a namespace, the same on light and dark: each has 3:1 against both backgrounds."""

THEMES = ("light", "dark", "page")
"""Fixed light, fixed dark, or both in one SVG: then the page that shows it decides (CSS prefers-color-scheme)."""

JUPYTERLAB_EXTENSIONS = Path(__file__).parent / "jupyterlab"
"""For JupyterLab's --LabApp.extra_labextensions_path, together with LABKIT_THEME=page: figures then follow its theme at once."""

_chosen = "auto"


def colour(name: str, theme: str = "light") -> str:
    """The colour of that name ("text", "shim", …) as #rrggbb; a #rrggbb comes back as it is. Unknown roles are "other"."""
    return name if name.startswith("#") else COLOURS.get(name, COLOURS["other"])[theme == "dark"]


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
    """Black or white (nearly: pure white is the background's name), whichever reads better on `fill`."""
    return max(("#fefefe", "#010101"), key=lambda ink: contrast(ink, fill))


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
