"""What keeps the panels of one node up to date: one thread, which sleeps until a feed says that something has changed."""

from __future__ import annotations

import atexit
import logging
import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from labkit.cri import CriClient, CriError
from labkit.cri.pods import PodReader
from labkit.figures.pods.cluster_model import EventLine
from labkit.live import feeds
from labkit.live.panel import Panel
from labkit.live.views import Look
from labkit.node import Node
from labkit.node.observe import pod_processes
from labkit.node.pods.cluster import event_line
from labkit.node.pods.kubectl import NAMESPACE
from labkit.node.pods.pod_statuses import PodStatuses
from labkit.util.errors import NodeError

log = logging.getLogger("labkit")

ApiFacts = tuple[Mapping[tuple[str, str], str] | None, Sequence[EventLine]]
"""`statuses` and `events` of a Look."""

PAUSE_S = 0.1
"""From one look to the next."""
SHARE, BURST_S = 0.05, 0.12
"""Of a core, for looking and drawing, and for how much CPU time looks may follow each other without regard to it: a Pod's start
is shown as it happens, and a node on which Pods start all the time costs no more than its share."""
LATE_S = 1.0
"""So long after the last change the node is looked at once more: a runtime finishes its books after the kernel's last event."""
CONNECTS_S = 1.0

_followers: dict[tuple[str, str], Follower] = {}
_lock = threading.Lock()


def of(node: Any) -> Follower:
    """The follower of a node, the same one for each connection to it. Raises TypeError for what is no node."""
    refuse_other(node)
    with _lock:
        key = (node.kind, node.endpoint)
        if key not in _followers or _followers[key].ended:
            _followers[key] = Follower(node)
        return _followers[key]


def refuse_other(node: Any) -> None:
    if not isinstance(node, Node):
        raise TypeError(f"A live panel needs a node, not {type(node).__name__}: labkit.live.tree(labkit.connect()).")


@atexit.register
def close_all() -> None:
    """End every follower."""
    for each in list(_followers.values()):
        each.close()


