"""docs/architecture.md names every room of labkit, and imports go the way that its table shows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LABKIT = ROOT / "labkit"
TEXT = (ROOT / "docs/architecture.md").read_text()
ENTRIES = 12
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in LABKIT.rglob("*.py")
}


def rooms(labkit: Path) -> set[str]:
    """Folders below labkit with Python in them, as the page writes them: "labkit/node/lab/"."""
    return {f"labkit/{path.parent.relative_to(labkit)}/" for path in labkit.rglob("__init__.py")} - {"labkit/./"}


def listed() -> list[str]:
    return re.findall(r"^\| `(labkit/[^`]*)` \|", TEXT, re.MULTILINE)


def test_every_room_has_a_row_and_every_row_a_room() -> None:
    assert sorted(listed()) == sorted(rooms(LABKIT))


def test_a_room_without_a_row_is_found(tmp_path: Path) -> None:
    for name in ("", "attic", "attic/box"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "__init__.py").touch()
    assert rooms(tmp_path) == {"labkit/attic/", "labkit/attic/box/"}


def test_no_folder_has_more_than_a_dozen_entries() -> None:
    folders = [LABKIT, *(path for path in LABKIT.rglob("*") if (path / "__init__.py").exists())]
    counts = {
        str(folder): sum(path.name not in ("__init__.py", "__pycache__", "py.typed") for path in folder.iterdir())
        for folder in folders
    }
    assert {folder: number for folder, number in counts.items() if number > ENTRIES} == {}


def test_no_folder_is_more_than_three_levels_deep() -> None:
    assert [room for room in rooms(LABKIT) if room.count("/") > 3] == []


def imported(module: str, path: Path) -> Iterator[str]:
    """The modules of labkit that one imports when it runs, also those inside of functions; not those for type checking alone."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        names = []
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names = [f"{node.module}.{each.name}" for each in node.names]
        for name in names:
            while name not in MODULES and "." in name:
                name = name.rpartition(".")[0]
            if name in MODULES and name != module:
                yield name


IMPORTS = {module: sorted(set(imported(module, path))) for module, path in MODULES.items()}


def room_of(module: str) -> str:
    """ "labkit/node/lab/" for labkit.node.lab.daemon."""
    return f"{MODULES[module].parent.relative_to(ROOT)}/"


def test_a_room_imports_only_rooms_above_it() -> None:
    """`__main__` is a program: it puts everything together."""
    place = {room: number for number, room in enumerate(listed())}
    wrong = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        if module != "labkit" and not module.endswith(".__main__")
        for other in others
        if other != "labkit"
        and not (room_of(module).startswith(room_of(other)) or room_of(other).startswith(room_of(module)))
        and place[room_of(other)] > place[room_of(module)]
    ]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    done: set[str] = set()

    def visit(module: str, above: list[str]) -> list[str]:
        if module in above:
            return [*above[above.index(module) :], module]
        if module in done:
            return []
        for other in IMPORTS[module]:
            if circle := visit(other, [*above, module]):
                return circle
        done.add(module)
        return []

    assert [circle for module in IMPORTS if (circle := visit(module, []))] == []


LINES = 350


def test_no_module_is_longer_than_350_lines() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in MODULES.values()}
    assert {path: lines for path, lines in lengths.items() if lines > LINES} == {}


LAYERS = 8


def depth(module: str, below: str, known: dict[str, int]) -> int:
    """How many modules of a folder are one upon the other, down from this one."""
    if module not in known:
        known[module] = 1 + max((depth(o, below, known) for o in IMPORTS[module] if o.startswith(f"{below}.")), default=0)
    return known[module]


def test_the_modules_of_node_are_no_more_than_eight_layers() -> None:
    """A kind of node is loaded by its name (`labkit.node.kinds.discovery`), so what uses kinds is not above them."""
    known: dict[str, int] = {}
    deep = {module: depth(module, "labkit.node", known) for module in MODULES if module.startswith("labkit.node")}
    assert {module: layers for module, layers in deep.items() if layers > LAYERS} == {}


def more_than_once(places: Iterable[tuple[str, Path]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, path in places:
        found.setdefault(name, []).append(str(path.relative_to(ROOT)))
    return {name: paths for name, paths in found.items() if len(paths) > 1}


def test_no_two_modules_have_the_same_file_name() -> None:
    """`__init__.py` and `__main__.py` are Python's own names."""
    assert more_than_once((path.name, path) for path in MODULES.values() if not path.name.startswith("__")) == {}


def test_no_two_classes_have_the_same_name() -> None:
    """Classes inside of functions and classes count, too: a search for a name leads to one place."""
    classes = [
        (node.name, path)
        for path in MODULES.values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    assert more_than_once(classes) == {}


def test_a_name_that_is_used_twice_is_found() -> None:
    here, there = ROOT / "labkit/node/node.py", ROOT / "labkit/cli/__main__.py"
    assert more_than_once([("a", here), ("b", here), ("a", there)]) == {"a": ["labkit/node/node.py", "labkit/cli/__main__.py"]}


def test_every_module_says_what_it_is_for() -> None:
    trees = {path.relative_to(ROOT): ast.parse(path.read_text()) for path in MODULES.values()}
    assert [str(path) for path, tree in trees.items() if tree.body and not ast.get_docstring(tree)] == []


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]), ids=lambda path: path.name)
def test_every_link_within_the_repository_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []
