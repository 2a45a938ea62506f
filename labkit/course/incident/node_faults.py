"""Faults of the node: its network's configuration, and its container runtime."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from labkit.course.incident.fault import (
    FIRST,
    NO_NEW_PODS,
    NOT_REACHED,
    OWN,
    POD,
    READY_WITHIN_S,
    Fault,
    Scene,
    fault,
    has_event,
    is_ready,
    start,
    user_pod,
)
from labkit.node.host import containerd_setup
from labkit.node.observe.cni import NO_SUCH_PLUGIN
from labkit.node.observe.shims import is_shim
from labkit.node.packages.programs import find_programs
from labkit.node.state.home import Home
from labkit.node.state.incident_note import NETWORK, RUNTIME
from labkit.node.state.ledger import INCIDENT
from labkit.util import progress
from labkit.util.errors import NodeError
from labkit.util.outputs import write_whole

NO_SANDBOX = "FailedCreatePodSandBox"


class NodeFault(Fault):
    """A fault of the node, with which no new Pod starts there. The Pod of another user is there before."""

    complaints = NO_NEW_PODS
    objects = (("pod", FIRST),)
    neighbours: Mapping[str, tuple[str, ...]] = {FIRST: ()}
    another_pod = True
    lasts = False

    def make(self, scene: Scene) -> None:
        scene.neighbour({**user_pod(scene), "metadata": {"name": FIRST}})
        self.make_alone(scene)

    def make_alone(self, scene: Scene) -> None:
        """Make the fault, and the Pod of its user."""
        raise NotImplementedError


class NetworkFault(NodeFault):
    """A fault of the CNI configuration. `node.cni` saves the files before it changes them."""

    holds = (NETWORK,)

    def remember(self, scene: Scene) -> None:
        """Keep the files as they are before the fault is made."""
        host, directory = scene.node.host, scene.node.cni.directory
        names = host.shell(["sh", "-c", 'cd "$1" && ls -1', "sh", directory]).splitlines()
        files = [name for name in names if name.endswith((".conf", ".conflist", ".json"))]
        scene.kept["network"] = {name: host.shell(["cat", f"{directory}/{name}"]) for name in files}

    def undo(self, scene: Scene) -> None:
        """The files are as before also where the learner has written others: `node.cni.repair` leaves hers."""
        scene.node.cni.repair()
        host, directory = scene.node.host, scene.node.cni.directory
        for name, text in scene.kept.get("network", {}).items():
            path = f"{directory}/{name}"
            if host.shell(["sh", "-c", 'cat "$1" 2>/dev/null; true', "sh", path]) != text:
                host.write_file(path, text)


@fault
class NetworkPlugin(NetworkFault):
    name = "cni-plugin"
    cause = "The network's configuration names a plugin that is not there."
    evidence = (NO_SUCH_PLUGIN, r"\.conf(list)?\b", r"net\.d")
    hints = (
        "Does the Pod have a sandbox? Whose error does the event pass on?",
        "The event's message names a program. Which file on the node names it?",
    )
    taught = "notebook 05, “The network”"

    def make_alone(self, scene: Scene) -> None:
        self.remember(scene)
        scene.node.cni.name_no_such_plugin()
        start(scene, user_pod(scene), until=has_event(scene, NO_SANDBOX, NO_SUCH_PLUGIN), what="the sandbox fails")


@fault
class NetworkAbsent(NetworkFault):
    name = "cni-absent"
    cause = "The runtime has no network configuration."
    evidence = (r"network_?not_?ready", r"networkready", r"net\.d", "cni (config|plugin not initialized)")
    hints = (
        "A node has conditions, each with a message: `kubectl describe node`. What does the runtime answer to Status?",
        "The runtime reads its network from a directory. What is in it?",
    )
    taught = "notebook 05, “The network”"
    kinds = OWN  # a cluster evicts other people's Pods from a node that is not ready

    def make_alone(self, scene: Scene) -> None:
        self.remember(scene)
        scene.node.cni.take_away()
        scene.node.cluster.wait_node(ready=False)
        refused = [has_event(scene, reason) for reason in ("NetworkNotReady", "FailedScheduling")]  # bound before, or not at all
        start(scene, user_pod(scene), until=lambda: any(each() for each in refused), what="the Pod is refused")


@fault
class AddressPool(NetworkFault):
    name = "address-pool"
    cause = "No address is left to give to another Pod."
    evidence = ("no ip addresses available", r"range(start|end)\W+\d", r"\.conf(list)?\b", r"net\.d")
    hints = (
        "Does the Pod have a sandbox? Whose error does the event pass on?",
        "One plugin asks another one for addresses. How many may that give, and who has them?",
    )
    taught = "notebook 05, “The network”"

    def make_alone(self, scene: Scene) -> None:
        self.remember(scene)
        scene.node.cni.shrink_range(scene.node.pod(FIRST).ip)
        start(scene, user_pod(scene), until=has_event(scene, NO_SANDBOX, "no IP addresses"), what="the sandbox fails")


@fault
class RuntimeStopped(NodeFault):
    name = "containerd-stopped"
    cause = "The container runtime does not run."
    evidence = (
        r"\bcontainerd (is|has|does|was|cannot)( been)? (not|down|stopped|gone|dead|no)\b", r"\bno( process)? containerd\b",
        r"(nobody|nothing) (answers|listens)", "connection refused", "unavailable", "container ?runtime is ?(down|not)",
    )
    hints = (
        "What runs on without it, and what fails? You have seen this list of what fails before.",
        "Ask the runtime for its version by CRI. Who listens on its socket?",
    )
    taught = "notebook 04, “Without containerd”"
    kinds = OWN
    restarts_runtime = True
    holds = (RUNTIME,)

    def make_alone(self, scene: Scene) -> None:
        scene.node.daemon.stop()
        start(scene, user_pod(scene), until=None, what="")


@fault
class ShimStopped(Fault):
    name = "shim-stopped"
    complaints = NOT_REACHED
    cause = "The shim of the Pod does not react: a signal has stopped it."
    evidence = (r"\(stopped\)", "sigstop", "sigcont", r"kill -(stop|cont)", r"shim.*\b(stopped|stat|state)\b", r"\bstate T\b")
    hints = (
        "The program answers, and containerd answers. Who is between the two, and is asked for each exec?",
        "`labkit.process_tree(node.processes())` has its pid. What does the kernel say of that process: /proc/PID/status?",
    )
    taught = "notebook 04, on what a shim does while nobody asks it"

    def make(self, scene: Scene) -> None:
        probe = {"exec": {"command": ["true"]}, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 1}
        start(scene, user_pod(scene, readinessProbe=probe), until=scene.wait_ready, what="the Pod is ready")
        signal_shims(scene, "STOP")
        if not progress.wait("the Pod is not ready", lambda: not is_ready(scene.pod()), READY_WITHIN_S, 0.2):
            raise NodeError("A stopped shim has no effect on this node.", "The fault is undone. Draw another seed.")

    def undo(self, scene: Scene) -> None:
        signal_shims(scene, "CONT")


def signal_shims(scene: Scene, signal: str) -> None:
    """Send a signal to the shims of the user's Pod."""
    node = scene.node
    sandboxes = {s.id for s in node.cri.list_pod_sandbox().items if s.metadata.name == POD and INCIDENT in s.labels}
    for process in node.kernel.snapshot(fds=False).processes.values():
        if is_shim(process, node.socket_path) and sandboxes & {*process.cmdline}:
            node.shell(["kill", f"-{signal}", str(process.pid)])


