"""Debian packages brought beside the system, never into it.

apt resolves, downloads and checks signatures with the machine's own sources, keyrings and proxies, but in a state
directory of labkit's: the system's package lists, archives and dpkg database are read at most, never written. So it needs
no root. Knowledge: apt.conf(5) (order of configuration files, #clear), apt-get(8), sources.list(5).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from labkit.util.errors import NodeError
from labkit.util.progress import Progress

Done = TypeVar("Done")

UNTRUSTED = (
    "GPG error|is not signed|does not have a Release file|is not valid yet|is expired|BADSIG|NO_PUBKEY|EXPKEYSIG"
    "|cannot be authenticated"
)
NO_ANSWER = r"resolving|Could not (connect|resolve)|Unable to connect|timed out|unreachable|refused|Failed to fetch"
NOT_THE_SIGNED = r"Hash Sum mismatch|unexpected size|Failed to fetch copy:\S+\s+Undetermined Error"
"""What apt says (LC_ALL=C) when it rejects a signature, when a source cannot be reached, and when a file has another hash (apt 3
has no words of its own for that where it copies the file)."""

DPKG_STATUS = Path("/var/lib/dpkg/status")


class ProgramsError(NodeError):
    """The node's programs cannot be had; `happened` and `todo` are a sentence each."""


class ListsError(ProgramsError):
    """apt failed on its package lists, which may be damaged or altered."""


def apt_usable() -> bool:
    """Whether this machine has apt-get and dpkg and a dpkg database (some other distributions ship an apt-get alone)."""
    return bool(shutil.which("apt-get") and shutil.which("dpkg-deb")) and DPKG_STATUS.exists()


@dataclass(frozen=True)
class Package:
    """One .deb that apt would download: `size` is its size, `installed_size` the unpacked size, both in bytes."""

    name: str
    version: str
    architecture: str
    size: int
    installed_size: int
    depends: tuple[str, ...]

    @property
    def wanted(self) -> str:
        """The package as apt-get takes it on its command line, pinned to this version."""
        name = self.name if self.architecture == "all" else f"{self.name}:{self.architecture}"
        return f"{name}={self.version}"


class Apt:
    """apt-get with a state directory of its own.

    `state` holds the package lists (some 10 to 60 MB) and the configuration that points apt there. `sources`, a file in the
    format of sources.list(5), replaces the machine's own sources: another suite's packages come that way. Every method raises
    ProgramsError.
    """

    def __init__(self, state: Path, sources: Path | None = None) -> None:
        self.state = state.absolute()
        self.sources = sources.absolute() if sources else None
        self._update_output = ""

    @property
    def lists(self) -> Path:
        return self.state / "lists"

    def update(self, progress: Progress) -> None:
        """Fetch the package lists; of those that are here only what has changed. A source that fails is no error yet: another one
        may have all that is wanted."""
        self._write_configuration()
        progress("reading the package lists (apt-get update, in labkit's own cache)")
        _, self._update_output = self._run(["apt-get", "update"], on_line=lambda line: _report(line, progress, "fetching list"))
        if _says_disk_full(self._update_output):
            raise explain(self._update_output, "fetch the package lists", self.state)

    def with_lists(self, work: Callable[[], Done], progress: Progress) -> Done:
        """Update the package lists, then return what `work` returns. If it fails on lists of an earlier time, which may be
        damaged or altered, all of them are fetched again, and it is done once more."""
        known = self.lists.exists()
        self.update(progress)
        try:
            return work()
        except ListsError:
            if not known:
                raise
        progress("the package lists of an earlier time cannot be used: fetching all of them again")
        shutil.rmtree(self.lists)
        self.update(progress)
        return work()

    def plan(self, packages: Sequence[str], *, dependencies: bool = False) -> tuple[Package, ...]:
        """What would be downloaded for `packages`: they alone, or with every dependency that is not installed here."""
        archives = self._uris(["apt-get", "download", "--print-uris", *packages], packages)
        if dependencies:
            install = ["apt-get", "install", "--print-uris", "--yes", "--no-install-recommends", *packages]
            archives |= self._uris(install, packages)
        return self._describe([(unquote(name), unquote(version)) for name, version in sorted(archives)])

    def download(self, packages: Sequence[Package], directory: Path, progress: Progress) -> tuple[Path, ...]:
        """Download the .deb files of `packages` into `directory`, their hashes checked against the signed lists."""
        if not packages:
            return ()
        code, output = self._run(
            ["apt-get", "download", *(package.wanted for package in packages)],
            cwd=directory,
            on_line=lambda line: _report(line, progress, "downloading"),
        )
        if code != 0:
            raise explain(output, "download " + ", ".join(package.name for package in packages), directory)
        return tuple(sorted(directory.glob("*.deb")))

    def _describe(self, archives: Sequence[tuple[str, str]]) -> tuple[Package, ...]:
        wanted = [f"{name}={version}" for name, version in archives]
        code, output = self._run(["apt-cache", "show", *wanted])
        records = [_fields(record) for record in output.split("\n\n")]
        found = {
            (record["Package"], record["Version"]): Package(
                name=record["Package"],
                version=record["Version"],
                architecture=record["Architecture"],
                size=int(record["Size"]),
                installed_size=int(record.get("Installed-Size", "0")) * 1024,
                depends=_dependency_names(record.get("Pre-Depends", "") + "," + record.get("Depends", "")),
            )
            for record in records
            if {"Package", "Version", "Architecture", "Size"} <= record.keys()
        }
        if code != 0 or not set(archives) <= found.keys():
            raise explain(output, "describe " + ", ".join(wanted), self.state)
        return tuple(found[archive] for archive in archives)

    def _uris(self, argv: Sequence[str], packages: Sequence[str]) -> set[tuple[str, str]]:
        code, output = self._run(argv)
        if code != 0:
            raise explain(self._update_output + output, "find " + ", ".join(packages), self.state)
        return set(re.findall(r"^'[^']+' ([^_\s]+)_([^_\s]+)_\S+\.deb \d+", output, re.MULTILINE))

    def _write_configuration(self) -> None:
        try:
            for directory in ("lists/partial", "archives/partial"):
                (self.state / directory).mkdir(parents=True, exist_ok=True)
            earlier = _include(os.environ.get("APT_CONFIG"))
            (self.state / "apt.conf").write_text(f'{earlier}Dir::Etc::main "{self.state}/main.conf";\n')
            (self.state / "main.conf").write_text(self._main_configuration())
        except OSError as error:
            raise ProgramsError(
                f"labkit cannot write its package cache {self.state} ({error.strerror}).",
                "Make that directory writable, or set LABKIT_HOME to one that is.",
            ) from None

    def _main_configuration(self) -> str:
        # Read after /etc/apt/apt.conf.d, so it has the last word; #clear since hooks of the system (PackageKit,
        # update-notifier) would otherwise run and note an update of the system's lists that never happened.
        sources = f'Dir::Etc::sourcelist "{self.sources}";\nDir::Etc::sourceparts "-";\n#clear APT::Default-Release;\n'
        return f"""{_include("/etc/apt/apt.conf")}
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Install::Pre-Invoke;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
Dir::State::lists "{self.state}/lists";
Dir::State::status "{DPKG_STATUS}";
Dir::Cache "{self.state}";
Dir::Cache::archives "{self.state}/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
{sources if self.sources else ""}Debug::NoLocking "true";
APT::Sandbox::User "root";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Acquire::Retries "2";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::CNF::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Acquire::IndexTargets::deb-src::Sources::DefaultEnabled "false";
"""

    def _run(self, argv: Sequence[str], cwd: Path | None = None, on_line: Progress | None = None) -> tuple[int, str]:
        return run(argv, {**os.environ, "APT_CONFIG": str(self.state / "apt.conf"), "LC_ALL": "C"}, cwd, on_line)


