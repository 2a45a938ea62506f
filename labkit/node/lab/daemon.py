"""`node.daemon`: the node's containerd itself, killed, stopped, started and replaced by another version under running Pods.

What keeps the Pods alive meanwhile is their shims, which are no children of containerd's (containerd's runtime/v2 README).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from labkit.node.host import containerd_setup
from labkit.node.lab import control
from labkit.node.packages import releases, versions
from labkit.node.state import status
from labkit.node.state.home import Home
from labkit.node.state.runtime_daemon import RuntimeChange
from labkit.util import progress
from labkit.util.errors import NodeError

if TYPE_CHECKING:
    from labkit.node.node import Node

SOON_S = 5.0
"""Work that takes less than this shows no progress below a notebook's cell."""


class Daemon:
    """The containerd of a node that labkit owns. Every method waits until it is done, and works from any process.

    The node's background process does the work, so that a notebook that dies in the middle leaves the node running. One change at
    a time: a second one is refused. Ctrl-C does not stop what has begun: the node ends on one version, running, and the
    KeyboardInterrupt says which. All raise NodeError.
    """

    soon_s = SOON_S

    def __init__(self, home: Home, node: Node | None = None) -> None:
        self.home, self.node = home, node

    def __repr__(self) -> str:
        return f"<Daemon: containerd {self.version}, {self.state}>"

    @property
    def version(self) -> str:
        """The version that the node runs, or would run if it were started: "1.7.24"."""
        return self._chosen().version

    @property
    def first_version(self) -> str:
        """The version that the node had first, which `reset` brings back."""
        first = releases.pick(self._here(), "default")
        return first.version if first else self.version

    @property
    def changed_by(self) -> str:
        """The lesson that has replaced the first version; "" where none has."""
        return "" if self._chosen().default else containerd_setup.chosen_by(self.home)

    @property
    def state(self) -> str:
        """ "running", "stopped" (until `start`), "restarting", or "down" with the whole node."""
        state = str(status.read(self.home)["state"])
        return {"ready": "running", "starting": "restarting", "failed": "down"}.get(state, state)

    @property
    def since(self) -> str:
        """When the node was brought up (RFC 3339); "" where it is down."""
        found = status.read(self.home)
        return str(found.get("since", "")) if found["state"] != "down" else ""

    @property
    def pid(self) -> int | None:
        """containerd's pid; None while it does not run."""
        found = status.read(self.home)
        return found.get("processes", {}).get("containerd") if found["state"] == "ready" else None

    def versions(self) -> tuple[str, ...]:
        """The versions that are here, the oldest first; `fetch` brings others."""
        return tuple(release.version for release in self._here())

    def fetch(self, version: str) -> str:
        """Bring another version beside the others ("1.7", "1.7.24", "2"): its full number. Nothing is fetched that is here."""
        return self._release(version).version

    def unit(self) -> str:
        """The systemd unit that came with this containerd's package, by which a machine runs it; the lab itself has no systemd.

        A release file of containerd's own has none, and then that of another version which is here is given. Raises NodeError.
        """
        for release in (self._chosen(), *reversed(self._here())):
            if text := self._unit_of(release):
                return text
        raise NodeError("No containerd that is here came with a systemd unit.", "A distribution's package has one.")

    def kill(self) -> RuntimeChange:
        """SIGKILL. Nobody starts containerd again until `start` (or `labkit up`, or the next `labkit.connect`)."""
        return self._do("kill", **self._lesson())

    def stop(self) -> RuntimeChange:
        """SIGTERM, and wait for its end. As after `kill`, it does not run until `start`."""
        return self._do("stop", **self._lesson())

    def start(self) -> RuntimeChange:
        """Start it, if it does not run, and wait until it answers."""
        return self._do("start")

    def restart(self) -> RuntimeChange:
        """Stop it, start it, and wait until it answers."""
        return self._do("restart")

    def upgrade(self, version: str) -> RuntimeChange:
        """Replace containerd by a newer version on the same root and state directories; fetches it first where it is not here.

        Pods go on. A version that does not start is replaced by the old one again, and the error says so. The choice stays over
        `labkit down` and `up`, as that of a package would; `labkit clean` ends it.
        """
        return self._replace(version, "upgrade")

    def downgrade(self, version: str, *, force: bool = False) -> RuntimeChange:
        """The same to an older version ("default": the one that the node had first), as far as containerd can go back.

        containerd 1.x takes the shims that 2.x started for dead (it looks for their address in another file) and kills their
        Pods: with such Pods on the node it is refused, unless `force`. A version that cannot read what a newer one wrote does
        not start, and the newer one comes back.
        """
        if not force and (lost := self._lost_by(self._release(version))):
            raise NodeError(
                f"containerd {version} cannot speak to shims that {self.version} started: it would kill {len(lost)} containers.",
                "Remove their Pods first, or say force=True (--force).",
            )
        return self._replace(version, "downgrade")

    def reset(self) -> RuntimeChange:
        """Start it where it does not run, and bring back the first version, as a lesson does at its end."""
        self.start()
        if self._chosen().default:
            return RuntimeChange("reset", self.version, self.version, self.pid, 0.0)
        return self.downgrade("default")

    def _chosen(self) -> releases.Release:
        return containerd_setup.chosen(self.home, self._here())

    def _here(self) -> tuple[releases.Release, ...]:
        return releases.here(self.home.cache)

    def _unit_of(self, release: releases.Release) -> str:
        for directory in versions.UNIT_DIRECTORIES:
            with contextlib.suppress(OSError):
                return (release.containerd.parents[2] / directory / "containerd.service").read_text()
        return ""

    def _release(self, version: str) -> releases.Release:
        with progress.shown() as show:
            return releases.ensure(self.home.cache, version, show)

    def _lost_by(self, release: releases.Release) -> list[str]:
        """The containers whose shims this version cannot reach: 1.x reads `address` in the bundle, which 2.x does not write."""
        if versions.order(release.version) >= versions.order("2.0.0"):
            return []
        return [
            b.name for b in self.home.bundles() if b.is_relative_to(self.home.containerd_state) and not (b / "address").exists()
        ]

    def _replace(self, version: str, action: str) -> RuntimeChange:
        release = self._release(version)
        old, new = versions.order(self.version), versions.order(release.version)
        if (new < old) if action == "upgrade" else (new > old):
            other = "downgrade" if action == "upgrade" else "upgrade"
            raise NodeError(
                f"containerd {release.version} is {'older' if new < old else 'newer'} than the node's {self.version}.",
                f"Use {other} for that.",
            )
        if new == old and self.state == "running":
            return RuntimeChange(action, self.version, self.version, self.pid, 0.0)
        return self._do(action, do="replace", version=release.version, **self._lesson())

    def _lesson(self) -> dict[str, str]:
        """Tells the owner which lesson makes the change."""
        return {"lesson": self.node.lesson} if self.node is not None and self.node.lesson else {}

    def _do(self, action: str, **words: Any) -> RuntimeChange:
        before = self.version
        with progress.shown(after_s=self.soon_s) as show:
            try:
                done = control.ask(self.home, show, **{"do": action, **words})
            except KeyboardInterrupt as interrupt:
                done = interrupt.args[0] if interrupt.args and isinstance(interrupt.args[0], dict) else {}
                now = f"{done.get('version', self.version)}, {self.state}"
                raise KeyboardInterrupt(f"The {action} had begun and is done: the node's containerd is {now}.") from None
            finally:
                self._tell_node()
        return RuntimeChange(action, before, done["version"], done["pid"], done.get("away_s"))

    def _tell_node(self) -> None:
        runtime = status.read(self.home).get("runtime")
        if self.node is not None and runtime:
            self.node.runtime = f"{runtime['name']} {runtime['version']}"
