"""repo2docker's image of this repository, made in a directory: its own Dockerfile, step by step, where no image can be pulled.

Two things stand in for what only the network's other ends have. The base image is Debian 13 by mmdebstrap, with what the steps
use of buildpack-deps. conda is conda/conda.py, which brings the packages of an environment.yml with pip. All else is
repo2docker's: its choice of what builds the repository, its Dockerfile, its entrypoint.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.standin import image, system
from tests.standin.container import Place, run_in
from tests.standin.packages import cache

VERSION = "2026.4.0"
CONDA = Path(__file__).with_name("conda")
BUILD_ARGS = {"NB_USER": "jovyan", "NB_UID": "1000"}
OPTIONS = (
    "--mode=root", "--variant=minbase", "--format=tar",
    "--include=bzip2,ca-certificates,git,gcc,libc6-dev,procps,python3-venv,python3-yaml,wget,xz-utils",
    *(f"--dpkgopt=path-exclude=/usr/share/{what}/*" for what in ("doc", "info", "man")),
)
RENDER = """
import json, os, sys
from repo2docker.app import Repo2Docker
from repo2docker.buildpacks.base import HERE
os.chdir(sys.argv[1])
for kind in Repo2Docker().buildpacks:
    pack = kind(base_image="scratch")
    pack.platform = "linux/amd64"
    if pack.detect():
        break
named = [pack.generate_build_context_filename(source) for source in pack.get_build_script_files()]
own = [(name, os.path.join(HERE, name)) for name in ("repo2docker-entrypoint", "python3-login")]
print(json.dumps({"pack": kind.__name__, "dockerfile": pack.render(json.loads(sys.argv[2])), "context": dict(named + own)}))
"""


@dataclass
class Image:
    """A file system, and what a container of it starts with. `seconds`: each RUN step and how long it took."""

    root: Path
    env: dict[str, str] = field(default_factory=lambda: {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
    user: str = "root"
    workdir: str = "/"
    entrypoint: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    def place(self, **more: str) -> Place:
        """Where and as whom its processes run, `more` in their environment."""
        return Place(self.root, {**self.env, **more}, self.user, self.workdir)


def build(repository: Path, root: Path) -> Image:
    """The image in the empty directory `root`. Raises AssertionError with the words of a step that failed."""
    said = json.loads(system.run([python(), "-c", RENDER, repository, json.dumps(BUILD_ARGS)]))
    assert said["pack"] == "CondaBuildPack", said["pack"]
    context = {name: Path(path) for name, path in said["context"].items()}
    system.run(["tar", "-C", root, "-xf", image.root_archive(OPTIONS)], timeout=300)
    made = Image(root)
    for word, rest in instructions(said["dockerfile"]):
        carry_out(word, rest, made, context, repository)
    return made


def python() -> Path:
    """A Python that has repo2docker, in an environment of its own, made once."""
    environment = cache() / f"repo2docker-{VERSION}"
    with (cache() / "repo2docker.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (environment / "complete").exists():
            shutil.rmtree(environment, ignore_errors=True)
            system.run([sys.executable, "-m", "venv", "--without-pip", environment], timeout=120)
            pip = [sys.executable, "-m", "pip", "--python", environment / "bin/python", "--quiet", "--no-input"]
            system.run([*pip, "install", f"jupyter-repo2docker=={VERSION}"], timeout=600)
            (environment / "complete").touch()
    return environment / "bin/python"


def instructions(dockerfile: str) -> Iterator[tuple[str, str]]:
    """(instruction, what follows), continued lines joined, comments gone."""
    lines = [line for line in dockerfile.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, rest = line.partition(" ")
        yield word, rest.strip()


def carry_out(word: str, rest: str, made: Image, context: Mapping[str, Path], repository: Path) -> None:
    """One instruction of a Dockerfile, as its reference has it, as far as repo2docker uses it."""
    match word:
        case "ENV":
            for name, value in (pair.split("=", 1) for pair in shlex.split(rest)):
                made.env[name] = substituted(value, made.env)
        case "ARG":
            name, _, default = rest.partition("=")
            made.env.setdefault(name, BUILD_ARGS.get(name, substituted(default, made.env)))
        case "USER":
            made.user = substituted(rest, made.env)
        case "WORKDIR":
            made.workdir = substituted(rest, made.env)
            inside(made, made.workdir).mkdir(parents=True, exist_ok=True)
        case "COPY":
            copy(rest, made, context, repository)
        case "RUN":
            before = time.monotonic()
            done = run_in(made.place(**pip_settings()), ["/bin/sh", "-c", rest])
            made.seconds[rest] = time.monotonic() - before
            assert not done.returncode, f"RUN {rest}\n{done.stdout[-3000:]}"
        case "ENTRYPOINT":
            made.entrypoint = tuple(json.loads(rest))
        case "FROM" | "EXPOSE" | "LABEL" | "CMD":
            pass
        case _:
            raise AssertionError(f"{word} is new in repo2docker's Dockerfile")


def copy(rest: str, made: Image, context: Mapping[str, Path], repository: Path) -> None:
    """COPY [--chown=UID:GID] [--chmod=MODE] SOURCE TARGET; SOURCE is in the build's context, where src/ is the repository."""
    *flags, source, target = shlex.split(substituted(rest, made.env))
    wanted = dict(flag.removeprefix("--").split("=") for flag in flags)
    to = inside(made, target)
    if source == "src/":
        pairs = [(repository / name, to / name) for name in tracked(repository)]
    elif source.startswith("src/"):
        pairs = [(repository / source.removeprefix("src/"), to)]
    else:
        pairs = [(context[source.removeprefix("/")], to)]
    if to.name == "install-base-env.bash":
        pairs = [(CONDA / "base.sh", to), (CONDA / "conda.py", to.with_name("conda.py"))]
    owner = [int(number) for number in wanted.get("chown", "0:0").split(":")]
    for each, target_file in pairs:
        make_directories(target_file.parent, owner)
        shutil.copy2(each, target_file, follow_symlinks=False)
        os.chown(target_file, *owner, follow_symlinks=False)
        if "chmod" in wanted:
            target_file.chmod(int(wanted["chmod"], 8))


def pip_settings() -> dict[str, str]:
    """How this machine's pip reaches its index, as variables (pip's configuration: `global.timeout` is PIP_TIMEOUT)."""
    said = system.run([sys.executable, "-m", "pip", "config", "list"])
    found = re.findall(r"^(?:global|:env:)\.(index-url|proxy|cert|timeout|default-timeout|retries)='(.*)'$", said, re.MULTILINE)
    return {f"PIP_{name.upper().replace('-', '_')}": value for name, value in found}


def make_directories(directory: Path, owner: list[int]) -> None:
    if not directory.exists():
        make_directories(directory.parent, owner)
        directory.mkdir()
        os.chown(directory, *owner)


def tracked(repository: Path) -> list[str]:
    """What git has there, or would take: a checkout without what is ignored."""
    listed = system.run(["git", "-C", repository, "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
    return [name for name in listed.split("\0") if name and (repository / name).is_file()]


def inside(made: Image, path: str) -> Path:
    return made.root / path.lstrip("/")


def substituted(text: str, env: Mapping[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda match: env.get(match[1], ""), text)
