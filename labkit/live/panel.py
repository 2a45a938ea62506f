"""One panel: what it shows now, and the widget that shows it on a page."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from labkit.figures.figure import Figure
from labkit.figures.markup import markup
from labkit.live import feeds
from labkit.live.views import Look, Picture, View

WIDTH, NARROWEST, WIDEST = 640.0, 300.0, 1000.0
"""px. A panel is drawn for WIDTH until a page has said how wide its place is."""
CLOSED = "This panel is closed. Run the cell again to open it."


class Panel:
    """A live panel. A cell shows it as a widget; elsewhere it is the figure as it was.

    seen_at: the time of day of what it shows, "" before it has seen the node. redraws: how often its picture has changed. status:
    a sentence about the node or the panel, "" where there is nothing to say. follows: who tells it of changes.
    """

    def __init__(self, view: View) -> None:
        self.view = view
        self.seen_at = self.status = self.follows = ""
        self.redraws = 0
        self.closed = False
        self.closing: Callable[[], None] = lambda: None
        self.looking: Callable[[], None] = lambda: None
        self._look: Look | None = None
        self._parts: object = None
        self._picture: Picture | None = None
        self._sent = ("", "")
        self._width = WIDTH
        self._widget: Any = None
        self._lock = threading.RLock()

    def show(self, look: Look) -> None:
        """Take a new look at the node, and draw it if that changes the picture."""
        with self._lock:
            if self.closed:
                return
            self._look, self.seen_at = look, feeds.moment()
            before, self._parts = self._parts, self.view.parts(look)
            if self._parts != before:
                self._draw()

    def tell(self, status: str) -> None:
        """Show a sentence about the node; the picture stays."""
        with self._lock:
            if not self.closed:
                self.status = status
                self._send(status=status)

    def follow(self, words: str) -> None:
        """Show who tells the panel of changes."""
        with self._lock:
            self.follows = words
            self._send(follows=words, manual="Look again" in words)

    def end(self, status: str) -> None:
        """Show a last sentence, and nothing after it."""
        with self._lock:
            self.tell(status)
            self.closed = True
            self._send(closed=True)

    def close(self) -> None:
        """Follow the node no more; the picture stays. With the last panel of a node its threads end. A second call does
        nothing."""
        self.end(CLOSED)
        self.closing()

    @property
    def figure(self) -> Figure | None:
        """The figure that it shows; None before it has seen the node."""
        return self._picture.figure if self._picture else None

    def __repr__(self) -> str:
        return self._picture.text() if self._picture else self.status or self.view.title

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = with_widget(self.widget(), self.figure)
        return data | {"text/plain": repr(self)}, metadata

    def widget(self) -> Any:
        """The ipywidgets widget, to be put into a layout of one's own."""
        with self._lock:
            if self._widget is None:
                from labkit.live.widgets import PanelWidget

                self._widget = PanelWidget(title=self.view.title, status=self.status, follows=self.follows, closed=self.closed)
                self._widget.on_msg(self._asked)
                self._send_picture()
            return self._widget

    # How

    def _draw(self) -> None:
        if self._look is None:
            return
        self._picture = self.view.draw(self._look, self._width)
        self._send_picture()

    def _send_picture(self) -> None:
        if self._picture is None:
            return
        made = (markup(self._picture.figure), self._picture.table())
        if made != self._sent or self._widget is None:
            self.redraws += made != self._sent
            self._sent = made
        self._send(picture=made[0], table=made[1], seen=self.seen_at)

    def _send(self, **values: Any) -> None:
        """To the page, in one message, and only what differs. `seen` goes along and is no reason for one."""
        if self._widget is None:
            return
        if any(getattr(self._widget, name) != value for name, value in values.items() if name != "seen"):
            with self._widget.hold_sync():
                for name, value in values.items():
                    setattr(self._widget, name, value)

    def _asked(self, _: Any, content: Mapping[str, Any], *__: Any) -> None:
        """A message of the page."""
        if content.get("do") == "close":
            self.close()
        elif content.get("do") == "look":
            self.looking()
        elif content.get("do") == "width":
            wide = min(max(float(content.get("px", WIDTH)), NARROWEST), WIDEST)
            with self._lock:
                if wide != self._width and not self.closed:
                    self._width = wide
                    self._draw()


def with_widget(widget: Any, figure: Figure | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a cell shows: the widget, or the figure where no widget is shown. As `_repr_mimebundle_` returns it."""
    data, metadata = figure._repr_mimebundle_() if figure else ({}, {})
    shown = widget._repr_mimebundle_()
    return {**(shown[0] if isinstance(shown, tuple) else shown), **data}, metadata


class Menu:
    """Buttons that open panels, each in place of the one that was open. openers: words on the button → what opens it."""

    def __init__(self, openers: Mapping[str, Callable[[], Panel]]) -> None:
        self.openers = dict(openers)
        self.panel: Panel | None = None
        self._box: Any = None

    def open(self, name: str) -> Panel:
        """What a press of the button does. Raises KeyError for a name that no button has."""
        opened = self.openers[name]()
        if self.panel and not self.panel.closed:
            self.panel.close()
        self.panel = opened
        if self._box is not None:
            self._box.children = [self._box.children[0], opened.widget()]
        return opened

    def __repr__(self) -> str:
        return f"Live panels to open: {', '.join(self.openers)}."

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        return {**self.widget()._repr_mimebundle_(**options), "text/plain": repr(self)}

    def widget(self) -> Any:
        """The buttons, and below them the panel that is open."""
        if self._box is None:
            import ipywidgets

            buttons = [ipywidgets.Button(description=name, layout={"width": "auto"}) for name in self.openers]
            for button in buttons:
                button.on_click(lambda pressed: self.open(pressed.description))
            self._box = ipywidgets.VBox([ipywidgets.HBox(buttons, layout={"flex_flow": "row wrap"})])
            self._box.add_class("labkit-menu")
        return self._box
