"""What is wrong with a built site, and what its pages weigh."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

HEAVIEST = 1_000_000
"""So many bytes a page may weigh with all that a browser loads for it."""
_LOADED = {
    ("link", "href"),
    ("object", "data"),
    ("use", "href"),
    *((tag, "src") for tag in ("script", "img", "iframe", "source")),
}
_LINKS_THAT_LOAD = {"stylesheet", "icon", "preload", "modulepreload", "manifest", "shortcut"}


@dataclass
class Page(HTMLParser):
    """What a page loads, where it links to, the fragments it has, its images without alternative text, its quizzes."""

    file: Path
    loads: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    fragments: set[str] = field(default_factory=lambda: {"", "top"})
    silent: list[str] = field(default_factory=list)
    quizzes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = {name: value or "" for name, value in attrs}
        self.fragments |= {has[name] for name in ("id", "name") if name in has}
        for name, value in has.items():
            loads = (tag, name) in _LOADED and (tag != "link" or _LINKS_THAT_LOAD & set(has.get("rel", "").split()))
            if loads and not value.startswith("data:"):
                self.loads.add(value)
        if tag == "a" and "href" in has:
            self.links.add(has["href"])
        if tag == "img" and not has.get("alt"):
            self.silent.append(has.get("src", ""))
        if "data-quiz" in has:
            self.quizzes.append(has["data-quiz"])

    def there(self, address: str) -> Path:
        path = unquote(urlsplit(address).path)
        return (self.file.parent / path).resolve() if path else self.file


def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.resolve().rglob("*.html"))}


def outside(address: str) -> bool:
    return bool(urlsplit(address).scheme or urlsplit(address).netloc)


def faults(read: dict[Path, Page]) -> Iterator[str]:
    """One line for each thing that is wrong."""
    for path, page in read.items():
        name = path.name
        for address in sorted(page.loads):
            if outside(address):
                yield f"{name} loads {address} from elsewhere"
            elif not page.there(address).is_file():
                yield f"{name} loads {address}, which is not there"
        for address in sorted(page.links):
            if outside(address):
                continue
            target, fragment = page.there(address), unquote(urlsplit(address).fragment)
            if not target.is_file():
                yield f"{name} links to {address}, which is not there"
            elif target in read and fragment not in read[target].fragments:
                yield f"{name} links to {address}, whose page has no such place"
        yield from (f"{name} has an image without alternative text: {image}" for image in page.silent)
        if (weighs := weight(page)) > HEAVIEST:
            yield f"{name} weighs {weighs:,} bytes, more than {HEAVIEST:,}"


def weight(page: Page) -> int:
    """Bytes of a page and of all that it loads, as they are on disk: not compressed."""
    loaded = {page.there(address) for address in page.loads if not outside(address)}
    return sum(path.stat().st_size for path in {page.file, *loaded} if path.is_file())
