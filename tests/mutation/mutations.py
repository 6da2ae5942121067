"""The small changes that can be made to a source file, one at a time."""

import ast
from collections.abc import Iterator
from typing import NamedTuple

SWAPS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitOr,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip


SKIPPED = (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom)
NOT_RUN = ("annotation", "returns", "decorator_list", "bases", "pattern")


class Mutation(NamedTuple):
    """A change of a file: the bytes from `start` to `stop` become `text`."""

    line: int
    start: int
    stop: int
    text: str


def mutations_of(source: str) -> list[Mutation]:
    """Return all changes of a file, in the order of its text."""
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for node in _running(ast.parse(source)):
        for changed in _changes(node):
            start = starts[node.lineno - 1] + node.col_offset
            stop = starts[node.end_lineno - 1] + node.end_col_offset
            found.append(
                Mutation(node.lineno, start, stop, f"({ast.unparse(changed)})")
            )
    return sorted(found)


def mutated(source: str, mutation: Mutation) -> str:
    """Return the source with one change."""
    whole = source.encode()
    parts = whole[: mutation.start], mutation.text.encode(), whole[mutation.stop :]
    return b"".join(parts).decode()


def _running(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions that run: no annotation, docstring, import or error message."""
    if isinstance(node, ast.expr):
        yield node
    for name, value in ast.iter_fields(node):
        if name in NOT_RUN:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, SKIPPED):
                yield from _running(child)


def _changes(node: ast.expr) -> Iterator[ast.expr]:
    match node:
        case ast.Compare(left, [operator], rest) if type(operator) in SWAPS:
            yield ast.Compare(left, [SWAPS[type(operator)]()], rest)
        case ast.BinOp(left, operator, right) if type(operator) in SWAPS:
            yield ast.BinOp(left, SWAPS[type(operator)](), right)
        case ast.BoolOp(operator, values):
            yield ast.BoolOp(SWAPS[type(operator)](), values)
        case ast.UnaryOp(ast.Not() | ast.USub() | ast.Invert(), operand):
            yield operand
        case ast.IfExp(test, body, orelse):
            yield ast.IfExp(test, orelse, body)
        case ast.Constant(bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(int() as value):
            yield ast.Constant(value + 1)
        case ast.Constant(float() as value):
            yield ast.Constant(2 * value if value else 1.0)