class Follower:
    """The panels of one node, and the thread that shows them what has changed. It begins with the first panel and ends with the
    last. Panels have their own connection to the runtime: no recording has their calls."""

    def __init__(self, node: Node) -> None:
        self.node, self.ended = node, False
        self.cri = CriClient(node.endpoint)
        self.cri.away = node.cri.away
        self.reader = PodReader(self.cri)
        self.panels: dict[str, Panel] = {}
        self._looking = threading.Lock()
        self._condition = threading.Condition()
        self._changed = self._reopen = False
        self._api: bool | None = None
        self._api_changed = True
        self._api_facts: ApiFacts = (None, ())
        self._feeds: list[feeds.Feed] = []
        self._missing = ""
        self._thread = threading.Thread(target=self._run, name="live panels", daemon=True)

    def join(self, panel: Panel) -> Panel:
        """Keep a panel up to date from now on, in place of one of the same kind. It has been shown the node when this returns."""
        with self._condition:
            if self.ended:
                return of(self.node).join(panel)
            earlier = self.panels.get(panel.view.name)
            self.panels[panel.view.name] = panel
            self._reopen |= panel.view.asks_api and self._api is False
        if earlier:
            earlier.end("Another panel of this kind was opened, and has taken the place of this one.")
        panel.closing, panel.looking = lambda: self.leave(panel), self.changed
        try:
            self._api_changed |= panel.view.asks_api
            self._show([panel], self.look())
        except (CriError, NodeError) as error:
            panel.tell(f"The node cannot be looked at: {error}")
        with self._condition:
            if not self._thread.ident:
                self._thread.start()
            self._changed = True
            self._condition.notify_all()
        if self._feeds:  # opened for panels before this one
            self._say_what_is_followed()
        return panel

    def leave(self, panel: Panel) -> None:
        """Show a panel no more. With the last one the thread and the feeds end."""
        with self._condition:
            if self.panels.get(panel.view.name) is panel:
                del self.panels[panel.view.name]
            if not self.panels:
                self.ended = True
            self._condition.notify_all()
        if self.ended and self._thread.ident and threading.current_thread() is not self._thread:
            self._thread.join()

    def close(self) -> None:
        for panel in list(self.panels.values()):
            panel.close()

    def changed(self) -> None:
        """Something on the node has changed."""
        with self._condition:
            self._changed = True
            self._condition.notify_all()

    def look(self) -> Look:
        """The node as it is now, without the API. Raises CriError and NodeError."""
        with self._looking:
            snapshot = self.node.kernel.snapshot(fds=False)
            pods = self.reader.read(snapshot)
            return Look(pod_processes.tree(self.node, snapshot, pods), pods)

    # The thread

    def _run(self) -> None:
        try:
            while not self.ended:
                try:
                    self._open()
                    self._follow()
                except (CriError, NodeError) as error:
                    self._close_feeds()
                    self._wait_until_back(error)
                except Exception as error:  # a fault of labkit's shall not leave a panel that stands still without a word
                    log.exception("reading the node failed")
                    for panel in list(self.panels.values()):
                        panel.tell(f"Reading the node failed ({type(error).__name__}: {error}). It is tried again.")
                finally:
                    self._close_feeds()
                self._rest()
        finally:
            self.ended = True
            self.cri.close()

    def _open(self) -> None:
        with self._condition:
            self._api = any(panel.view.asks_api for panel in self.panels.values())
            self._reopen, self._changed, self._api_changed = False, True, True
        self.cri.version()
        api = self._api_has_changed if self._api else None
        self._feeds, self._missing = feeds.open_feeds(
            self.node, self.cri, self.changed, self._open_again, self._say_what_is_followed, api=api
        )
        self._say_what_is_followed()

    def _close_feeds(self) -> None:
        for feed in self._feeds:
            feed.stop()
        self._feeds = []

    def _api_has_changed(self) -> None:
        """Called by the thread of a watch."""
        self._api_changed = True
        self.changed()

    def _open_again(self) -> None:
        """Called by the thread of a feed that has failed."""
        with self._condition:
            self._reopen = True
            self._condition.notify_all()

    def _say_what_is_followed(self) -> None:
        for panel in list(self.panels.values()):
            panel.follow(feeds.describe(self._feeds, self._missing))

    def _follow(self) -> None:
        """Look whenever something has changed, until the feeds are to be opened anew. Raises CriError and NodeError."""
        late: float | None = None
        budget = Budget()
        while True:
            with self._condition:
                timeout = None if late is None else max(late - time.monotonic(), 0.0)
                was = self._condition.wait_for(lambda: self._changed or self.ended or self._reopen, timeout)
                if self.ended or self._reopen:
                    return
                self._changed = False
            late = time.monotonic() + LATE_S if was else None
            before = time.thread_time()
            self._show(list(self.panels.values()), self.look())
            pause = budget.pause(time.thread_time() - before, time.monotonic())
            with self._condition:
                self._condition.wait_for(lambda: self.ended or self._reopen, pause)

    def _show(self, panels: list[Panel], look: Look) -> None:
        """Those that need not wait for the API first."""
        for panel in panels:
            if not panel.view.asks_api:
                panel.show(look)
        if asking := [panel for panel in panels if panel.view.asks_api]:
            statuses, events = self._from_api()
            for panel in asking:
                panel.show(replace(look, statuses=statuses, events=events))

    def _wait_until_back(self, error: CriError | NodeError) -> None:
        """The runtime or the node is away: say so, and wait for its socket."""
        runtime, since = self.node.runtime.partition(" ")[0] or "The runtime", feeds.moment()
        # What to do about a call that took too long is nothing to a reader of the panel.
        todo = error.todo if isinstance(error, NodeError) else error.hint if error.code == "UNAVAILABLE" else ""
        for panel in list(self.panels.values()):
            panel.tell(f"{runtime} is down{f': what you see is from {panel.seen_at}' if panel.seen_at else ''}. {todo}".strip())
        while not self.ended and not self._is_back():
            self._rest()
        for panel in list(self.panels.values()):
            panel.tell(f"{runtime} was down from {since} to {feeds.moment()}.")

    def _rest(self) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self.ended or self._reopen, LATE_S)

    def _is_back(self) -> bool:
        if not self.cri.connects(CONNECTS_S):
            return False
        try:
            self.cri.version(timeout=CONNECTS_S)
            self.node.listener()
        except (CriError, NodeError):
            return False
        return True

    def _from_api(self) -> ApiFacts:
        """What the cluster's API has in the namespace "default", asked for when a watch has told of a change; nothing, where it
        does not answer."""
        if self._api_changed:
            self._api_changed = False
            try:
                self._api_facts = api_facts(self.node.api.kube)
            except Exception:  # the client raises several kinds, and the runtime has told of the Pods
                self._api_facts, self._api_changed = (None, ()), True
        return self._api_facts


def api_facts(kube: Any) -> ApiFacts:
    statuses = {(NAMESPACE, name): status for name, status in PodStatuses(kube).all().items()}
    events = kube.list_namespaced_event(NAMESPACE).items
    return statuses, tuple(event_line(each) for each in events if each.involved_object.kind == "Pod")


class Budget:
    """CPU time for looks: it grows by SHARE of a core to BURST_S at most."""

    def __init__(self) -> None:
        self.left, self.since = BURST_S, -math.inf

    def pause(self, spent_s: float, now_s: float) -> float:
        """How long to wait after a look that took so much CPU time and has just ended, in seconds."""
        self.left = min(self.left + SHARE * (now_s - self.since), BURST_S) - spent_s
        self.since = now_s
        return max(PAUSE_S, -self.left / SHARE)
