"""`labkit completion`: held against the shells that are here; bash always is."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from labkit.cli import __main__ as cli
from labkit.cli import completion_command

ASKS = """
{code}
COMP_WORDS=({words}) COMP_CWORD={index} COMP_LINE="{words}"
complete -p labkit >/dev/null || exit 3
{function}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def completed(words: str) -> set[str]:
    """What bash offers for the last word. It reads no file of the user's, and has no package bash-completion."""
    code = completion_command.code(cli.parser(), "bash")
    function = next(line.split()[-2] for line in code.splitlines() if line.strip().startswith("complete "))
    script = ASKS.format(code=code, words=words, index=len(words.split(" ")) - 1, function=function)
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {line.strip() for line in done.stdout.splitlines()}


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("labkit sta", {"status"}),
        ("labkit containerd re", {"restart"}),
        ("labkit progress --ex", {"--export"}),
        ("labkit progress --export x", {"xapi"}),
        ("labkit completion f", {"fish"}),
        ("labkit nonsense", {""}),
    ],
)
def test_bash_completes_commands_options_and_choices(words: str, offered: set[str]) -> None:
    assert completed(words) == offered


@pytest.mark.parametrize("shell", completion_command.SHELLS)
def test_every_command_is_completed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    code = capsys.readouterr().out
    assert all(command in code for command in ("status", "containerd", "upgrade", "--export", "completion"))
    if program := shutil.which(shell):
        assert subprocess.run([program, "-n"], input=code, text=True, capture_output=True).stderr == ""


def test_an_unknown_shell_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["completion", "tcsh"])
    assert ended.value.code == 2 and "'bash', 'zsh', 'fish'" in capsys.readouterr().err
