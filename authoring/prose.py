"""A markdown cell as blocks: headings, paragraphs and list items with their words, emphasis, code spans, links and pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from markdown_it import MarkdownIt

_PARSER = MarkdownIt("commonmark").enable("table")


@dataclass
class Block:
    """`words`: the text without code spans. `kind`: heading, paragraph, item, quote, cell (of a table) or html."""

    kind: str
    level: int = 0
    words: str = ""
    emphasis: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    """The alternative text of each picture, empty where it has none."""


def blocks(source: str) -> Iterator[Block]:
    outer: list[str] = []
    level = 0
    for token in _PARSER.parse(source):
        if token.type == "html_block":
            yield html(token.content)
        elif token.type == "inline":
            kind = next((k for k in reversed(outer) if k in _KINDS), "paragraph")
            block = Block(_KINDS.get(kind, "paragraph"), level if kind == "heading" else 0)
            inline(token.children or [], block)
            yield block
        elif token.nesting == 1:
            outer.append(token.type.removesuffix("_open"))
            level = int(token.tag[1]) if token.type == "heading_open" else level
        elif token.nesting == -1:
            outer.pop()


_KINDS = {"heading": "heading", "list_item": "item", "blockquote": "quote", "td": "cell", "th": "cell"}


def inline(tokens: list, block: Block) -> None:
    stressed: list[str] | None = None
    for token in tokens:
        if token.type in ("strong_open", "em_open"):
            stressed = []
        elif token.type in ("strong_close", "em_close") and stressed is not None:
            block.emphasis.append("".join(stressed))
            stressed = None
        elif token.type == "link_open":
            block.links.append(str(token.attrs["href"]))
        elif token.type == "image":
            block.links.append(str(token.attrs["src"]))
            block.pictures.append(token.content.strip())
        elif token.type == "code_inline":
            block.code.append(token.content)
            block.words += " "
            if stressed is not None:
                stressed.append(token.content)
        elif token.type == "html_inline":
            other = html(token.content)
            block.links += other.links
            block.pictures += other.pictures
        elif token.type in ("softbreak", "hardbreak"):
            block.words += " "
        else:
            block.words += token.content
            if stressed is not None:
                stressed.append(token.content)


def html(source: str) -> Block:
    pictures = re.findall(r"<img\b[^>]*>", source)
    alts = (re.search(r"\balt=[\"']([^\"']*)", picture) for picture in pictures)
    return Block(
        "html",
        words=re.sub(r"<[^>]*>", " ", source),
        links=re.findall(r"\b(?:href|src)=[\"']([^\"']*)", source),
        pictures=[alt[1].strip() if alt else "" for alt in alts],
    )
