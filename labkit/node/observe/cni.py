"""A node's CNI configuration, broken and repaired in a lesson: only for Pods made meanwhile, and never lost."""

from __future__ import annotations

import json
import posixpath
import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from labkit.cri import CriClient
from labkit.node.host.access import Host
from labkit.util import progress
from labkit.util.errors import NodeError

if TYPE_CHECKING:
    from labkit.node.state.ledger import Ledger

SAVED = ".labkit-saved"
"""A directory beside the configuration files. CNI reads files that end in .conf, .conflist or .json, and no directories."""
NO_SUCH_PLUGIN = "labkit-no-such-plugin"
RANGE_END = "rangeEnd"
NOTICED_WITHIN_S = 15.0


class CniNode(Protocol):
    """A node, as far as it is needed here."""

    @property
    def runtime(self) -> str: ...
    @property
    def host(self) -> Host: ...
    @property
    def cri(self) -> CriClient: ...
    @property
    def ledger(self) -> Ledger | None: ...


class CniConfiguration:
    """The files by which the runtime knows the node's network. What is done here lasts until `repair`.

    Pods that run do not notice: CNI plugins run when a sandbox is made or removed. Meanwhile no Pod on this node gets a network.
    """

    def __init__(self, node: CniNode) -> None:
        self.node = node
        self.directory = self._directory()

    def name_no_such_plugin(self) -> str:
        """Name a plugin that does not exist in place of the first: the runtime still says that its network is ready."""
        name, text = self._first()
        broken = json.loads(text)
        (broken["plugins"][0] if "plugins" in broken else broken)["type"] = NO_SUCH_PLUGIN
        self._save()
        self._write(name, json.dumps(broken, indent=2) + "\n")
        self._wait(lambda: NO_SUCH_PLUGIN in json.dumps(self._loaded()), "read the changed configuration")
        return f"{name} names the plugin {NO_SUCH_PLUGIN} now."

    def take_away(self) -> str:
        """Remove every configuration: the runtime says that its network is not ready, and the kubelet that the node is not."""
        names = self._names()
        self._save()
        self._shell(" ".join(["rm -f --", *(shlex.quote(posixpath.join(self.directory, name)) for name in names)]))
        self._wait(lambda: not self.network_ready(), "notice that its configuration is gone")
        return f"{' and '.join(names) or 'nothing'} taken away: the runtime has no network configuration now."

    def shrink_range(self, address: str) -> str:
        """Leave one address to give, in place of a subnet: where a Pod has it, no other Pod gets one. Raises NodeError where the
        configuration has its addresses from another plugin than host-local."""
        name, text = self._first()
        shrunk = json.loads(text)
        found = [p["ipam"] for p in shrunk.get("plugins", [shrunk]) if p.get("ipam", {}).get("type") == "host-local"]
        if not found:
            raise NodeError(f"{name} has no addresses of host-local's to give.", "This experiment needs that plugin.")
        first = found[0]["ranges"][0][0] if "ranges" in found[0] else found[0]
        first |= {"rangeStart": address, RANGE_END: address}
        self._save()
        self._write(name, json.dumps(shrunk, indent=2) + "\n")
        self._wait(lambda: RANGE_END in json.dumps(self._loaded()), "read the changed configuration")
        return f"{name} has one address to give now, {address}."

    def repair(self) -> str:
        """Write the files again as they were. Does nothing when nothing was changed."""
        names = put_back(self.node.host.shell, self.directory)
        if names:
            self._wait(lambda: self.network_ready() and not self._is_ours(json.dumps(self._loaded())), "read the repaired one")
        return f"The CNI configuration is as it was ({', '.join(names) if names else 'it had not been changed'})."

    def is_changed(self) -> bool:
        """Whether it was changed here and not repaired since."""
        return is_saved(self.node.host.shell, self.directory)

    def network_ready(self) -> bool:
        """Whether the runtime says NetworkReady."""
        return any(c.type == "NetworkReady" and c.status for c in self.node.cri.status().status.conditions)

    def _directory(self) -> str:
        try:
            return str(json.loads(self._info()["config"])["cni"]["confDir"])
        except (KeyError, ValueError):
            raise NodeError(
                f"{self.node.runtime} does not report where its CNI configuration is.", "This experiment needs containerd."
            ) from None

    def _info(self) -> Any:
        return self.node.cri.status(verbose=True).info

    def _loaded(self) -> Any:
        return json.loads(self._info().get("cniconfig", "null"))

    def _names(self) -> list[str]:
        listed = self._shell(f"ls -1 {shlex.quote(self.directory)}").split("\n")
        return sorted(name for name in listed if name.endswith((".conf", ".conflist", ".json")))

    def _first(self) -> tuple[str, str]:
        """The file that is in force, the first by name, and its text."""
        names = self._names()
        if not names:
            raise NodeError(f"There is no CNI configuration in {self.directory}.", "`repair()` brings back what was taken away.")
        return names[0], self._shell(f"cat {shlex.quote(posixpath.join(self.directory, names[0]))}")

    def _save(self) -> None:
        """Keep the files as they are, once: a second experiment must not save what the first has broken."""
        saved = posixpath.join(self.directory, SAVED)
        if self.node.ledger:
            self.node.ledger.note("network", directory=self.directory)
        files = " ".join(shlex.quote(posixpath.join(self.directory, name)) for name in self._names())
        if files:
            quoted = shlex.quote(saved)
            made = f"mkdir {quoted}.new && cp -p {files} {quoted}.new/ && mv {quoted}.new {quoted}"
            self._shell(f"test -d {quoted} || {{ rm -rf {quoted}.new; {made}; }}")

    def _is_ours(self, loaded: str) -> bool:
        """Whether the configuration that the runtime has read is one that was changed here."""
        ours = [word for word in (NO_SUCH_PLUGIN, RANGE_END) if word in loaded]
        return bool(ours) and not any(word in self._first()[1] for word in ours)

    def _write(self, name: str, text: str) -> None:
        """Write a changed file, and keep what is written: by that `put_back` tells it from somebody else's."""
        self.node.host.write_file(posixpath.join(self.directory, SAVED, f".ours-{name}"), text)
        self.node.host.write_file(posixpath.join(self.directory, name), text)

    def _shell(self, script: str) -> str:
        return self.node.host.shell(["sh", "-c", script])

    def _wait(self, noticed: Callable[[], bool], what: str) -> None:
        if not progress.wait(f"{self.node.runtime} to {what}", noticed, NOTICED_WITHIN_S):
            raise NodeError(f"{self.node.runtime} did not {what} within {NOTICED_WITHIN_S:.0f} s.", "Try `repair()`.")


