"""`labkit completion`: code for a shell that completes labkit's commands and options."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import shtab

from labkit.cli.common import AddVerb

SHELLS = ("bash", "zsh", "fish")
"""bash needs no package bash-completion."""


def add(verb: AddVerb, parser: Callable[[], argparse.ArgumentParser]) -> None:
    text = "print what your shell needs to complete labkit's commands and options"
    example = 'eval "$(labkit completion bash)"'
    command = verb("completion", lambda arguments: complete(arguments, parser()), text, example, reports=False, node=False)
    command.add_argument("shell", choices=SHELLS, help="which shell")


def complete(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Print the shell's code, which holds all commands: no completion starts labkit."""
    print(code(parser, arguments.shell))


def code(parser: argparse.ArgumentParser, shell: str) -> str:
    """The code for `shell` to evaluate. For zsh it also switches completion on where it is off."""
    made = shtab.complete(parser, shell)
    if shell == "zsh":
        made = f"(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit -u -D; }}\n{made}"
    return made
