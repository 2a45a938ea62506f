"""`node.daemon` of a kind node: its containerd, controlled through the node's systemd. The cluster owns it, so its version does
not change."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from labkit.cri import CriClient, CriError
from labkit.node.packages.versions import UNIT_DIRECTORIES, upstream
from labkit.node.state.runtime_daemon import RuntimeChange
from labkit.util.errors import NodeError
from labkit.util.progress import attempts, in_notebook, shown

if TYPE_CHECKING:
    from labkit.node.remote.kind_node import KindNode

UNIT = "containerd"
WITHIN_S = 60.0
WARNING = (
    "this is the containerd of a real cluster's node: without it the kubelet reports the node NotReady, and 5 minutes later"
    " its Pods are evicted. Start it again soon"
)


class KindDaemon:
    """The containerd of a node of a learner's cluster: `kill`, `stop`, `start` and `restart`. The methods and what they return
    are Daemon's; `upgrade`, `downgrade`, `fetch` and `beside` are refused. All raise NodeError.

    Where the node's first process is not systemd, only `kill` and `restart` are possible: that process starts containerd again.
    """

    def __init__(self, node: KindNode) -> None:
        self.node = node

    def __repr__(self) -> str:
        return f"<KindDaemon: containerd {self.version} of {self.node.name}, {self.state}>"

    @property
    def version(self) -> str:
        return upstream(self.node.runtime.rpartition(" ")[2])

    first_version = version
    changed_by = ""

    @property
    def pid(self) -> int | None:
        """containerd's pid on the node; None while it does not run."""
        found = self.node.shell(["sh", "-c", "pidof -s containerd || true"]).split()
        return int(found[0]) if found else None

    @property
    def state(self) -> str:
        """ "running" or "stopped"."""
        return "running" if self.pid else "stopped"

    def versions(self) -> tuple[str, ...]:
        """The node's one version."""
        return (self.version,)

    def unit(self) -> str:
        """The node's own systemd unit of containerd. Raises NodeError where it has none."""
        paths = [f"/{directory}/{UNIT}.service" for directory in UNIT_DIRECTORIES]
        found = self.node.shell(["sh", "-c", 'for f; do [ -f "$f" ] && exec cat "$f"; done; true', "sh", *paths])
        if not found:
            raise NodeError(f"The node {self.node.name} has no systemd unit of containerd.", "")
        return found

    def kill(self) -> RuntimeChange:
        """SIGKILL. Under systemd it does not run until `start`; elsewhere the node's first process starts it again at once."""
        before = self.pid
        if before is None:  # killed before, by a cell that is run again
            return RuntimeChange("kill", self.version, self.version, None)
        if not self.systemd():
            self.node.shell(["kill", "-9", str(before)])
            return self._again("kill", before)
        self._warn()
        self._note()
        self.node.shell(["systemctl", "kill", "--kill-who=main", "--signal=KILL", UNIT])
        # systemd would start it again after RestartSec; stopping the unit takes that back and ends no shim (KillMode=process).
        return self._systemctl("stop", "kill")

    def stop(self) -> RuntimeChange:
        """SIGTERM, and wait for its end. It does not run until `start`."""
        self._need_systemd("stop")
        self._warn()
        self._note()
        return self._systemctl("stop", "stop")

    def start(self) -> RuntimeChange:
        """Start it, if it does not run, and wait until it answers."""
        if self.systemd():
            return self._systemctl("start", "start")
        return RuntimeChange("start", self.version, self.version, self._answering())

    def restart(self) -> RuntimeChange:
        """Stop it, start it, and wait until it answers."""
        if self.systemd():
            return self._systemctl("restart", "restart")
        before = self.pid
        if before:
            self.node.shell(["kill", str(before)])
        return self._again("restart", before)

    def reset(self) -> RuntimeChange:
        """Start it where it does not run. Its version never changes."""
        return self.start()

    def upgrade(self, version: str) -> NoReturn:
        """Refused."""
        self._not_ours()

    def downgrade(self, version: str, *, force: bool = False) -> NoReturn:
        """Refused."""
        self._not_ours()

    def fetch(self, version: str) -> NoReturn:
        """Refused."""
        self._not_ours()

    def beside(self, version: str) -> NoReturn:
        """Refused."""
        self._not_ours()

    def systemd(self) -> bool:
        """Whether the node's first process is systemd (sd_booted(3))."""
        return self.node.shell(["sh", "-c", "[ -d /run/systemd/system ] && command -v systemctl || true"]).strip() != ""

    def _systemctl(self, verb: str, action: str) -> RuntimeChange:
        self.node.shell(["systemctl", verb, UNIT], timeout=WITHIN_S)
        if verb == "stop":
            return RuntimeChange(action, self.version, self.version, None)
        pid = self._answering()
        if self.node.ledger:
            self.node.ledger.drop("runtime")
        return RuntimeChange(action, self.version, self.version, pid)

    def _again(self, action: str, before: int | None) -> RuntimeChange:
        for _ in attempts(WITHIN_S, 0.1):
            if self.pid not in (None, before):
                return RuntimeChange(action, self.version, self.version, self._answering())
        raise NodeError(f"Nobody started containerd on {self.node.name} again.", "Start it there by hand.")

    def _answering(self) -> int | None:
        try:
            with CriClient(self.node.endpoint) as own:  # what is asked here is no call of the learner's, to be recorded
                own.wait_until_ready(WITHIN_S)
        except CriError as error:
            raise NodeError(f"containerd on {self.node.name} does not answer: {error}") from None
        return self.pid

    def _note(self) -> None:
        """Record the change, so that `labkit clean` starts it again if this notebook does not."""
        if self.node.ledger:
            self.node.ledger.note("runtime", unit=UNIT, lesson=self.node.lesson or "")

    def _warn(self) -> None:
        if in_notebook():
            return  # where the text says it, and what is shown below a cell is taken away when the cell is done
        with shown() as show:
            show(WARNING)

    def _need_systemd(self, action: str) -> None:
        if not self.systemd():
            raise NodeError(
                f"The node {self.node.name} has no systemd, and its first process would start containerd again: no {action}.",
                "Use kill() or restart().",
            )

    def _not_ours(self) -> NoReturn:
        raise NodeError(
            f"The containerd of {self.node.name} belongs to its cluster, so labkit does not replace it.",
            "Use a node of kind `containerd` for that: `labkit up --node containerd`, as root on Linux.",
        )
