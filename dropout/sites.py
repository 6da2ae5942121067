"""Named sites: what a model passes to `drop`, and what a plan makes of it there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Integer

from dropout.arrays import Rate
from dropout.deferred import Deferred, as_array, reading
from dropout.grammar import suggest
from dropout.keys import check_key, fold
from dropout.kinds import TakesDeferred, identity, kind_of
from dropout.meshes import with_automatic_axes
from dropout.moment import Generator, Moment, generator_of, mask_numbers, site_keys
from dropout.rows import Row, Rows, check_rates
from dropout.variants import VARIANTS, Variant
from dropout.variants.entry import Parameters

Drop = Callable[..., Array]
Mode = Literal["train", "eval", "scaling", "mc", "shared_mc", "gaussian"]

AT_TEST = ("eval", "scaling")
NO_PARAMETERS: Mapping[str, Parameters] = MappingProxyType({})


def bind(
    rows: tuple[Row, ...],
    moment: Moment | None,
    mode: Mode = "train",
    bits: Generator = "hash",
    params: Mapping[str, Parameters] = NO_PARAMETERS,
) -> "Bound":
    """Make the `drop` that a model is called with from the rows of a plan.

    A site without a row gets the plain network, and no key is made for it. A layer that
    calls `drop` inside a scan passes the `time`: a variant that draws per step then has
    a mask for each step, and one that draws per sequence has one mask for all steps.

    Args:
        rows: the resolved plan, at the rates of the step (`rows_at`); a tuple of rows
            that does not know its sites lets `drop` be called by any name.
        moment: the pass for which masks are drawn; None is enough for `eval` and
            `scaling`.
        mode: `train` and `mc` draw a mask for each example, `shared_mc` draws one
            network for all of them; `gaussian` is `mc`, but draws the products at
            kernel sites from a Gaussian with their moments, where the variant knows
            them. `eval` follows each variant's form at test, `scaling` its weight
            scaling.
        bits: the counter hash, or JAX's own generator.
        params: the parameters of learned variants, by site; without them a learned
            variant acts with the parameters that give the row's rate. For a variant
            that needs it, `{"start": kernel}`, the kernel before the first step.

    Raises:
        ValueError: an unknown mode or generator, no moment in a mode that draws, a key
            that is not typed, or a rate outside its domain; from `drop`, a name that is
            not among the sites of the rows.
    """
    check_bind(rows, moment, mode, bits, params)
    by_site = {row.site: row for row in rows}

    def drop(
        site: str,
        x: Array | Deferred,
        *others: Any,
        time: Integer[Array, ""] | int | None = None,
        reader: str = "",
    ) -> Any:
        if site not in by_site:
            check_site(site, rows)
            return identity(site, x, *others)
        row = by_site[site]
        arrays = tuple(item for item in others if not callable(item))
        functions = others[len(arrays) :]
        given = params[site] if site in params else {}
        start = given["start"] if "start" in given else None
        rate = row.rate if start is not None or not given else given

        def draw_or_evaluate(arguments: tuple) -> Array | Deferred:
            moment, rate, time, start, x, arrays = arguments
            passed = (site, x, rate, *arrays, *functions)
            if moment is None or mode in AT_TEST:
                return _evaluate(row, mode, *passed)
            return _draw(row, moment, mode, bits, time, start, *passed)

        def plain(arguments: tuple) -> Array | Deferred:
            *_, x, arrays = arguments
            return identity(site, x, *arrays, *functions)

        arguments = (moment, rate, time, start, x, arrays)
        try:
            return with_automatic_axes(draw_or_evaluate, plain, arguments)
        except ValueError as error:
            raise ValueError(f"{row.variant} at {site!r}: {error}") from error

    return Bound(drop, rows, moment, mode, bits, params)


@dataclass(frozen=True, eq=False)
class Bound(TakesDeferred):
    """The `drop` that `bind` makes, with the arguments that it was made from.

    A network that takes no `drop`, to which the plan is attached, reads those.
    """

    rows: tuple[Row, ...]
    moment: Moment | None
    mode: Mode
    bits: Generator
    params: Mapping[str, Parameters]


def check_bind(
    rows: tuple[Row, ...],
    moment: Moment | None,
    mode: str,
    bits: str,
    params: Mapping[str, Parameters],
) -> None:
    """Raise ValueError for arguments of `bind` that it does not take."""
    for name, value, allowed in (("mode", mode, Mode), ("bits", bits, Generator)):
        if value not in get_args(allowed):
            choices = ", ".join(map(repr, get_args(allowed)))
            raise ValueError(f"bind({name}={value!r}): expected one of {choices}.")
    if rows and moment is None and mode not in AT_TEST:
        raise ValueError(
            f"bind(moment=None, mode={mode!r}): expected a Moment, from which the "
            f"masks at {rows[0].site!r} are drawn, or mode 'eval' or 'scaling'."
        )
    if moment is not None:
        check_key(moment.key)
        _check_run(rows, moment, mode)
    if mode not in AT_TEST:
        _check_starts(rows, params)
    check_rates(row for row in rows if not _is_learned(row, params))


def _check_run(rows: tuple[Row, ...], moment: Moment, mode: str) -> None:
    fixed = [row.site for row in rows if row.unit == "run"]
    if fixed and moment.run is None and mode not in AT_TEST:
        raise ValueError(
            f"Moment(run=None): expected the key of the run, from which the masks at "
            f"{fixed[0]!r} are drawn."
        )
    if moment.run is not None:
        check_key(moment.run)


def _check_starts(rows: tuple[Row, ...], params: Mapping[str, Parameters]) -> None:
    for row in rows:
        needs = VARIANTS[row.variant.name].needs_start
        if needs and (row.site not in params or "start" not in params[row.site]):
            raise ValueError(
                f"{row.variant} at {row.site!r}: expected the kernel before the first "
                f"step, bind(..., params={{{row.site!r}: {{'start': kernel}}}})."
            )


def _is_learned(row: Row, params: Mapping[str, Parameters]) -> bool:
    """Whether parameters take the place of a row's rate."""
    return row.site in params and not VARIANTS[row.variant.name].needs_start


