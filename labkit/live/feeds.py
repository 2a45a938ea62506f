"""Who tells a panel that the node has changed: the kernel's process events, the runtime's own events, the API's watches.

A feed calls `changed` from a thread of its own, as often as something happens, and `ended` when it has failed and is to be opened
anew. It says nothing of what has changed: the panel looks.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from labkit.cri import CriClient, CriError
from labkit.kernel.events.below import DescendantStream, watch_below
from labkit.kernel.events.stream import EventsError, EventStream
from labkit.node.pods.kubectl import NAMESPACE
from labkit.node.pods.pod_statuses import close, lines_of
from labkit.recording.recorder.process_roles import Processes
from labkit.util.errors import NodeError

Changed = Callable[[], None]
SOURCES = {"proc-connector": "the kernel's process events (proc connector)", "tracefs": "the kernel's process events (tracefs)"}
UNSEEN = "A process that a container starts or ends by itself is shown when you press “Look again”."
AGAIN_S = 1.0
"""A watch that the API server has ended is begun again after this time."""
CONNECT_WITHIN_S = 5.0
"""So long a watch may take to be refused."""


class Feed(Protocol):
    """words: what is followed, for a sentence that begins with "Follows"."""

    words: str

    def stop(self) -> None:
        """End it; its thread has ended when this returns."""


class ProcessFeed:
    """The kernel's events of the runtime, its shims and all that is below them."""

    def __init__(self, node: Any, changed: Changed, ended: Changed) -> None:
        """Raises EventsError where the kernel's events cannot be had: a poll is no event."""
        self._changed, self._ended = changed, ended
        source = node.sources.open(watch_below)
        self._events: EventStream = source.events
        try:
            if self._events.source not in SOURCES:
                raise EventsError("The kernel's events of this node need root.")
            before = source.kernel.snapshot(fds=False).processes.values()
            self._own = own_processes(before, source.runtime, source.address or node.socket_path)
            if isinstance(self._events, DescendantStream):
                self._events.follow(self._own)
        except BaseException:
            self._events.stop()
            raise
        self.words = SOURCES[self._events.source]
        self._thread = threading.Thread(target=self._run, name="live: processes", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._events.stop()
        self._thread.join()

    def _run(self) -> None:
        try:
            for event in self._events:
                if concerns(event, self._own):
                    self._changed()
        except EventsError:
            self._ended()


def own_processes(before: Any, runtime: int | None, address: str) -> set[int]:
    """The pids of a runtime, its shims, and all below them."""
    return {process.pid for process in Processes(before, runtime, address).all if process.role}


def concerns(event: Any, own: set[int]) -> bool:
    """Whether a process event is of one of these processes or their children, which `own` then has too."""
    if event.kind == "fork" and event.ppid in own:
        own.add(event.pid)
        return True
    if event.kind == "exit" and event.pid in own:
        own.discard(event.pid)
        return True
    return event.pid in own


class RuntimeFeed:
    """The runtime's own events (GetContainerEvents): each start, stop and end of a container or sandbox."""

    words = "the runtime's events"

    def __init__(self, cri: CriClient, changed: Changed, unserved: Changed) -> None:
        """unserved: called when the runtime turns out to have no such RPC."""
        self._changed, self._unserved = changed, unserved
        self._stream = cri.get_container_events()
        self.served = True
        self._thread = threading.Thread(target=self._run, name="live: runtime", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stream.cancel()
        self._thread.join()

    def _run(self) -> None:
        try:
            for _ in self._stream:
                self._changed()
        except CriError as error:
            self.served = error.code != "UNIMPLEMENTED"
            if not self.served:
                self._unserved()
                return
        self._changed()  # it ends with the runtime: the next look sees that


class ApiFeed:
    """The API's watches of the Pods and events in the namespace "default"."""

    words = "the API's watches"

    def __init__(self, kube: Any, changed: Changed) -> None:
        self._changed, self._stopped = changed, threading.Event()
        self._open: dict[str, Any] = {}
        self._lock = threading.Lock()
        watched = (kube.list_namespaced_pod, kube.list_namespaced_event)
        self._threads = [threading.Thread(target=self._run, args=(each,), name="live: API", daemon=True) for each in watched]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        with self._lock:
            for response in self._open.values():
                with contextlib.suppress(Exception):
                    response.shutdown()
        for thread in self._threads:
            thread.join(CONNECT_WITHIN_S)

    def _run(self, watched: Callable[..., Any]) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(Exception):  # of whatever kind a watch ends with: it is begun again
                self._watch(watched)
            self._stopped.wait(AGAIN_S)

    def _watch(self, watched: Callable[..., Any]) -> None:
        with opened(watched) as response:
            name = threading.current_thread().name + str(threading.get_ident())
            with self._lock:
                if self._stopped.is_set():
                    return
                self._open[name] = response
            self._changed()  # what was deleted while nobody watched is in no line
            try:
                for _ in lines_of(response):
                    self._changed()
            finally:
                with self._lock:
                    self._open.pop(name, None)


@contextlib.contextmanager
def opened(watched: Callable[..., Any]) -> Iterator[Any]:
    """A watch as it streams."""
    response = watched(NAMESPACE, watch=True, _preload_content=False)
    try:
        yield response
    finally:
        close(response)


def open_feeds(
    node: Any, cri: CriClient, changed: Changed, ended: Changed, unserved: Changed, *, api: Changed | None
) -> tuple[list[Feed], str]:
    """The feeds that this node has, and why the kernel's events are not among them ("" where they are). api: called for a change
    in the API, which is watched where it is given. Raises CriError where the runtime is away."""
    feeds: list[Feed] = []
    missing = ""
    try:
        try:
            feeds.append(ProcessFeed(node, changed, ended))
        except (EventsError, NodeError) as error:
            missing = error.happened if isinstance(error, EventsError) else str(error)
        runtime = RuntimeFeed(cri, changed, unserved)
        feeds.append(runtime)
        if api:
            with contextlib.suppress(NodeError):
                feeds.append(ApiFeed(node.api.kube, api))
    except BaseException:
        for feed in feeds:
            feed.stop()
        raise
    return feeds, missing


def describe(feeds: list[Feed], missing: str) -> str:
    """What is followed, in a sentence."""
    names = [feed.words for feed in feeds if getattr(feed, "served", True)]
    if not names:
        return f"Nothing tells this panel of changes: press “Look again”. {missing}".strip()
    several = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    return f"Follows {several}.{f' {missing} {UNSEEN}' if missing else ''}"


def moment() -> str:
    """The time of day, for a reader."""
    return time.strftime("%H:%M:%S")
