"""The sites of a network, recorded from one abstract forward pass."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Jaxpr
from jaxtyping import Array

from dropout.grammar import suggest
from dropout.kinds import identity, kind_of
from dropout.sites import Drop

MARK = "dropout site "
LOOPS = ("scan", "while")


class Site(NamedTuple):
    """One site of a network, as a forward pass calls it.

    Attributes:
        name: the name that the model calls it by.
        shape: the shape of the kernel at a kernel site, else of the activation.
        reader: the kernel site that reads the activation, "" if none does; a kernel
            site is its own reader.
    """

    name: str
    shape: tuple[int, ...]
    reader: str


def record_sites(call: Callable[[Drop], Any]) -> tuple[Site, ...]:
    """Return the sites that `call(drop)` calls, in the order of their calls.

    The call is traced abstractly, with the plain network at every site; nothing is
    computed.

    Args:
        call: one forward pass of a model with the given `drop`.

    Raises:
        ValueError: a site that is called twice in one pass, a reader that is not a
            kernel site of the pass, or a site inside a loop that does not pass the
            `time`, so that all its iterations would share their masks.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    readers: dict[str, str] = {}
    times: dict[str, bool] = {}

    def record(
        site: str, x: Array, *others: Any, time: Any = None, reader: str = ""
    ) -> Array:
        shapes[site] = (others[0] if kind_of(site) == "kernel" else x).shape
        readers[site], times[site] = reader, time is not None
        return checkpoint_name(identity(site, x, *others), MARK + site)

    def traced() -> None:
        call(record)

    # A body may be traced more often than it runs, and a compiled function less often:
    # what counts is how often a site occurs in the program that results.
    found = tuple(_marked(jax.make_jaxpr(traced)().jaxpr, False))
    names = tuple(name for name, _ in found)
    for position, name in enumerate(names):
        if name in names[:position]:
            raise ValueError(
                f"site {name!r} is called twice in one pass; expected another name "
                "for each call."
            )
    for name, in_loop in found:
        if in_loop and not times[name]:
            raise ValueError(
                f"site {name!r} is called in a loop without its time; expected "
                f"drop({name!r}, x, ..., time=t), or all iterations share their masks."
            )
    return tuple(
        Site(name, shapes[name], _reader(readers[name], names, position))
        for position, name in enumerate(names)
    )


def _reader(named: str, names: tuple[str, ...], position: int) -> str:
    """The kernel site that reads a site: the named one, else the next to be called."""
    kernels = [name for name in names if kind_of(name) == "kernel"]
    if named and named not in kernels:
        raise ValueError(
            f"site {names[position]!r} names the reader {named!r}, which is no kernel "
            f"site of the network{suggest(named, kernels)}."
        )
    later = (name for name in names[position:] if kind_of(name) == "kernel")
    return named or next(later, "")


def _marked(program: Jaxpr, in_loop: bool) -> Iterator[tuple[str, bool]]:
    """The sites that occur in a program and its inner ones, and whether in a loop."""
    for equation in program.eqns:
        primitive = equation.primitive.name
        if primitive == "name":
            name = equation.params["name"]
            if name.startswith(MARK):
                yield name.removeprefix(MARK), in_loop
        for value in equation.params.values():
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, ClosedJaxpr | Jaxpr):
                    yield from _marked(
                        item.jaxpr if isinstance(item, ClosedJaxpr) else item,
                        in_loop or primitive in LOOPS,
                    )
