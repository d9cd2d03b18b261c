"""The small mutations of a module's source: one rule changed in each.

Pure: source in, code objects out. What people read and no rule hangs on stays as it is: imports,
docstrings, types, decorators, sizes of caches, `__all__`, `__slots__`, what `raise` says and
`__repr__`.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType
from typing import TypeVar

__all__ = ["Mutation", "mutations_of"]


@dataclass(frozen=True)
class Mutation:
    """One change.

    line: its number in the source, from 1.
    text: the source's line there, without the spaces around it.
    change: what stood there and what stands there now, as people read it.
    function: the name of the function that the line is in, empty outside of all.
    code: the mutated module, compiled.
    """

    line: int
    text: str
    change: str
    function: str
    code: CodeType


_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
}
_OTHER_NAMES = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "find": "rfind",
    "rfind": "find",
    "index": "rindex",
    "rindex": "index",
    "partition": "rpartition",
    "rpartition": "partition",
    "startswith": "endswith",
    "endswith": "startswith",
    "fullmatch": "match",
    "match": "search",
}
"""Functions and methods, and what is called instead of them."""
_REMOVED_CALLS = {
    "lower",
    "upper",
    "casefold",
    "strip",
    "lstrip",
    "rstrip",
    "removeprefix",
    "removesuffix",
    "replace",
    "translate",
}
"""Methods that make a text another text: the call is taken away."""
_REMOVED_FUNCTIONS = {"reversed", "sorted"}
_LEFT_ALONE = (ast.Import, ast.ImportFrom, ast.Raise, ast.Assert, ast.JoinedStr)
_FIELDS_LEFT_ALONE = {"annotation", "returns", "decorator_list", "bases"}
_NAMES_LEFT_ALONE = {"__all__", "__slots__"}
_TYPES = {"Literal", "dict", "list", "tuple", "Callable"}
_MUCH = 80  # characters


def mutations_of(source: str, filename: str) -> Iterator[Mutation]:
    """Every mutation of `source`, in the order of its lines."""
    tree = ast.parse(source, filename)
    lines = source.splitlines()
    functions = {
        line: node.name
        for node in ast.walk(tree)  # inner ones come after those that they are in
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    for node, parent in sorted(_places(tree, tree), key=lambda one: _line_of(one[0])):
        for other in _alternatives(node, parent):
            whole = parent if isinstance(parent, ast.expr) else None
            before = _words(node, whole)
            _put(parent, node, other)
            try:
                after = _words(other, whole)
                code = compile(ast.fix_missing_locations(tree), filename, "exec", dont_inherit=True)
            finally:
                _put(parent, other, node)
            line = _line_of(node)
            text, change = lines[line - 1].strip(), f"{before} → {after}"
            yield Mutation(line, text, change, functions.get(line, ""), code)


_Node = ast.expr | ast.stmt | ast.ExceptHandler | ast.comprehension


def _line_of(node: _Node) -> int:
    return node.target.lineno if isinstance(node, ast.comprehension) else node.lineno


def _places(node: ast.AST, parent: ast.AST) -> Iterator[tuple[_Node, ast.AST]]:
    """The nodes that may be mutated, each with what it is part of."""
    if isinstance(node, _Node):
        yield node, parent
    if isinstance(node, _LEFT_ALONE) or (
        isinstance(node, ast.FunctionDef) and node.name == "__repr__"
    ):
        return
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) in _TYPES:
        return
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "lru_cache":
        return
    if isinstance(node, ast.Assign) and any(
        isinstance(one, ast.Name) and one.id in _NAMES_LEFT_ALONE for one in node.targets
    ):
        return
    for name, value in ast.iter_fields(node):
        if name not in _FIELDS_LEFT_ALONE:
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _places(child, node)


def _put(parent: ast.AST, old: ast.AST, new: ast.AST) -> None:
    """Put `new` where `old` stands in `parent`."""
    for name, value in ast.iter_fields(parent):
        if value is old:
            setattr(parent, name, new)
        elif isinstance(value, list):
            value[:] = [new if one is old else one for one in value]


def _words(node: ast.AST, parent: ast.expr | None) -> str:
    """The code as people read it, with what is around it where that is not much."""
    if parent is not None and len(text := ast.unparse(parent)) <= _MUCH:
        return text
    return ast.unparse(node).partition("\n")[0]


def _alternatives(node: _Node, parent: ast.AST) -> Iterator[_Node]:
    """What may stand in the place of `node`."""
    if isinstance(node, ast.stmt):
        yield from _statements(node)
    elif isinstance(node, ast.ExceptHandler):
        if not isinstance(node.body[0], ast.Raise):
            yield ast.ExceptHandler(node.type, node.name, [ast.Raise()])
    elif isinstance(node, ast.comprehension):
        for one in node.ifs:
            yield _with(node, ifs=[other for other in node.ifs if other is not one])
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    else:
        yield from _expressions(node, parent)


def _statements(node: ast.stmt) -> Iterator[ast.stmt]:
    if isinstance(node, ast.If | ast.While) and ast.unparse(node.test) != "TYPE_CHECKING":
        for value in (True, False):
            if value and isinstance(node, ast.While):
                continue  # an endless loop, most often
            yield _with(node, test=ast.Constant(value))
    dropped: bool = isinstance(node, ast.Raise | ast.AugAssign | ast.Continue | ast.Break)
    if isinstance(node, ast.Expr):
        dropped = not isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Assign):
        read = {one.id for one in ast.walk(node.value) if isinstance(one, ast.Name)}
        dropped = all(
            one.id in read if isinstance(one, ast.Name) else not isinstance(one, ast.Tuple)
            for one in node.targets
        )
    if dropped:
        yield ast.Pass()
    if (
        isinstance(node, ast.Return)
        and node.value is not None
        and not (isinstance(node.value, ast.Constant) and node.value.value in (None, True, False))
    ):
        yield ast.Return(ast.Constant(None))


def _calls(node: ast.Call) -> Iterator[ast.expr]:
    called = node.func
    if isinstance(called, ast.Attribute):
        if called.attr in _OTHER_NAMES:
            yield _with(node, func=_with(called, attr=_OTHER_NAMES[called.attr]))
        if called.attr in _REMOVED_CALLS:
            yield called.value
    elif isinstance(called, ast.Name):
        if called.id in _OTHER_NAMES:
            yield _with(node, func=ast.Name(_OTHER_NAMES[called.id], ast.Load()))
        if called.id in _REMOVED_FUNCTIONS:
            yield node.args[0]


def _expressions(node: ast.expr, parent: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Compare):
        for number, operator in enumerate(node.ops):
            ops = list(node.ops)
            ops[number] = _COMPARISONS[type(operator)]()
            yield _with(node, ops=ops)
    elif isinstance(node, ast.BoolOp):
        yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        for number in range(len(node.values)):
            rest = node.values[:number] + node.values[number + 1 :]
            yield rest[0] if len(rest) == 1 else _with(node, values=rest)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield node.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        yield _with(node, op=_OPERATORS[type(node.op)]())
    elif isinstance(node, ast.IfExp):
        for value in (True, False):
            yield _with(node, test=ast.Constant(value))
    elif isinstance(node, ast.Tuple | ast.List | ast.Set):
        if isinstance(node, ast.Set) or isinstance(getattr(node, "ctx", None), ast.Load):
            yield from _shorter(node)
    elif isinstance(node, ast.Constant):
        yield from _constants(node, parent)


def _shorter(node: ast.Tuple | ast.List | ast.Set) -> Iterator[ast.expr]:
    """Without one of its texts, where it is a list of texts."""
    if len(node.elts) < 2 or not all(
        isinstance(one, ast.Constant) and isinstance(one.value, str | bytes) for one in node.elts
    ):
        return
    for number in range(len(node.elts)):
        yield _with(node, elts=node.elts[:number] + node.elts[number + 1 :])


def _constants(node: ast.Constant, parent: ast.AST) -> Iterator[ast.expr]:
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int | float):
        yield ast.Constant(value + 1)
        if value > 0:
            yield ast.Constant(value - 1)
    elif isinstance(value, str | bytes) and isinstance(parent, ast.Compare):
        yield ast.Constant(value + "!" if isinstance(value, str) else value + b"!")


_N = TypeVar("_N", bound=_Node)


def _with(node: _N, **fields: object) -> _N:
    """A copy of `node` with other fields."""
    made = copy.copy(node)
    for name, value in fields.items():
        setattr(made, name, value)
    return made