PUT_BACK = f"""
cd "$1" || exit 1
rm -rf {SAVED}.new
[ -d {SAVED} ] || exit 0
half=$(cat {SAVED}/.writing 2>/dev/null)
for file in {SAVED}/*; do
    [ -f "$file" ] || continue
    name=${{file##*/}}
    # Somebody else's newer file stays, but none of which half was written when this was killed. Ours is written anew, not moved
    # back: containerd 2.1 sees no file that comes by rename.
    ours=$(cat "{SAVED}/.ours-$name" 2>/dev/null)
    if [ "$name" = "$half" ] || [ ! -s "$name" ] || grep -q {NO_SUCH_PLUGIN} "$name" || [ "$(cat "$name")" = "$ours" ]; then
        echo "$name" >{SAVED}/.writing && cp -p "$file" "$name" || exit 1
    fi
    echo "$name"
done
rm -rf {SAVED}
"""


def put_back(shell: Callable[[Sequence[str]], str], directory: str) -> list[str]:
    """Write the files again as they were, which needs no runtime; their names. Nothing is done where nothing was changed."""
    return shell(["sh", "-c", PUT_BACK, "sh", directory]).splitlines()


def is_saved(shell: Callable[[Sequence[str]], str], directory: str) -> bool:
    """Whether a configuration was changed and not put back."""
    return bool(shell(["sh", "-c", 'cd "$1" && ls -d .labkit-saved* 2>/dev/null; true', "sh", directory]).strip())
