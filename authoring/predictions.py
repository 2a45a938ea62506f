"""Which answers a notebook's code can report to a prediction: followed through names, conditions, dictionaries and indexes.

What cannot be followed, as what a call returns, counts as any answer: a fault that is found is one.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Values = frozenset[Any] | None
ANY: Values = None
"""In place of a set of values: it cannot be told which."""


@dataclass
class Prediction:
    """A question of `labkit.predict` (or predict_order: `options` is then None) under a name, and what each `seen` of it can
    report."""

    name: str
    cell: int
    identifier: str
    options: tuple[str, ...] | None
    reports: list[Values] = field(default_factory=list)


Options = Callable[[str], tuple[str, ...] | None]
"""The options of a question by its id; None where it asks for an order."""


def predictions(cells: dict[int, str], options: Options) -> list[Prediction]:
    """The predictions of a notebook. cells: its code by number. Raises SyntaxError where a cell is no Python."""
    known: list[Prediction] = []
    names = Names()
    for number, source in cells.items():
        tree = ast.parse(source)
        names.read(tree, number)
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and (made := asked(node, number, options)):
                known.append(made)
                names.options[made.name] = made.options
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Attribute(attr="seen", value=ast.Name(id=name)), args=[answer]):
                    for of in [p for p in known if p.name == name][-1:]:
                        of.reports.append(names.values(answer))
    return known


def asked(node: ast.Assign, number: int, options: Options) -> Prediction | None:
    match node:
        case ast.Assign(
            targets=[ast.Name(id=name)],
            value=ast.Call(func=ast.Attribute(attr="predict" | "predict_order"), args=[ast.Constant(value=str() as identifier)]),
        ):
            return Prediction(name, number, identifier, options(identifier))
    return None


class Names:
    """What the names of a notebook may hold, by the newest cell that assigns them."""

    def __init__(self) -> None:
        self.options: dict[str, tuple[str, ...] | None] = {}
        self.assigned: dict[str, tuple[int, list[ast.expr | None]]] = {}
        self.functions: dict[str, ast.FunctionDef] = {}
        self.following: list[str] = []

    def read(self, tree: ast.Module, number: int) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                self.functions[node.name] = node
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    self.bind(target, node.value, number)
            elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.For | ast.NamedExpr):
                self.bind(node.target, None, number)
            elif isinstance(node, ast.withitem) and node.optional_vars:
                self.bind(node.optional_vars, None, number)
            elif isinstance(node, ast.arg):
                self.bind(ast.Name(node.arg), None, number)

    def bind(self, target: ast.expr, value: ast.expr | None, number: int) -> None:
        if isinstance(target, ast.Tuple | ast.List):
            parts = value.elts if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts) else None
            if isinstance(value, ast.ListComp):  # [found] = [each for each in … if …]
                parts = [value] * len(target.elts)
            for i, each in enumerate(target.elts):
                self.bind(each, parts[i] if parts else None, number)
        elif isinstance(target, ast.Subscript):  # what the container holds is not followed
            self.bind(target.value, None, number)
        elif isinstance(target, ast.Name):
            cell, values = self.assigned.get(target.id, (number, []))
            self.assigned[target.id] = (number, [*(values if cell == number else []), value])

    def values(self, node: ast.expr) -> Values:
        """The strings that an expression can be; ANY where that cannot be told."""
        match node:
            case ast.Constant():
                return frozenset([node.value])
            case ast.IfExp():
                return union(self.values(node.body), self.values(node.orelse))
            case ast.BoolOp():
                return union(*map(self.values, node.values))
            case ast.JoinedStr():
                parts = [self.values(p.value if isinstance(p, ast.FormattedValue) else p) for p in node.values]
                known = [part for part in parts if part is not None]
                texts = frozenset("".join(map(str, each)) for each in itertools.product(*known))
                return texts if len(known) == len(parts) else ANY
            case ast.Name() if node.id not in self.following:
                values = self.assigned.get(node.id, (0, [None]))[1]
                return self.follow(node.id, values)
            case ast.ListComp() | ast.GeneratorExp():
                return self.elements(node)
            case ast.Subscript():
                return self.chosen(node)
            case ast.Call(func=ast.Attribute(attr="get", value=ast.Dict() as table)):
                return union(*map(self.values, [*table.values, *node.args[1:]]))
            case ast.Call(func=ast.Name(id="next")) if node.args:
                return union(self.elements(node.args[0]), *map(self.values, node.args[1:]))
            case ast.Call(func=ast.Name(id=name)) if name in self.functions and name not in self.following:
                returns = [n.value for n in ast.walk(self.functions[name]) if isinstance(n, ast.Return)]
                return self.follow(name, returns)
        return ANY

    def follow(self, name: str, nodes: list[ast.expr | None]) -> Values:
        self.following.append(name)
        try:
            return union(*(ANY if node is None else self.values(node) for node in nodes))
        finally:
            self.following.pop()

    def elements(self, node: ast.expr) -> Values:
        """The strings that a list, or what runs through one, can hold."""
        match node:
            case ast.List() | ast.Tuple():
                return union(*map(self.values, node.elts))
            case ast.Attribute(attr="options", value=ast.Name(id=name)):
                options = self.options.get(name)
                return frozenset(options) if options else ANY
            case ast.ListComp(elt=ast.Name(id=name)) | ast.GeneratorExp(elt=ast.Name(id=name)):
                source = node.generators[0]
                match source.target, source.iter:
                    case ast.Name(id=target), several if target == name:
                        return self.elements(several)
                    case ast.Tuple(elts=targets), ast.Call(func=ast.Name(id="zip"), args=lists):
                        for each, held in zip(targets, lists, strict=False):
                            if isinstance(each, ast.Name) and each.id == name:
                                return self.elements(held)
        return ANY

    def chosen(self, node: ast.Subscript) -> Values:
        """What an index picks out of a list, or a key out of a dictionary."""
        if isinstance(node.value, ast.Dict):
            return union(*map(self.values, node.value.values))
        match node.value:
            case ast.Attribute(attr="options", value=ast.Name(id=name)):
                held: list[Values] = [frozenset([option]) for option in self.options.get(name) or ()]
            case ast.List(elts=elts) | ast.Tuple(elts=elts):
                held = [self.values(each) for each in elts]
            case _:
                return ANY
        places = self.numbers(node.slice)
        if not held or places is None:
            return union(*held) if held else ANY
        return union(*(held[i] for i in places if -len(held) <= i < len(held)))

    def numbers(self, node: ast.expr) -> Values:
        """The whole numbers that an index can be; a comparison is 0 or 1."""
        match node:
            case ast.Constant(value=int() as number):
                return frozenset([int(number)])
            case ast.Compare() | ast.UnaryOp(op=ast.Not()) | ast.Call(func=ast.Name(id="bool" | "any" | "all" | "isinstance")):
                return frozenset([0, 1])
            case ast.IfExp():
                return union(self.numbers(node.body), self.numbers(node.orelse))
            case ast.UnaryOp(op=ast.USub()):
                inner = self.numbers(node.operand)
                return inner and frozenset(-i for i in inner)
            case ast.BinOp(op=ast.Add() | ast.Sub()):
                left, right = self.numbers(node.left), self.numbers(node.right)
                sign = 1 if isinstance(node.op, ast.Add) else -1
                return ANY if left is None or right is None else frozenset(a + sign * b for a in left for b in right)
            case ast.Call(func=ast.Name(id="min")):
                sets = [self.numbers(each) for each in node.args]
                tops = [max(each) for each in sets if each]
                return frozenset(range(min(tops) + 1)) if tops else ANY
        return ANY


def union(*sets: Values) -> Values:
    known = [each for each in sets if each is not None]
    return frozenset().union(*known) if known and len(known) == len(sets) else ANY


def unreachable(known: list[Prediction]) -> Iterator[tuple[int, str]]:
    """Each prediction that no cell answers, or whose options no cell can report: its cell, and what is wrong."""
    for each in known:
        if not each.reports:
            yield each.cell, f"nothing answers the prediction: call {each.name}.seen(…) in a cell after it."
        answers = union(*each.reports)
        if answers is None or each.options is None:
            continue
        for option in each.options:
            if option not in answers:
                yield each.cell, f"the code never reports {option!r}: report it where it is what was seen, or leave it out."
        for answer in sorted(map(str, answers - set(each.options))):
            yield each.cell, f"the code can report {answer!r}, which is no option of the prediction."
