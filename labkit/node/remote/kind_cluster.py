"""The kind cluster `labkit`, which `labkit up` makes where there is none, and `labkit down` deletes.

A mark on each of its nodes tells which home made it. Its name does not: another lab on the same engine makes one of the same
name.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labkit.node.pods import kubectl
from labkit.node.registry import share
from labkit.node.remote.engine import Engine, EngineError, NodeContainer
from labkit.node.state.home import Home
from labkit.node.state.ledger import Ledger, mark_of
from labkit.node.state.node_selector import NodeSelector
from labkit.util.errors import NodeError
from labkit.util.showable import last_line

CLUSTER = "labkit"
CONFIG = Path(__file__).with_name("kind-cluster.yaml")
CREATE_WITHIN_S = 600.0
MARK = "/etc/labkit-home.json"
"""On each node of the cluster: {"mark": of the home that made it, "home": its directory}."""
EXISTS = "already exist for a cluster with the name"
"""In what `kind create cluster` writes where nodes of that name are there (kind: pkg/cluster/internal/create)."""
NO_SUCH_FILE = ("no such container:path", "could not find the file", "no such file")


def make(home: Home, engine: Engine, progress: Any) -> None:
    """`kind create cluster --name labkit`: a control plane and a worker called sim-worker. Raises NodeError.

    A cluster that was begun and not finished, also because of Ctrl-C, is deleted.
    """
    if not shutil.which("kind"):
        raise NodeError(
            "There is no kind cluster, and no kind command to make one.",
            "Install kind (https://kind.sigs.k8s.io), then run this again.",
        )
    progress(f"making a kind cluster called {CLUSTER} (a control plane and the node sim-worker); this takes some minutes")
    ledger(home, engine).note("cluster", begun=datetime.datetime.now(datetime.UTC).isoformat())
    try:
        done = kind(engine, "create", "cluster", "--name", CLUSTER, "--config", str(CONFIG), "--wait", "120s")
        if done.returncode:
            if EXISTS in done.stderr:  # another lab began to make it just before
                ledger(home, engine).drop("cluster")
            raise NodeError(
                f"kind could not make the cluster: {last_line(done.stderr)}",
                f"Run it by hand to see all of it: kind create cluster --name {CLUSTER} --config {CONFIG}",
            )
        put_mark(home, engine)
        ledger(home, engine).drop("cluster")  # now the mark alone tells: somebody may make another one by hand
    except BaseException:
        if made_here(home, engine, nodes(engine)):
            kind(engine, "delete", "cluster", "--name", CLUSTER)
        if not nodes(engine):
            ledger(home, engine).forget()
        raise


def ledger(home: Home, engine: Engine) -> Ledger:
    """The record of what this home changed on the cluster as a whole. Each node has another one."""
    return Ledger(home, NodeSelector("kind", CLUSTER, engine=engine.address()))


def nodes(engine: Engine) -> list[NodeContainer]:
    return [n for n in engine.node_containers() if n.cluster == CLUSTER]


def put_mark(home: Home, engine: Engine) -> None:
    text = json.dumps({"mark": mark_of(home), "home": str(home.data)})
    for node in nodes(engine):
        engine.run("exec", "--interactive", node.name, "sh", "-c", f"cat >{MARK}", stdin=text.encode(), timeout=30)


def read_mark(engine: Engine, node: NodeContainer) -> dict[str, str]:
    """The mark on a node, running or not; {} where it has none, or a part of one. Raises NodeError where it cannot be read."""
    for text in files(engine, node, MARK).values():
        with contextlib.suppress(ValueError, TypeError, RecursionError):  # labkit was killed while it wrote
            return {key: value for key, value in dict(json.loads(text)).items() if isinstance(value, str)}
    return {}


def files(engine: Engine, node: NodeContainer, path: str) -> dict[str, str]:
    """The file, or the files of the directory, at a path of a node, running or not: name → text. {} where there is none. Raises
    NodeError."""
    try:
        packed = engine.run_bytes("cp", f"{node.name}:{path}", "-", timeout=30)
    except EngineError as error:
        if any(words in error.words.lower() for words in NO_SUCH_FILE):
            return {}
        raise
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        found = [(Path(member.name).name, tar.extractfile(member)) for member in tar.getmembers() if member.isfile()]
        return {name: file.read().decode(errors="replace") for name, file in found if file}


def made_here(home: Home, engine: Engine, found: Sequence[NodeContainer]) -> bool:
    """Whether this home made the cluster of these nodes: they carry its mark and no other, or they carry none and were all
    created after this home began to make a cluster (it was killed before it could mark them). Raises NodeError."""
    if marks := {mark for node in found if (mark := read_mark(engine, node).get("mark"))}:
        return marks == {mark_of(home)}
    begun = ledger(home, engine).values("cluster", "begun")
    made = [datetime.datetime.fromisoformat(inspected["Created"][:19] + "+00:00") for inspected in engine.inspect(*names(found))]
    return bool(found and begun) and min(made) >= datetime.datetime.fromisoformat(max(begun)).replace(microsecond=0)


def names(found: Sequence[NodeContainer]) -> list[str]:
    return [node.name for node in found]


def delete(home: Home, progress: Any) -> tuple[list[str], list[str]]:
    """Delete the cluster if this home made it and no other uses it. Returns ([what is left], [what was left alone, and why]).

    Raises NodeError where that cannot be found out.
    """
    engine = Engine.find()
    if engine is None:
        raise NodeError("there is no docker, podman or nerdctl command here")
    found = nodes(engine)
    if not found:
        ledger(home, engine).forget()
        return [], []
    if not made_here(home, engine, found):
        maker = next((mark.get("home", "?") for n in found if (mark := read_mark(engine, n))), "")
        who = f"made by another lab ({maker})" if maker else "not made by this lab"
        return [], [f"the cluster {CLUSTER} was {who}"]
    if users := [user for node in found for user in other_users(home, engine, node)]:
        return [], [f"the cluster {CLUSTER} is used by another lab ({users[0]}): let that one clean first"]
    if not shutil.which("kind"):
        return [f"the cluster {CLUSTER}: there is no kind command to delete it with. Bring it, and run this again"], []
    progress(f"deleting the cluster {CLUSTER}")
    done = kind(engine, "delete", "cluster", "--name", CLUSTER)
    if still := nodes(engine):
        words = last_line(done.stderr)
        return [f"the cluster {CLUSTER} ({', '.join(names(still))}); kind: {words}"], []
    ledger(home, engine).forget()
    return [], []


def other_users(home: Home, engine: Engine, node: NodeContainer) -> list[str]:
    """The homes of other labs that use a node, running or not; a mark where a home was not written to the end. Raises
    NodeError."""
    marks = files(engine, node, share.HOMES)
    return [text.strip() or mark for mark, text in marks.items() if mark != mark_of(home)]


def kind(engine: Engine, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run kind's command line. Raises NodeError where it does not end."""
    provider = {} if engine.command == "docker" else {"KIND_EXPERIMENTAL_PROVIDER": engine.command}
    try:
        return subprocess.run(
            ["kind", *arguments], capture_output=True, encoding="utf-8", errors="replace", timeout=CREATE_WITHIN_S,
            env={**os.environ, **kubectl.users_environment(Home.find()), **provider},  # kind writes the context into it
        )
    except subprocess.TimeoutExpired:
        raise NodeError(f"kind {arguments[0]} did not end within {CREATE_WITHIN_S:.0f} s.", "Run it by hand.") from None
    except OSError as error:
        raise NodeError(f"kind cannot be run: {error.strerror}.", "Install it again.") from None
