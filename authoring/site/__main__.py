"""`./course site [DIRECTORY]`: build the course's static pages from the committed outputs."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from authoring.lesson import ROOT, LessonError, lessons
from authoring.site import check, pages
from authoring.site.links import binder, repository
from labkit.util.errors import NodeError

SPHINX = [sys.executable, "-m", "sphinx", "-b", "html", "--fail-on-warning", "--keep-going", "--quiet"]

LABELS = {
    '<aside class="sidebar-drawer">': '<aside class="sidebar-drawer" aria-label="The course">',
    '<aside class="toc-drawer">': '<aside class="toc-drawer" aria-label="This page">',
    'class="caption" role="heading">': 'class="caption" role="heading" aria-level="2">',
    '<div id="search-results">': '<h1>Search</h1>\n<div id="search-results">',
}


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 for a site without a fault, 1 where there is one, 2 for wrong usage, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="./course site", description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, default=ROOT / "build" / "site", help="where to (default: build/site)")
    site = parser.parse_args(argv).directory.resolve()
    try:
        return build(site)
    except (LessonError, NodeError) as error:
        print(f"site: {error}", file=sys.stderr)
    except OSError as error:
        print(f"site: {error.filename} cannot be written: {error.strerror}. Name another directory.", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nsite: stopped; the site is as it was.", file=sys.stderr)
        return 130
    return 1


def build(site: Path) -> int:
    """Build the pages beside the directory `site`, and put them in its place where nothing is wrong with them."""
    refuse_others(site)
    started, of = time.monotonic(), repository()
    site.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{site.name}-", dir=site.parent) as name:
        source, extra, built = (Path(name, part) for part in ("source", "extra", "site"))
        extra.mkdir()
        pages.write(source, extra, of)
        first = next(lessons()).notebook.name
        environment = {**os.environ, "SITE_BINDER": binder(first, of) if of else ""}
        settings = ["-c", f"{ROOT / 'authoring' / 'site'}", "-D", f"html_extra_path={extra}", "-d", f"{name}/doctrees"]
        done = subprocess.run([*SPHINX, *settings, f"{source}", f"{built}"], env=environment)
        if done.returncode:
            print("site: Sphinx found a fault; its words are above. Put it right, and build again.", file=sys.stderr)
            return 1
        label(built)
        read = check.pages(built)
        if found := list(check.faults(read)):
            print(*(f"site: {fault}" for fault in found), sep="\n", file=sys.stderr)
            return 1
        weight, heaviest = max((check.weight(page), path.name) for path, page in read.items())
        shutil.rmtree(site, ignore_errors=True)
        built.replace(site)
    took = f"{time.monotonic() - started:.0f} s"
    print(f"site: {len(read)} pages in {site}, built in {took}. {heaviest} weighs most: {weight:,} bytes with all that it loads.")
    return 0


def label(site: Path) -> None:
    """Say in each page what screen readers need and the theme leaves out."""
    for path in site.rglob("*.html"):
        text = path.read_text()
        for left_out, labelled in LABELS.items():
            text = text.replace(left_out, labelled)
        path.write_text(text)


def refuse_others(site: Path) -> None:
    """Raise LessonError where the directory has something else than a site: it is going to be replaced."""
    if site.exists() and any(site.iterdir() if site.is_dir() else [site]) and not (site / "searchindex.js").is_file():
        raise LessonError(f"{site} is not a site that ./course site has built. Name a new directory, or remove it.")


if __name__ == "__main__":
    sys.exit(main())
