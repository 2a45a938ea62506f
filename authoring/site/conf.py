"""Sphinx's settings. The pages that it reads are written by authoring/site/pages.py, the script of the quizzes is in static/."""

from __future__ import annotations

import os
import tomllib
from html import escape
from pathlib import Path
from typing import Any

_PROJECT = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())["project"]

project = html_title = "Inside the Node"
author = _PROJECT["authors"][0]["name"].replace("The authors", "the authors")
project_copyright = author
version = release = _PROJECT["version"]
language = "en"

extensions = ["myst_nb"]
root_doc = "index"
nb_execution_mode = "off"
nb_merge_streams = True
myst_heading_anchors = 3

html_theme = "furo"
html_favicon = "static/icon.svg"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files: list[Any] = [("site.js", {"defer": "defer"})]
templates_path = ["templates"]
html_show_sourcelink = False
html_copy_source = False
html_context = {"binder": os.environ.get("SITE_BINDER", "")}
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "run.html",
        "sidebar/scroll-end.html",
    ]
}


def setup(app: Any) -> None:
    app.connect("html-page-context", describe)


def describe(app: Any, page: str, template: str, context: dict[str, Any], document: Any) -> None:
    """Tell search engines what a page is about: its first paragraph, or the course's description."""
    first = next(iter(document.findall(lambda node: node.tagname == "paragraph")), None) if document else None
    words = " ".join((first.astext() if first else _PROJECT["description"]).split())
    context["metatags"] = f'{context.get("metatags", "")}<meta name="description" content="{escape(words[:300])}">'
