"""Named sites: what a model passes to `drop`, and what a plan makes of it there."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Jaxpr
from jaxtyping import Array, Integer, Key

from dropout.grammar import suggest
from dropout.keys import AnyKey, JaxBits, example_keys, fold, named_key
from dropout.kinds import identity, kind_of
from dropout.noise import Rate
from dropout.plan import Row
from dropout.variants import VARIANTS, Variant
from dropout.variants.entry import Parameters

Drop = Callable[..., Array]
Mode = Literal["train", "eval", "scaling", "mc", "shared_mc", "gaussian"]
Generator = Literal["hash", "jax"]

AT_TEST = ("eval", "scaling")
NO_PARAMETERS: Mapping[str, Parameters] = MappingProxyType({})
MARK = "dropout site "


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


@dataclass(frozen=True)
class Moment:
    """The pass for which masks are drawn: its examples, epoch, step and draw.

    Attributes:
        key: the key of the data split.
        examples: the row of each example in its source split.
        epoch: part of the keys of masks that belong to an example.
        step: part of the keys of masks that belong to a batch.
        draw: 0 in training, 1, 2, ... for further passes.
    """

    key: Key[Array, ""]
    examples: Integer[Array, " n"]
    epoch: Integer[Array, ""] | int = 0
    step: Integer[Array, ""] | int = 0
    draw: Integer[Array, ""] | int = 0


def bind(
    rows: tuple[Row, ...],
    moment: Moment | None,
    mode: Mode = "train",
    bits: Generator = "hash",
    params: Mapping[str, Parameters] = NO_PARAMETERS,
) -> Drop:
    """Make the `drop` that a model is called with from the rows of a plan.

    A site without a row gets the plain network, and no key is made for it. A layer that
    calls `drop` inside a scan passes the `time`: a variant that draws per step then has
    a mask for each step, and one that draws per sequence has one mask for all steps.

    Args:
        rows: the resolved plan, at the rates of the step (`rows_at`).
        moment: the pass for which masks are drawn; None is enough for `eval` and
            `scaling`.
        mode: `train` and `mc` draw a mask for each example, `shared_mc` draws one
            network for all of them; `gaussian` is `mc`, but draws the products at
            kernel sites from a Gaussian with their moments, where the variant knows
            them. `eval` follows each variant's rule at test, `scaling` its weight
            scaling.
        bits: the counter hash, or JAX's own generator.
        params: the parameters of learned variants, by site; without them a learned
            variant acts with the parameters that give the row's rate.

    Raises:
        ValueError: an unknown mode or generator, or no moment in a mode that draws.
    """
    _check_bind(rows, moment, mode, bits)
    by_site = {row.site: row for row in rows}

    def drop(
        site: str,
        x: Array,
        *others: Any,
        time: Integer[Array, ""] | int | None = None,
        reader: str = "",
    ) -> Array:
        if site not in by_site:
            return identity(site, x, *others)
        row = by_site[site]
        rate = params[site] if site in params else row.rate
        variant, options = VARIANTS[row.variant.name], dict(row.variant.options)
        if moment is None or mode in AT_TEST:
            return _evaluate(variant, options, mode, site, x, rate, *others)
        if mode == "gaussian" and kind_of(site) == "kernel" and variant.moment_matched:
            keys = _site_keys(moment, site, "example", row.unit, x.shape[0])
            source = JaxBits(keys) if bits == "jax" else keys
            return variant.moment_matched(source, x, rate, *others)
        once = _draws_copies(variant, site) and row.unit == "batch"
        count = 1 if once else x.shape[0]
        unit = "batch" if mode == "shared_mc" else row.unit
        keys = _site_keys(moment, site, unit, row.unit, count)
        if time is not None and variant.per == "step":
            keys = fold(keys, time)
        source = JaxBits(keys) if bits == "jax" else keys
        try:
            return _draw(variant, options, source, count, site, x, rate, *others)
        except ValueError as error:
            raise ValueError(f"{row.variant} at {site!r}: {error}") from error

    return drop


def record_sites(call: Callable[[Drop], Any]) -> tuple[Site, ...]:
    """Return the sites that `call(drop)` calls, in the order of their calls.

    The call is traced abstractly, with the plain network at every site; nothing is
    computed.

    Args:
        call: one forward pass of a model with the given `drop`.

    Raises:
        ValueError: a site that is called twice in one pass, or a reader that is not a
            kernel site of the pass.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    readers: dict[str, str] = {}

    def record(
        site: str, x: Array, *others: Any, time: Any = None, reader: str = ""
    ) -> Array:
        shapes[site] = (others[0] if kind_of(site) == "kernel" else x).shape
        readers[site] = reader
        return checkpoint_name(identity(site, x, *others), MARK + site)

    def traced() -> None:
        call(record)

    # A body may be traced more often than it runs, and a compiled function less often:
    # what counts is how often a site occurs in the program that results.
    names = tuple(_marked(jax.make_jaxpr(traced)().jaxpr))
    for position, name in enumerate(names):
        if name in names[:position]:
            raise ValueError(
                f"site {name!r} is called twice in one pass; expected another name "
                "for each call."
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


def _marked(program: Jaxpr) -> Iterator[str]:
    """The sites that occur in a program, those in its inner programs included."""
    for equation in program.eqns:
        if equation.primitive.name == "name":
            name = equation.params["name"]
            if name.startswith(MARK):
                yield name.removeprefix(MARK)
        for value in equation.params.values():
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, ClosedJaxpr | Jaxpr):
                    yield from _marked(
                        item.jaxpr if isinstance(item, ClosedJaxpr) else item
                    )


