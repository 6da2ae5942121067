"""Where marked values occur in a traced program, and on which iterations they depend.

A trace may run a Python body more often than the program does, or less often if it is
cached. So the marks are counted in the program that the trace makes.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jaxtyping import Array, Shaped

MARK = "dropout at "

Loops = frozenset[int]
NONE: Loops = frozenset()


class Occurrence(NamedTuple):
    """One marked value in a program.

    Attributes:
        name: the name that it was marked with.
        enclosing: the loops that enclose it.
        varying: the loops in which each iteration has a value of its own.
        axes: the number of enclosing `vmap`s in which each row has a value of its own.
    """

    name: str
    enclosing: Loops
    varying: Loops
    axes: int


def mark(value: Shaped[Array, ""], name: str) -> None:
    """Leave a mark with this name at a scalar of the program that is traced."""
    checkpoint_name(value, MARK + name)


def occurrences(program: Jaxpr) -> tuple[Occurrence, ...]:
    """Return all marks in a program, in order, those in its inner programs included."""
    return tuple(_walk(program, {}, NONE))


def _walk(program: Jaxpr, varying: dict, enclosing: Loops) -> Iterator[Occurrence]:
    """Yield the marks; fill `varying`, the loops with which each variable varies."""
    for equation in program.eqns:
        inputs = [_of(varying, atom) for atom in equation.invars]
        outputs = [NONE.union(*inputs)] * len(equation.outvars)
        if equation.primitive.name == "name":
            name, scalar = equation.params["name"], cast(Any, equation.invars[0].aval)
            if name.startswith(MARK):
                label = name.removeprefix(MARK)
                yield Occurrence(label, enclosing, outputs[0], scalar.ndim)
        for inner, changing in _inner_programs(equation):
            loop = NONE if changing is None else frozenset({id(equation)})
            inside = _entering(inner, inputs, changing, loop)
            yield from _walk(inner, inside, enclosing | loop)
            if len(inner.outvars) == len(outputs):
                outputs = [_of(inside, atom) - loop for atom in inner.outvars]
        varying.update(zip(equation.outvars, outputs))


def _of(varying: dict, atom: Any) -> Loops:
    if isinstance(atom, Literal) or atom not in varying:
        return NONE
    return varying[atom]


def _inner_programs(equation: Any) -> Iterator[tuple[Jaxpr, set | None]]:
    """Yield the inner programs; of a loop's body, which inputs change in iterations."""
    params = equation.params
    if equation.primitive.name == "while":
        body = params["body_jaxpr"].jaxpr
        yield body, _changing(body, params["body_nconsts"], len(body.outvars))
        return
    for value in params.values():
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, ClosedJaxpr | Jaxpr):
                inner = item.jaxpr if isinstance(item, ClosedJaxpr) else item
                if equation.primitive.name == "scan":
                    yield inner, _changing(inner, *_constants_and_carried(params))
                else:
                    yield inner, None


def _constants_and_carried(scan: dict[str, Any]) -> tuple[int, int]:
    """Return how many inputs of a scan are constants, and how many are carried."""
    if "num_consts" in scan:  # Before JAX 0.12.
        return scan["num_consts"], scan["num_carry"]
    constants, carried, _ = scan["ft_in"].unpack()
    return len(list(constants)), len(list(carried))


def _changing(body: Jaxpr, constants: int, carried: int) -> set:
    """Return the inputs of a loop's body that change from iteration to iteration."""
    inputs = body.invars[constants:]
    # What a body hands on as it came stays what it was before the loop.
    kept = {
        before
        for before, after in zip(inputs[:carried], body.outvars)
        if before is after
    }
    return set(inputs) - kept


def _entering(
    inner: Jaxpr, inputs: list[Loops], changing: set | None, loop: Loops
) -> dict:
    """Return the loops with which the inputs of an inner program vary."""
    # The inputs of a branch, a call or a body are the last ones of their equation.
    entering = zip(reversed(inner.invars), reversed(inputs))
    return {
        variable: varying | loop if changing and variable in changing else varying
        for variable, varying in entering
    }
