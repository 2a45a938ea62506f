"""The container engine on the learner's machine (Docker, Podman or nerdctl), used through its command line.

The command line finds the engine as the learner's other programs do: by DOCKER_HOST, contexts, a virtual machine on a Mac. labkit
does not repeat that. It can record which engine was used (`Engine.address`) and use it again from another shell (`asked`).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.util.errors import NodeError

COMMANDS = ("docker", "podman", "nerdctl")
ANSWERS_WITHIN_S = 5.0
DECIDE = (
    "CONTAINERD_ADDRESS", "CONTAINERD_NAMESPACE", "CONTAINERS_CONF", "CONTAINER_CONNECTION", "CONTAINER_HOST", "CONTAINER_SSHKEY",
    "DOCKER_CERT_PATH", "DOCKER_CONFIG", "DOCKER_CONTEXT", "DOCKER_HOST", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "NERDCTL_TOML",
)
"""The variables by which the commands select their engine."""

CONTEXT, DEFAULT_CONTEXT = "DOCKER_CONTEXT", "default"

KIND_CLUSTER, KIND_ROLE = "io.x-k8s.kind.cluster", "io.x-k8s.kind.role"
"""Labels that kind puts on each node's container (kind: pkg/cluster/constants, internal/providers/docker)."""

MINIKUBE = "name.minikube.sigs.k8s.io"
"""minikube's Docker driver labels a node's container with the profile's name (minikube: pkg/drivers/kic/oci)."""


