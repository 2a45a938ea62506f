"""The site's source tree, which Sphinx reads: lessons, documents, the kubelet's core. Nothing of it is kept."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import nbformat

from authoring.lesson import ROOT, lessons
from authoring.site.lesson_page import FIGURES, lesson_page
from authoring.site.links import LINK, Links, binder

LEARNERS = ("docs/glossary.md", "docs/shell.md", "docs/nodes.md", "docs/kubelet.md", "docs/footprint.md")
TEACHERS = ("docs/teaching.md", "docs/tested.md")
KUBELET = "labkit/kubelet/core/README.md"
READ_WITH = {
    "07": f"""\
```{{seealso}}
[The kubelet's core](../{KUBELET}), in reading order: the same loop with all that a node needs, as the lab runs it.
```"""
}
"""What is shown beside a lesson, by its number."""
_BADGE = re.compile(r"\[!\[[^\]]*\]\([^)]*\)\]\([^)]*\)\n")
_OF_THE_BADGE = re.compile(r"\(The badge's link holds a placeholder[^)]*\)\n")


def write(source: Path, extra: Path, repository: str, root: Path = ROOT) -> None:
    """Write the source tree into `source`, and what the pages show as it is into `extra`. repository: "owner/name", or "".

    Raises LessonError where a text names a file that is not there, or a lesson does not fit its quiz.
    """
    code = files_of_the_kubelet(root)
    notebooks = [f"notebooks/{lesson.notebook.name}" for lesson in lessons(root)]
    pages = {path: path for path in (*notebooks, *LEARNERS, *TEACHERS, KUBELET)}
    pages |= {"README.md": "index.md", **{path: f"{path}.md" for path in code}}
    links = Links(pages, repository, root)
    texts = {page: document(root, path, links) for path, page in pages.items() if path.endswith(".md")}
    texts["index.md"] = index(root, notebooks, links)
    texts[KUBELET] += contents("", [posixpath.relpath(f"{path}.md", posixpath.dirname(KUBELET)) for path in code])
    texts |= {f"{path}.md": listing(root, path) for path in code}
    for lesson in lessons(root):
        page = lesson_page(lesson, links, READ_WITH)
        texts[f"notebooks/{lesson.notebook.name}"] = nbformat.writes(page.notebook)
        for name, svg in page.pictures.items():
            put(extra / FIGURES / name, svg.encode())
    for path, text in texts.items():
        put(source / path, text.encode())
    for picture in (root / "docs/pictures").iterdir():
        put(source / "docs/pictures" / picture.name, picture.read_bytes())


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def files_of_the_kubelet(root: Path) -> list[str]:
    """The Python files to which the reading guide of the kubelet leads, in its order."""
    targets = (target for _, target in LINK.findall((root / KUBELET).read_text()) if target.endswith(".py"))
    return list(dict.fromkeys(posixpath.normpath(posixpath.join(posixpath.dirname(KUBELET), target)) for target in targets))


def document(root: Path, path: str, links: Links) -> str:
    return links.rewritten((root / path).read_text(), path)


def index(root: Path, notebooks: list[str], links: Links) -> str:
    """README, with the site's contents in place of the badge."""
    text = _OF_THE_BADGE.sub("", _BADGE.sub("", (root / "README.md").read_text()))
    if links.repository:
        address = binder(Path(notebooks[0]).name, links.repository)
        text = text.replace("the badge: a free session", f"[Binder]({address}): a free session")
    with_07 = [*notebooks, KUBELET]
    lists = (("Lessons", with_07), ("Reference", [*LEARNERS]), ("For teachers", [*TEACHERS]))
    return links.rewritten(text, "README.md") + "".join(contents(*each) for each in lists)


def contents(caption: str, documents: list[str]) -> str:
    named = f":caption: {caption}\n" if caption else ""
    return "\n\n```{toctree}\n:hidden:\n" + named + "\n" + "\n".join(documents) + "\n```\n"


def listing(root: Path, path: str) -> str:
    """The page of a file of the code."""
    code = (root / path).read_text()
    return f"# {Path(path).name}\n\n`{path}`\n\n`````{{code-block}} python\n:lineno-start: 1\n\n{code}\n`````\n"