def run(
    argv: Sequence[str], environment: dict[str, str] | None = None, cwd: Path | None = None, on_line: Progress | None = None
) -> tuple[int, str]:
    """Run a command to its end: exit code, and standard output and error together. An interrupted one is not left running."""
    with subprocess.Popen(
        argv, env=environment, cwd=cwd, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:
        lines = []
        try:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line)
                if on_line:
                    on_line(line.rstrip())
        except BaseException:
            process.terminate()
            raise
    return process.returncode, "".join(lines)


def explain(output: str, action: str, place: Path) -> ProgramsError:
    """apt's or dpkg's own words (in English) as a sentence of what happened and one of what to do."""
    if _says_disk_full(output):
        return disk_full(place)
    if re.search(UNTRUSTED, output):
        return ProgramsError(
            f"apt does not trust a package source: {_first(output, UNTRUSTED)}.",
            "Repair the key or the source (see man apt-secure) until `apt-get update` is content, then try again.",
        )
    if re.search(NOT_THE_SIGNED, output):
        return ListsError(
            f"A downloaded file is not the one that was signed: {_first(output, NOT_THE_SIGNED)}.",
            "A mirror in the middle of an update does that: try again in a few minutes.",
        )
    if re.search(NO_ANSWER, output):
        return ProgramsError(
            f"apt could not {action}, since a package source does not answer: {_first(output, NO_ANSWER)}.",
            "Check the network or the proxy and try again.",
        )
    if missing := re.findall(r"Unable to locate package (\S+)|has no installation candidate|find a source to download", output):
        names = ", ".join(sorted(set(filter(None, missing)))) or action.removeprefix("find ")
        return ListsError(
            f"The package sources of this machine have no package {names}.",
            "Enable the component that has it (Debian: main, Ubuntu: universe) in /etc/apt/sources.list.d and try again.",
        )
    reason = _first(output, "^E:") or output.strip()[-300:] or "it printed nothing"
    return ListsError(f"apt could not {action}: {reason}.", "Run `apt-get update` by hand to see what apt says then.")


def disk_full(place: Path, needed: int = 0) -> ProgramsError:
    """The sentence for a full disk; `needed` in bytes, 0 if not known."""
    amount = f"{-(-needed // 1_000_000)} MB are needed there" if needed else "more space is needed there"
    return ProgramsError(f"The disk that holds {place} is full: {amount}.", "Free some, or set LABKIT_HOME to another disk.")


def _says_disk_full(output: str) -> bool:
    return bool(re.search(r"No space left on device|enough free space", output))


def _first(output: str, pattern: str) -> str:
    lines = (line for line in output.splitlines() if re.search(pattern, line))
    return re.sub(r"^[EW]: ", "", next(lines, "")).strip().rstrip(".")


def _report(line: str, progress: Progress, verb: str) -> None:
    if match := re.match(r"Get:\d+ \S+ (\S+) (.+) \[(.+)\]$", line):
        suite, what, size = match.groups()
        words = what.split()
        progress(f"{verb} {words[1]} {words[3]} ({size})" if len(words) >= 4 else f"{verb} {suite} {what} ({size})")


def _fields(record: str) -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z-]+): (.*)$", record, re.MULTILINE))


def _dependency_names(field: str) -> tuple[str, ...]:
    names = (re.split(r"[ (:|\[]", part.strip(), maxsplit=1)[0] for part in field.split(","))
    return tuple(sorted({name for name in names if name}))


def _include(file: str | None) -> str:
    return f'#include "{file}";\n' if file and Path(file).exists() else ""
