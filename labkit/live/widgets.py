"""The widgets of panels and replays on a page (anywidget). Imported when one is shown: a program without a page needs none."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets

from labkit.figures.markup import theme_rules

HERE = Path(__file__).parent
PARTS = (HERE / "parts.js").read_text(encoding="utf-8")
STYLE = (HERE / "live.css").read_text(encoding="utf-8") + "".join(
    theme_rules(f"{dark} .labkit-live") for dark in ('[data-jp-theme-light="false"]', ".vscode-dark")
)


class PanelWidget(anywidget.AnyWidget):
    """See labkit.live.panel.Panel. picture: an <svg> element; table: HTML above it, "" for none."""

    _esm = PARTS + (HERE / "panel.js").read_text(encoding="utf-8")
    _css = STYLE
    title = traitlets.Unicode().tag(sync=True)
    picture = traitlets.Unicode().tag(sync=True)
    table = traitlets.Unicode().tag(sync=True)
    status = traitlets.Unicode().tag(sync=True)
    follows = traitlets.Unicode().tag(sync=True)
    seen = traitlets.Unicode().tag(sync=True)
    manual = traitlets.Bool().tag(sync=True)
    closed = traitlets.Bool().tag(sync=True)


class ReplayWidget(anywidget.AnyWidget):
    """See labkit.live.replaying.Replay. variants: of the figure, the widest first; moments: [ms, words] of each event."""

    _esm = PARTS + (HERE / "replay.js").read_text(encoding="utf-8")
    _css = STYLE
    variants: traitlets.List = traitlets.List().tag(sync=True)
    moments: traitlets.List = traitlets.List().tag(sync=True)
    speed = traitlets.Float(0.1).tag(sync=True)
