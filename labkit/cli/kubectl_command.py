"""`labkit kubectl`: kubectl for the node's cluster, whatever KUBECONFIG says."""

from __future__ import annotations

import argparse
import os

from labkit.cli.common import AddVerb, running_node
from labkit.node.pods import kubectl
from labkit.node.pods.kubectl import FROM_FILES, MAKING, verb_of

MAKERS = {*MAKING, *FROM_FILES, "replace", "debug"}
"""The verbs that make objects: what this command makes is the learner's own, and `labkit clean` says that it stays."""


def add(verb: AddVerb) -> None:
    parser = verb(
        "kubectl", run, "run kubectl on the node's cluster", "labkit kubectl get pods --watch", reports=False, node=False
    )
    parser.prefix_chars = "\0"  # whatever follows is kubectl's, options and --help too
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="kubectl's own arguments")


def run(arguments: argparse.Namespace) -> int:
    """This process becomes kubectl, with its terminal and its signals; the exit code is kubectl's own."""
    program = kubectl.program()
    node = running_node()
    if node.ledger and verb_of(arguments.arguments) in MAKERS:
        node.ledger.note("kubectl")
    argv = [program, *node.api.kubectl_options(), *arguments.arguments]
    os.execve(program, argv, {**os.environ, **node.api.environment()})
