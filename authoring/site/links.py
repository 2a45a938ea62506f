"""Where a link of the repository's texts leads on the site: to a page, or to the repository's public address."""

from __future__ import annotations

import os
import posixpath
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from authoring.lesson import ROOT, LessonError

PLACEHOLDER = "OWNER/REPOSITORY"
LINK = re.compile(r"(?<!!)\[((?:[^\[\]`]|`[^`]*`)*)\]\(([^()\s]+)\)")
SOURCE_FILE = re.compile(r"(?<!`)`(labkit/[\w/.-]+\.py)`(?!`)")


def repository() -> str:
    """The repository as "owner/name": the code host's own variable, else pyproject.toml; "" while there is no public address."""
    homepage = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Homepage"]
    named = os.environ.get("GITHUB_REPOSITORY") or "/".join(homepage.split("/")[-2:])
    return "" if named == PLACEHOLDER else named


def binder(notebook: str, of: str) -> str:
    """The address that opens a notebook live on Binder. of: the repository."""
    return f"https://mybinder.org/v2/gh/{of}/HEAD?urlpath=lab/workspaces/course/tree/my-notebooks/{notebook}"


@dataclass(frozen=True)
class Links:
    """Rewrites links. pages: the site's document for each file of the repository that has one, both relative to their root."""

    pages: Mapping[str, str]
    repository: str = ""
    root: Path = ROOT

    def rewritten(self, text: str, file: str) -> str:
        """The Markdown of `file`, with links that lead somewhere on the site. Raises LessonError where one leads nowhere."""
        text = LINK.sub(lambda found: self._link(found[1], found[2], file), text)
        return SOURCE_FILE.sub(lambda found: self._source(found[1], file), text)

    def _link(self, words: str, target: str, file: str) -> str:
        if re.match(r"[a-z]+:|#", target):
            return f"[{words}]({target})"
        path, mark, fragment = target.partition("#")
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(file), path))
        self._exists(wanted, file)
        if wanted in self.pages:
            return f"[{words}]({self._from(file, wanted)}{mark}{fragment})"
        if self.repository:
            return f"[{words}](https://github.com/{self.repository}/blob/HEAD/{wanted}{mark}{fragment})"
        return words

    def _source(self, path: str, file: str) -> str:
        """The name of a file of the code, as a link to its page where it has one."""
        self._exists(path, file)
        return f"[`{path}`]({self._from(file, path)})" if path in self.pages else f"`{path}`"

    def _from(self, file: str, target: str) -> str:
        return posixpath.relpath(self.pages[target], posixpath.dirname(self.pages[file]) or ".")

    def _exists(self, path: str, file: str) -> None:
        if not (self.root / path).exists():
            raise LessonError(f"{file} names {path}, which is not there. Correct the name.")