@fault
class DiskFull(NodeFault):
    name = "disk-full"
    cause = "The file system of the runtime's working directories is full."
    evidence = ("no space left", r"\binodes?\b", "df -i", r"runtime\.v2\.task")
    hints = (
        "Does the Pod have a sandbox? The event's message ends with the kernel's own words. What do they follow: whose path?",
        "A path has the file system that is mounted there, and a directory needs more than bytes: `df -i PATH` counts it.",
    )
    taught = "notebook 03, on what containerd does for RunPodSandbox; notebook 05, “Where to look”"
    kinds = OWN
    restarts_runtime = True

    def make_alone(self, scene: Scene) -> None:
        scene.node.shell(["mount", "-t", "tmpfs", "-o", "mode=711,nr_inodes=1", "tmpfs", working_directories(scene)])
        start(scene, user_pod(scene), until=has_event(scene, NO_SANDBOX, "no space left"), what="the sandbox fails")

    def undo(self, scene: Scene) -> None:
        scene.node.shell(["sh", "-c", 'while umount "$1" 2>/dev/null; do :; done', "sh", working_directories(scene)])


def working_directories(scene: Scene) -> str:
    """Where containerd makes a directory for each container that it starts (runtime/v2, `work` of a bundle)."""
    config = json.loads(scene.node.cri.status(verbose=True).info["config"])
    return f"{config['containerdRootDir']}/io.containerd.runtime.v2.task/k8s.io"