def check_site(site: str, rows: tuple[Row, ...]) -> None:
    """Raise ValueError for a site that is not among those that the rows know of."""
    if isinstance(rows, Rows) and site not in rows.sites:
        raise ValueError(
            f"site {site!r} is none of the plan's{suggest(site, rows.sites)}."
        )


def _draws_copies(variant: Variant, site: str) -> bool:
    return kind_of(site) == "kernel" and variant.kernel_form == "copies"


def _evaluate(
    row: Row,
    mode: str,
    site: str,
    x: Array | Deferred,
    rate: Rate | Parameters,
    *others: Any,
) -> Array | Deferred:
    variant, options = VARIANTS[row.variant.name], dict(row.variant.options)
    scaled = mode == "scaling" and variant.scaling is not None
    evaluate = variant.scaling if scaled else variant.evaluate
    if evaluate is None:
        return identity(site, x, *others)
    x, others = as_array(x), _with_arrays(site, others)
    variant.check_array(x)
    if not isinstance(rate, Mapping):
        rate = variant.parameters(rate, x, *others, **options)
    return evaluate(x, rate, *others, **options)


def _draw(
    row: Row,
    moment: Moment,
    mode: str,
    bits: Generator,
    time: Integer[Array, ""] | int | None,
    start: Array | None,
    site: str,
    x: Array | Deferred,
    rate: Rate | Parameters,
    *others: Any,
) -> Array | Deferred:
    """The draw of a row: of copies of the kernel, of moments, or of x itself."""
    variant, options = VARIANTS[row.variant.name], dict(row.variant.options)
    if mode == "gaussian" and kind_of(site) == "kernel" and variant.moment_matched:
        keys = site_keys(moment, site, "example", row.unit, x.shape[0])
        others = _with_arrays(site, others)
        return variant.moment_matched(generator_of(keys, bits), x, rate, *others)
    copies = _draws_copies(variant, site)
    count = 1 if copies and row.unit != "example" else x.shape[0]
    sharing = "batch" if mode == "shared_mc" else row.unit
    keys = site_keys(moment, site, sharing, row.unit, count)
    if time is not None and variant.per == "step":
        keys = fold(keys, time)
    source = generator_of(keys, bits)
    if variant.needs_number:
        others = (mask_numbers(moment, mode), *others)
    if not copies:
        return variant(source, x, rate, *_with_arrays(site, others), **options)
    kernel, operation = others
    kernels = jnp.broadcast_to(kernel, (count, *kernel.shape))
    given = () if start is None else (start,)
    return _rowwise(
        operation, as_array(x), variant(source, kernels, rate, *given, **options)
    )


def _with_arrays(site: str, others: tuple) -> tuple:
    """Return what a site passes beside x, so that its operation gives arrays."""
    if kind_of(site) != "kernel":
        return others
    kernel, operation = others
    return kernel, reading(operation)


def _rowwise(
    operation: Callable[[Array, Array], Any], x: Array, kernels: Array
) -> Array | Deferred:
    """The product of x with one kernel, or of each row with its own."""

    def product(row_and_kernel: tuple[Array, Array]) -> Array:
        row, kernel = row_and_kernel
        return operation(row[None], kernel)[0]

    if kernels.shape[0] == 1:
        return operation(x, kernels[0])
    operation = reading(operation)
    # XLA convolves with a kernel per row in groups, whose number is no symbol.
    if not isinstance(x.shape[0], int):
        return jax.lax.map(product, (x, kernels))
    return jax.vmap(product)((x, kernels))
