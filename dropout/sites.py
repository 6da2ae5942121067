"""Named sites: what a model passes to `drop`, and what a plan makes of it there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Integer, Key

from dropout.keys import JaxBits, example_keys, fold, named_key
from dropout.kinds import identity, kind_of
from dropout.noise import Rate
from dropout.plan import Row
from dropout.variants import VARIANTS, Variant
from dropout.variants.entry import Parameters

Drop = Callable[..., Array]
Mode = Literal["train", "eval", "scaling", "mc", "shared_mc", "gaussian"]
Generator = Literal["hash", "jax"]
Time = Integer[Array, ""] | int

NO_PARAMETERS: Mapping[str, Parameters] = MappingProxyType({})


@dataclass(frozen=True)
class Moment:
    """Which masks: those of these examples, in this epoch, step and draw.

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
    rates: Mapping[str, Rate],
    moment: Moment | None,
    mode: Mode = "train",
    bits: Generator = "hash",
    params: Mapping[str, Parameters] = NO_PARAMETERS,
) -> Drop:
    """The `drop` that a model is called with: a plan's rows at their rates.

    A site without a row gets the plain network, and no key is made for it. A layer that
    calls `drop` inside a scan passes the `time`: a variant that draws per step then has
    a mask for each, one that draws per sequence the same for all.

    Args:
        rows: the resolved plan.
        rates: the rate at each row's site; may be traced.
        moment: which masks; not needed for `eval` and `scaling`.
        mode: `train` and `mc` draw a mask for each example, `shared_mc` one network
            for all of them; `gaussian` is `mc` with products at kernel sites drawn
            from a Gaussian of their moments, where the variant knows it. `eval` takes
            each variant's rule at test, `scaling` its weight scaling.
        bits: the counter hash, or JAX's own generator.
        params: the parameters at each site whose variant is learned, which stand there
            for the rate; without them it acts with those that it starts with.
    """
    by_site = {row.site: row for row in rows}

    def drop(site: str, x: Array, *others: Any, time: Time | None = None) -> Array:
        if site not in by_site:
            return identity(site, x, *others)
        row = by_site[site]
        rate = params[site] if site in params else rates[site]
        variant, options = VARIANTS[row.variant.name], dict(row.variant.options)
        if mode == "eval" or mode == "scaling":
            return _evaluate(variant, options, mode, site, x, rate, *others)
        assert moment is not None
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
            return _draw(variant, options, source, site, x, rate, *others)
        except ValueError as error:
            raise ValueError(f"{row.variant} at {site!r}: {error}") from error

    return drop


def _site_keys(
    moment: Moment, site: str, sharing: str, unit: str, rows: int
) -> Key[Array, " n"]:
    """One key a row: split -> epoch or step -> draw -> site -> example."""
    key = fold(moment.key, moment.epoch if unit == "example" else moment.step)
    key = named_key(fold(key, moment.draw), site)
    if sharing == "batch":
        return jnp.broadcast_to(key, (rows,))
    return example_keys(key, moment.examples)


def _draws_copies(variant: Variant, site: str) -> bool:
    return kind_of(site) == "kernel" and variant.kernel_form == "copies"


def _evaluate(
    variant: Variant, options: dict, mode: Mode, site: str, x, rate, *others
) -> Array:
    rule = (
        variant.scaling if mode == "scaling" and variant.scaling else variant.evaluate
    )
    if rule is None:
        return identity(site, x, *others)
    if not isinstance(rate, Mapping):
        rate = variant.parameters(rate, x, *others, **options)
    return rule(x, rate, *others, **options)


def _draw(variant: Variant, options: dict, keys, site: str, x, rate, *others) -> Array:
    if not _draws_copies(variant, site):
        return variant(keys, x, rate, *others, **options)
    kernel, operation = others
    copies = jnp.broadcast_to(kernel, (keys.shape[0], *kernel.shape))
    kernels = variant(keys, copies, rate, **options)
    if keys.shape[0] == 1:
        return operation(x, kernels[0])
    rowwise = jax.vmap(lambda row, its_kernel: operation(row[None], its_kernel)[0])
    return rowwise(x, kernels)