class ConfigurationFault(NodeFault):
    """A fault in containerd's own configuration file, on a node of which that file is the lab's: the lab can write it anew."""

    kinds = ("containerd",)
    old = new = ""
    """A regular expression of what is in the file, and what is put in its place."""
    restarts_runtime = True
    taught = "notebook 05, “The network”, and notebook 04 on the runtime's restart"

    def make_alone(self, scene: Scene) -> None:
        file = configuration()
        text = file.read_text()
        changed, count = re.subn(self.old, self.new.format(data=file.parent), text, count=1)
        if not count:
            raise NodeError(f"{file} has no line like {self.old}.", "Draw another seed.")
        write_whole(file, changed.encode())
        scene.node.daemon.restart()
        start(scene, user_pod(scene), until=has_event(scene, NO_SANDBOX), what="the sandbox fails")

    def undo(self, scene: Scene) -> None:
        file = configuration()
        before = file.read_text() if file.exists() else ""
        home = Home.find()
        containerd_setup.write_config(home, find_programs(home.cache))
        if file.read_text() != before:
            scene.node.daemon.restart()


def configuration() -> Path:
    """containerd's configuration file."""
    return Home.find().data / "containerd.toml"


@fault
class ShimMissing(ConfigurationFault):
    name = "shim-missing"
    cause = "The shim that the runtime's configuration asks for is not installed."
    evidence = (r"shim-runc-v3", r"runc\.v3")
    hints = (
        "The event passes on containerd's own error. Which program did it look for, and before which other one?",
        "Who starts runc? The name of that program follows from a line in containerd's configuration (`ps` shows the file).",
    )
    old, new = r'runtime_type = "io\.containerd\.runc\.v2"', 'runtime_type = "io.containerd.runc.v3"'


@fault
class CgroupDriver(ConfigurationFault):
    name = "cgroup-driver"
    cause = "The runtime and the kubelet use different cgroup drivers."
    evidence = (r"systemd_?cgroup\W+true", r"slice:prefix:name", "cgroups?path")
    hints = (
        "How far does the start come: is there a shim, is there runc? Whose words are at the end of the event's message?",
        "They are about the name of a cgroup. Who chose it, and who read it otherwise?",
    )
    old, new = "        Root = ", "        SystemdCgroup = true\n        Root = "


@fault
class PluginDirectory(ConfigurationFault):
    name = "cni-directory"
    cause = "The runtime looks for the network's plugins in a directory that does not have them."
    evidence = (r"cni/plugins",)
    hints = (
        "The network's configuration is as it always was. Is what it names there?",
        "The event's message says which program was not found, and where. Who has said where to look?",
    )
    old, new = r'bin_dir = ".*"', 'bin_dir = "{data}/cni/plugins"'
