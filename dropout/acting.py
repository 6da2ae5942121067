"""What a module that carries a plan does at its sites."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from dropout.carried import (
    ACTED,
    CALLED,
    OWN,
    Carried,
    Notes,
    Sharing,
    below,
    output_site,
)
from dropout.deferred import as_array
from dropout.keys import fold
from dropout.kinds import ACTIVATIONS, identity, kind_of
from dropout.moment import Moment
from dropout.occurrences import mark
from dropout.sites import NO_PARAMETERS, bind

# `(site, activation) -> activation`
ActOn = Callable[[str, Array], Array]


def acts(carried: Carried, site: str) -> bool:
    """Return whether anything is done at a site in this pass."""
    return carried.notes is not None or site in carried.rates


def act(carried: Carried, site: str, x: Array, *others: Any) -> Array:
    """Do at a site what the plan says, or record it; `drop` of one module.

    Args:
        carried: what the module carries.
        site: the site.
        x: what is passed to `drop`.
        *others: what else is passed to it.
    """
    call = carried.counts.next(site) if carried.counts is not None else 0
    if carried.notes is not None:
        noted = others[0] if kind_of(site) == "kernel" else x
        _record(carried, carried.notes, f"{site}#{call}", noted)
    if site not in carried.rates:
        return identity(site, x, *others)
    return _bound(carried, site, call)(site, x, *others)


def act_at_layer(
    carried: Carried,
    site: str,
    x: Array,
    rate: float,
    sharing: Sharing,
) -> Array:
    """Do at a Dropout layer what the plan says, or else what its author wrote.

    Args:
        carried: what the layer carries.
        site: the site of the layer.
        x: what it drops elements of.
        rate: the layer's own rate.
        sharing: the axes along which the layer shares a mask.
    """
    sharing = tuple(axis % x.ndim for axis in sharing)
    if carried.notes is not None:
        carried.notes.layers[site] = (rate, sharing)
    if site not in carried.layers or not sharing:
        return act(carried, site, x)
    shape = [1 if axis in sharing else size for axis, size in enumerate(x.shape)]
    return x * act(carried, site, jnp.ones(shape, x.dtype))


def act_at_kernel(
    carried: Carried,
    x: Array,
    kernel: Array,
    product: Callable[[Array, Array], Array],
    bias: Array | None,
) -> Array:
    """Do at a kernel what the plan says, and add the bias.

    Args:
        carried: what the layer carries.
        x: the input of the layer.
        kernel: its kernel, as variants know it: inputs and outputs are its last axes.
        product: `(x, kernel) -> output` without the bias.
        bias: the bias, of a shape that is broadcast against the output.
    """
    output = act(carried, below(carried.path, "kernel"), x, kernel, product)
    if bias is None:
        return output
    aligned = bias.reshape((1,) * (output.ndim - bias.ndim) + bias.shape)
    return output + aligned.astype(output.dtype)


def act_at_input(inputs: tuple, act_on: ActOn) -> tuple:
    """Return the inputs of a network, the first one replaced by what its site gives."""
    if not inputs or not is_floating(inputs[0]):
        return inputs
    return (act_on("input", inputs[0]), *inputs[1:])


def act_at_output(carried: Carried, output: Any, act_on: ActOn) -> Any:
    """Return the output of a module, its first array replaced by what a site gives.

    Args:
        carried: what the module carries.
        output: what the module returns: an array, or a tuple with one at its start.
        act_on: what is done at the site.
    """
    site = output_site(carried)
    if not acts(carried, site):
        return output
    first: Any = as_array(output[0] if type(output) is tuple and output else output)
    if not _is_activation(site, first):
        return output
    acted = act_on(site, first)
    return (acted, *output[1:]) if type(output) is tuple else acted


def is_floating(x: Any) -> bool:
    """Return whether `x` is an array of floating numbers."""
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.floating)


def _is_activation(site: str, x: Any) -> bool:
    # The output of the whole network is not a site: it has no path. A module that is
    # called "kernel" has no site either: the name is taken by another kind.
    return bool(site) and kind_of(site) in ACTIVATIONS and is_floating(x) and x.ndim > 0


def _bound(carried: Carried, site: str, call: int) -> Callable[..., Array]:
    """The `drop` of one call of a site."""
    row = next(row for row in carried.rows if row.site == site)
    rate = carried.rates[site]
    params = {site: rate} if isinstance(rate, Mapping) else NO_PARAMETERS
    if not isinstance(rate, Mapping):
        row = row._replace(rate=rate)
    elif "rate" in rate:
        row = row._replace(rate=rate["rate"])
    if carried.key is None:
        return bind((row,), None, carried.mode, carried.bits, params)
    key, run = jax.tree.map(
        lambda key: _key_of_call(carried, key, site, call), (carried.key, carried.run)
    )
    examples, epoch, step, draw = carried.moment
    moment = Moment(key, examples, epoch=epoch, step=step, draw=draw, run=run)
    return bind((row,), moment, carried.mode, carried.bits, params)


def _key_of_call(
    carried: Carried, key: Key[Array, "..."], site: str, call: int
) -> Key[Array, ""]:
    if site in carried.numbered:
        key = fold(key, call)
    return _with_caller(key, carried.caller) if site in carried.called else key


def _with_caller(key: Key[Array, ""], caller: Any) -> Key[Array, ""]:
    return fold(key, jax.random.bits(caller, (), jnp.uint32))


def _record(carried: Carried, notes: Notes, name: str, value: Array) -> None:
    site = name.rpartition("#")[0]
    notes.shapes[site], notes.owners[site] = value.shape, carried.path
    acted = jnp.sum(value)
    if carried.key is None:
        return mark(acted, f"{ACTED} {name}")
    if carried.key.shape:
        notes.outside.add(site)
    own = _scalar(carried.key)
    # The key is added so that the mark has its axes: a value that depends on no input
    # lacks the axis of the examples.
    mark(acted + own.astype(acted.dtype), f"{ACTED} {name}")
    mark(own, f"{OWN} {name}")
    if carried.caller is not None:
        mark(_scalar(_with_caller(carried.key, carried.caller)), f"{CALLED} {name}")


def _scalar(key: Key[Array, "..."]) -> Array:
    return jnp.sum(jax.random.key_data(key))
