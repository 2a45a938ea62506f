#!/usr/bin/python3
"""As much of mamba as repo2docker's Dockerfile calls, with pip: `env update -p PREFIX --file FILE` and `shell hook`.

The rest does nothing.
"""

import re
import subprocess
import sys

import yaml

NAMES = {"python-kubernetes": "kubernetes", "matplotlib-base": "matplotlib"}
"""What conda-forge calls otherwise than PyPI."""


def main(argv: list[str]) -> None:
    if argv[:2] == ["env", "update"]:
        update(argv[argv.index("-p") + 1], argv[argv.index("--file") + 1])
    elif argv[:2] == ["shell", "hook"]:
        print('mamba() { if [ "$1" = activate ]; then export PATH="$2/bin:$PATH" CONDA_PREFIX="$2"; fi; }')


def update(prefix: str, file: str) -> None:
    with open(file) as text:
        dependencies = yaml.safe_load(text)["dependencies"]
    wanted = [line for each in dependencies if isinstance(each, dict) for line in each["pip"]]
    for each in dependencies:
        if isinstance(each, dict):
            continue
        name, rest = re.fullmatch(r"([\w.-]+)(.*)", each).groups()
        if name == "python":
            same_python(prefix, rest.lstrip("="))
        else:
            wanted.append(NAMES.get(name, name) + rest)
    pip = [f"{prefix}/bin/python", "-m", "pip", "install", "--quiet", "--no-cache-dir"]
    sys.exit(subprocess.run([*pip, *wanted]).returncode)


def same_python(prefix: str, wanted: str) -> None:
    said = subprocess.run([f"{prefix}/bin/python", "--version"], capture_output=True, text=True, check=True).stdout
    if not f"{said.split()[1]}.".startswith(f"{wanted}."):
        sys.exit(f"{prefix} has {said.strip()}, and {wanted} is wanted.")


main(sys.argv[1:])