def _check_bind(
    rows: tuple[Row, ...], moment: Moment | None, mode: str, bits: str
) -> None:
    for name, value, allowed in (("mode", mode, Mode), ("bits", bits, Generator)):
        if value not in get_args(allowed):
            choices = ", ".join(map(repr, get_args(allowed)))
            raise ValueError(f"bind({name}={value!r}): expected one of {choices}.")
    if rows and moment is None and mode not in AT_TEST:
        raise ValueError(
            f"bind(moment=None, mode={mode!r}): expected a Moment, from which the "
            f"masks at {rows[0].site!r} are drawn, or mode 'eval' or 'scaling'."
        )


def _site_keys(
    moment: Moment, site: str, sharing: str, unit: str, rows: int
) -> Key[Array, " n"]:
    """One key per row: split -> epoch or step -> draw -> site -> example."""
    key = fold(moment.key, moment.epoch if unit == "example" else moment.step)
    key = named_key(fold(key, moment.draw), site)
    if sharing == "batch":
        return jnp.broadcast_to(key, (rows,))
    return example_keys(key, moment.examples)


def _draws_copies(variant: Variant, site: str) -> bool:
    return kind_of(site) == "kernel" and variant.kernel_form == "copies"


def _evaluate(
    variant: Variant,
    options: dict,
    mode: str,
    site: str,
    x: Array,
    rate: Rate | Parameters,
    *others: Any,
) -> Array:
    scaled = mode == "scaling" and variant.scaling is not None
    evaluate = variant.scaling if scaled else variant.evaluate
    if evaluate is None:
        return identity(site, x, *others)
    if not isinstance(rate, Mapping):
        rate = variant.parameters(rate, x, *others, **options)
    return evaluate(x, rate, *others, **options)


def _draw(
    variant: Variant,
    options: dict,
    keys: AnyKey,
    count: int,
    site: str,
    x: Array,
    rate: Rate | Parameters,
    *others: Any,
) -> Array:
    if not _draws_copies(variant, site):
        return variant(keys, x, rate, *others, **options)
    kernel, operation = others
    copies = jnp.broadcast_to(kernel, (count, *kernel.shape))
    kernels = variant(keys, copies, rate, **options)
    if count == 1:
        return operation(x, kernels[0])
    rowwise = jax.vmap(lambda row, its_kernel: operation(row[None], its_kernel)[0])
    return rowwise(x, kernels)