@dataclass(frozen=True)
class NodeContainer:
    """A cluster node that is a container: its name, its cluster ("" for none), its role and its state ("running", "paused",
    "exited", …)."""

    name: str
    cluster: str
    role: str
    state: str
    pid: int = 0
    image: str = ""
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Engine:
    """A container engine, and the command that speaks to it."""

    command: str

    @classmethod
    def find(cls) -> Engine | None:
        """The first of COMMANDS on PATH, None where there is none. The engine itself is not asked."""
        return next((cls(command) for command in COMMANDS if shutil.which(command)), None)

    def environment(self) -> dict[str, str]:
        """The variables by which another process uses the same engine; the commands treat an empty one as unset."""
        found = {name: value for name in DECIDE if (value := os.environ.get(name))}
        if self.command == "docker" and not found.keys() & {"DOCKER_HOST", CONTEXT} and (context := current_context()):
            found[CONTEXT] = context
        return found

    def pinned(self) -> dict[str, str]:
        """As `environment`, and independent of what the shell or `docker context use` selects later."""
        found = self.environment()
        return found if self.command != "docker" or "DOCKER_HOST" in found else {CONTEXT: DEFAULT_CONTEXT, **found}

    def address(self) -> str:
        """The engine that is used now, in a form that `asked` reads: its command, and the variables that select it."""
        decides = {**self.environment()}
        if decides.get(CONTEXT) == DEFAULT_CONTEXT:
            del decides[CONTEXT]
        return shlex.join([self.command, *(f"{name}={value}" for name, value in sorted(decides.items()))])

    def argv(self, *arguments: str) -> list[str]:
        return [self.command, *arguments]

    def run(self, *arguments: str, timeout: float = ANSWERS_WITHIN_S, stdin: bytes | None = None) -> str:
        """The standard output of one command of the engine. Raises NodeError with the engine's message."""
        return self.run_bytes(*arguments, timeout=timeout, stdin=stdin).decode(errors="replace")

    def run_bytes(self, *arguments: str, timeout: float = ANSWERS_WITHIN_S, stdin: bytes | None = None) -> bytes:
        try:
            done = subprocess.run(
                self.argv(*arguments),
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            raise NodeError(
                f"{self.command} {arguments[0]} did not answer within {timeout:.0f} s.",
                f"See whether `{self.command} version` answers; DOCKER_HOST and the context decide which engine it asks.",
            ) from None
        except OSError as error:
            raise NodeError(f"{self.command} cannot be run: {error.strerror}.", "See `labkit doctor`.") from None
        if done.returncode:
            raise explain(self.command, done.stderr.decode(errors="replace"), done.returncode)
        return done.stdout

    def exec_bytes(self, *arguments: str, program: str, timeout: float, stdin: bytes | None = None) -> bytes:
        """The standard output of `program`, run by the engine's `exec` under timeout(1). Raises NodeError: about the engine where
        it could not run the program, else with the program's own error message."""
        try:
            return self.run_bytes(*arguments, timeout=timeout + ANSWERS_WITHIN_S, stdin=stdin)
        except EngineError as error:
            if ENGINES_WORDS.match(error.words):
                raise
            if error.code in (126, 127):
                raise NodeError(f"The node has no program {program}, or may not run it.", "") from None
            if error.code in (124, 137) and not error.words.strip():
                raise NodeError(f"{program} did not end within {timeout:g} s.", "Give a longer timeout=.") from None
            raise NodeError(f"{program} exited with code {error.code}: {error.words.strip()}", "") from None

    def node_containers(self) -> list[NodeContainer]:
        """Every container that is a node of a kind or minikube cluster, running or not, sorted by cluster, control
        plane first."""
        ids: list[str] = []
        for label in (KIND_CLUSTER, MINIKUBE):
            ids += self.run("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={label}").split()
        found = [as_node(c) for c in self.inspect(*dict.fromkeys(ids))]
        return sorted(found, key=lambda n: (n.cluster, n.role != "control-plane", n.name))

    def inspect(self, *names: str) -> list[dict[str, Any]]:
        """What the engine knows of containers. Raises NodeError where one is not there."""
        if not names:
            return []
        return list(json.loads(self.run("inspect", "--type", "container", *names)))

    def node_container(self, name: str) -> NodeContainer:
        """One container by its name, whatever its labels. Raises NodeError."""
        return as_node(self.inspect(name)[0])


def current_context() -> str:
    """What `docker context use` has chosen, "" for the default (docker: cli/config/configfile)."""
    directory = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    try:
        context = json.loads(Path(directory, "config.json").read_text()).get("currentContext")
    except (OSError, ValueError, AttributeError):
        return ""
    return context if isinstance(context, str) and context != DEFAULT_CONTEXT else ""


@contextlib.contextmanager
def asked(address: str) -> Iterator[None]:
    """Use the engine of an `Engine.address` for the block, whatever the shell selects now; "" is the shell's. Raises NodeError
    where it would be another command."""
    found = Engine.find()
    if not address or (found and found.address() == address):
        yield
        return
    command, *words = shlex.split(address)
    if found is None or found.command != command:
        raise NodeError(f"it is a container of {command}, and labkit finds {found.command if found else 'no engine'} on PATH")
    before = {name: value for name in DECIDE if (value := os.environ.pop(name, None)) is not None}
    chosen = dict(word.split("=", 1) for word in words)
    os.environ.update({CONTEXT: DEFAULT_CONTEXT, **chosen} if command == "docker" and "DOCKER_HOST" not in chosen else chosen)
    try:
        yield
    finally:
        for name in DECIDE:
            os.environ.pop(name, None)
        os.environ.update(before)


def as_node(inspected: dict[str, Any]) -> NodeContainer:
    labels = inspected["Config"].get("Labels") or {}
    cluster = labels.get(KIND_CLUSTER) or labels.get(MINIKUBE) or ""
    role = labels.get(KIND_ROLE) or ("control-plane" if MINIKUBE in labels else "")
    state = inspected["State"]
    status = state.get("Status") or ("running" if state.get("Running") else "exited")
    return NodeContainer(
        inspected["Name"].lstrip("/"), cluster, role, status, state.get("Pid", 0), inspected["Config"].get("Image", ""), labels
    )


ENGINES_WORDS = re.compile(
    r"\s*(Error response from daemon|Error: No such container|Cannot connect|error during connect"
    r"|(Got )?permission denied while)",
    re.IGNORECASE,
)
"""How an engine's command line begins what it says itself, and not the program that it ran."""


class EngineError(NodeError):
    """An error of an engine's command line, with its own `words` and `code`."""

    def __init__(self, happened: str, todo: str, words: str, code: int) -> None:
        super().__init__(happened, todo)
        self.words, self.code = words, code


def explain(command: str, words: str, code: int) -> EngineError:
    """Turn an error of an engine's command line into a sentence."""
    return EngineError(*sentences(command, words, code), words, code)


def sentences(command: str, words: str, code: int) -> tuple[str, str]:
    message = words.strip().splitlines()[-1] if words.strip() else f"exit code {code}"
    low = words.lower()
    if "permission denied" in low and "sock" in low:
        return (
            f"You may not use {command}: its socket is for another group.",
            "Join it with `sudo usermod -aG docker $USER`, log in again, and run the command once more.",
        )
    if "cannot connect to" in low or "is the docker daemon running" in low or "connection refused" in low:
        return (
            f"{command} is installed, but its engine does not run.",
            "Start it (Docker Desktop, or `sudo systemctl start docker`).",
        )
    if "no such container" in low or "no such object" in low:
        return (
            f"{command} has no such container: {message.rpartition(':')[2].strip()}.",
            "See `labkit doctor` for the clusters there are.",
        )
    if "is not running" in low:
        return (f"The node's container is not running ({message}).", f"Start it with `{command} start NAME`.")
    if "is paused" in low:
        return (f"The node's container is paused ({message}).", f"Resume it with `{command} unpause NAME`.")
    return (f"{command} said: {message}", f"Run it by hand to see more: `{command} ps --all`.")
