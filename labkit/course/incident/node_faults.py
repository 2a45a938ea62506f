"""Faults of the node: its network's configuration, and its container runtime."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.course.incident.fault import OWN, Fault, Scene, fault, has_event, start, user_pod
from labkit.node.observe.cni import NO_SUCH_PLUGIN
from labkit.node.state.incident_note import NETWORK
from labkit.util.errors import NodeError
from labkit.util.outputs import write_whole

if TYPE_CHECKING:
    from labkit.node.kinds.containerd import ContainerdNode

NEW_ONES = "New Pods do not start on this node, orders for instance. Those that ran before run on."
FIRST = "first-come"
NO_SANDBOX = "FailedCreatePodSandBox"


class NetworkFault(Fault):
    """A fault of the CNI configuration. `node.cni` saves the files before it changes them."""

    another_pod = True
    holds = (NETWORK,)

    def undo(self, scene: Scene) -> None:
        scene.node.cni.repair()
        super().undo(scene)


@fault
class NetworkPlugin(NetworkFault):
    name = "cni-plugin"
    complaint = NEW_ONES
    cause = "The network's configuration names a plugin that is not there."
    evidence = (NO_SUCH_PLUGIN, r"\.conf(list)?\b", r"net\.d")
    hints = (
        "Does the Pod have a sandbox? Whose error does the event pass on?",
        "The event's message names a program. Which file on the node names it?",
    )
    taught = "notebook 05, “The network”"

    def make(self, scene: Scene) -> None:
        scene.node.cni.name_no_such_plugin()
        start(scene, user_pod(scene), until=has_event(scene, NO_SANDBOX, NO_SUCH_PLUGIN), what="the sandbox fails")


@fault
class NetworkAbsent(NetworkFault):
    name = "cni-absent"
    complaint = "kubectl get nodes shows NotReady, and my new Pod orders does not start. The Pods that ran before run on."
    cause = "The runtime has no network configuration."
    evidence = (r"network_?not_?ready", r"networkready", r"net\.d", "cni (config|plugin not initialized)")
    hints = (
        "A node has conditions, each with a message: `kubectl describe node`. What does the runtime answer to Status?",
        "The runtime reads its network from a directory. What is in it?",
    )
    taught = "notebook 05, “The network”"
    kinds = OWN  # a cluster evicts other people's Pods from a node that is not ready

    def make(self, scene: Scene) -> None:
        scene.node.cni.take_away()
        scene.node.cluster.wait_node(ready=False)
        refused = [has_event(scene, reason) for reason in ("NetworkNotReady", "FailedScheduling")]  # bound before, or not at all
        start(scene, user_pod(scene), until=lambda: any(each() for each in refused), what="the Pod is refused")


@fault
class AddressPool(NetworkFault):
    name = "address-pool"
    complaint = NEW_ONES + " Since when? Since there are a few more of them, I think."
    cause = "No address is left to give to another Pod."
    evidence = ("no ip addresses available", "range(start|end| set)", r"\.conf(list)?\b", r"net\.d", "host-local")
    hints = (
        "Does the Pod have a sandbox? Whose error does the event pass on?",
        "One plugin asks another one for addresses. How many may that give, and who has them?",
    )
    taught = "notebook 05, “The network”"
    objects = (("pod", FIRST),)

    def make(self, scene: Scene) -> None:
        first = user_pod(scene)
        first["metadata"] = {"name": FIRST}
        scene.apply(first)
        scene.node.cluster.wait_status(FIRST, "Running")
        scene.node.cni.shrink_range(scene.node.pod(FIRST).ip)
        start(scene, user_pod(scene), until=has_event(scene, NO_SANDBOX, "no IP addresses"), what="the sandbox fails")


@fault
class RuntimeStopped(Fault):
    name = "containerd-stopped"
    complaint = "My new Pod orders does not start, and kubectl exec into the old ones fails. They do answer their users."
    cause = "The container runtime does not run."
    evidence = (r"containerd(?!-)", r"\.sock\b", "unavailable", "container runtime is down")
    hints = (
        "What runs on without it, and what fails? You have seen this list of what fails before.",
        "Ask the runtime for its version by CRI. Who listens on its socket?",
    )
    taught = "notebook 04, “Without containerd”"
    kinds = OWN
    restarts_runtime = another_pod = True

    def make(self, scene: Scene) -> None:
        scene.node.daemon.stop()
        start(scene, user_pod(scene), until=None, what="")

    def undo(self, scene: Scene) -> None:
        scene.node.daemon.start()
        super().undo(scene)


class ConfigurationFault(Fault):
    """A fault in containerd's own configuration file, on a node of which that file is the lab's. The file as it was is kept
    beside it."""

    kinds = ("containerd",)
    complaint = NEW_ONES + " Last night somebody has worked on the node."
    old = new = ""
    """A regular expression of what is in the file, and what is put in its place."""
    restarts_runtime = another_pod = True
    taught = "notebook 05, “The network”, and notebook 04 on the runtime's restart"

    def make(self, scene: Scene) -> None:
        file, saved = files(scene)
        text = file.read_text()
        changed, count = re.subn(self.old, self.new.format(data=file.parent), text, count=1)
        if not count:
            raise NodeError(f"{file} has no line like {self.old}.", "Draw another seed.")
        write_whole(saved, text.encode())
        write_whole(file, changed.encode())
        scene.node.daemon.restart()
        start(scene, user_pod(scene), until=has_event(scene, NO_SANDBOX), what="the sandbox fails")

    def undo(self, scene: Scene) -> None:
        file, saved = files(scene)
        if saved.exists():
            if file.read_text() != saved.read_text():
                write_whole(file, saved.read_bytes())
                scene.node.daemon.restart()
            saved.unlink()
        scene.node.daemon.start()
        super().undo(scene)


def files(scene: Scene) -> tuple[Path, Path]:
    """containerd's configuration file, and where it is kept as it was."""
    node: ContainerdNode = scene.node  # type: ignore[assignment]  # the only kind that has such a fault
    return node.home.data / "containerd.toml", node.home.data / "containerd.toml.before"


@fault
class ShimMissing(ConfigurationFault):
    name = "shim-missing"
    cause = "The shim that the runtime's configuration asks for is not installed."
    evidence = (r"shim-runc", r"runc\.v3", "runtime_type")
    hints = (
        "The event passes on containerd's own error. Which program did it look for, and before which other one?",
        "Who starts runc? The name of that program follows from a line in containerd's configuration (`ps` shows the file).",
    )
    old, new = r'runtime_type = "io\.containerd\.runc\.v2"', 'runtime_type = "io.containerd.runc.v3"'


@fault
class CgroupDriver(ConfigurationFault):
    name = "cgroup-driver"
    cause = "The runtime and the kubelet use different cgroup drivers."
    evidence = (r"systemd_?cgroup", r"slice:prefix:name", "cgroups?path")
    hints = (
        "How far does the start come: is there a shim, is there runc? Whose words are at the end of the event's message?",
        "They are about the name of a cgroup. Who chose it, and who read it otherwise?",
    )
    old, new = "        Root = ", "        SystemdCgroup = true\n        Root = "


@fault
class PluginDirectory(ConfigurationFault):
    name = "cni-directory"
    cause = "The runtime looks for the network's plugins in a directory that does not have them."
    evidence = ("bin_dir", r"cni/plugins")
    hints = (
        "The network's configuration is as it always was. Is what it names there?",
        "The event's message says which program was not found, and where. Who has said where to look?",
    )
    old, new = r'bin_dir = ".*"', 'bin_dir = "{data}/cni/plugins"'
