"""The maximum over windows, and its ReLU, with derivatives that store little."""

import operator
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import optimization_barrier as materialize
from jaxtyping import Array, Bool, Float, Int8, UInt8

from dropout.noise import scale
from models.convolution.products import Images

KeptBits = UInt8[Array, "..."]  # A bit for each of the four positions in a window.
Bias = Float[Array, "1 1 1 channels"]
DROPPED = 4  # The index of the winner in a window whose largest value is dropped.


@jax.custom_vjp
def largest(values: list[Images]) -> Images:
    """Return the elementwise maximum; among ties, the first value gets the gradient.

    The backward pass keeps the winner's index in a byte. The gradient of
    `reduce_window` would take half of the step (`scripts/bench.py --parts=steps
    --models=cnn`).
    """
    return _winner(values)[0]


def _winner(values: list[Images]) -> tuple[Images, Int8[Array, "n h w c"]]:
    best, which = values[0], jnp.zeros(values[0].shape, jnp.int8)
    for number, value in enumerate(values[1:], 1):
        which = jnp.where(value > best, jnp.int8(number), which)
        best = jnp.maximum(best, value)
    return best, materialize(which)


def _pass_to_winner(which: Int8[Array, "n h w c"], cotangent: Images) -> tuple:
    return ([jnp.where(which == number, cotangent, 0) for number in range(4)],)


largest.defvjp(_winner, _pass_to_winner)


@jax.custom_vjp
def largest_kept(values: list[Images], kept: KeptBits, floor: Bias) -> Images:
    """Return `largest` of the values where they are kept, and of the floor elsewhere.

    The winner's index tells whether it was kept, so that the backward pass needs no
    mask: where it was not, the gradient goes to the floor.
    """
    return _kept_winner(values, kept, floor)[0]


def _kept_winner(
    values: list[Images], kept_bits: KeptBits, floor: Bias
) -> tuple[Images, Int8[Array, "n h w c"]]:
    kept = [kept_bits & (1 << number) != 0 for number in range(4)]
    candidates = [jnp.where(*pair, floor) for pair in zip(kept, values)]
    numbers = [jnp.where(each, jnp.int8(k), DROPPED) for k, each in enumerate(kept)]
    best, which = candidates[0], numbers[0]
    for value, number in zip(candidates[1:], numbers[1:]):
        which = jnp.where(value > best, number, which)
        best = jnp.maximum(best, value)
    return best, materialize(jnp.broadcast_to(which, best.shape))


def _pass_to_kept(which: Int8[Array, "n h w c"], cotangent: Images) -> tuple:
    # Otherwise each loop over the kernel's taps would scale the cotangent anew.
    cotangent = materialize(cotangent)
    *to_values, to_floor = [jnp.where(which == k, cotangent, 0) for k in range(5)]
    return to_values, None, to_floor.sum((0, 1, 2), keepdims=True)


largest_kept.defvjp(_kept_winner, _pass_to_kept)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def largest_noisy(
    factors: Callable[[Any], list[Array]],
    rectifies: bool,
    values: list[Images],
    bias: Bias,
    drawn: Any,
) -> Images:
    """Return `largest` of the values plus a bias, maybe rectified, times factors.

    The backward pass draws the factors again, and reads no more than the result and the
    winner's index.

    Args:
        factors: a function of `drawn`, of which no derivative is taken.
        rectifies: whether ReLU is applied before the product.
        values: the values to compare.
        bias: the bias of each channel.
        drawn: what the factors are drawn from.
    """
    return _noisy_winner(factors, rectifies, values, bias, drawn)[0]


def _noisy_winner(
    factors: Callable, rectifies: bool, values: list[Images], bias: Bias, drawn: Any
) -> tuple[Images, tuple]:
    before = [value + bias for value in values]
    if rectifies:
        before = [jnp.maximum(value, 0) for value in before]
    noisy = [scale(*pair) for pair in zip(before, factors(drawn))]
    best, which = _winner(noisy)
    best = materialize(best)
    return best, (best, which, drawn, bias)


def _pass_to_noisy(
    factors: Callable, rectifies: bool, residuals: tuple, cotangent: Images
) -> tuple:
    best, which, drawn, bias = residuals
    factor, *others = factors(drawn)
    for number, other in enumerate(others, 1):
        factor = jnp.where(which == number, other, factor)
    error = scale(cotangent, factor)
    if rectifies:
        # The sign of what the winner was before the product.
        error = jnp.where(jnp.sign(best) * jnp.sign(factor) > 0, error, 0)
    error = materialize(error)
    to_values = [jnp.where(which == number, error, 0) for number in range(4)]
    axes = tuple(axis for axis in range(4) if bias.shape[axis] == 1)
    return to_values, error.sum(axes, keepdims=True), None


largest_noisy.defvjp(_noisy_winner, _pass_to_noisy)


def packed(kept: list[Bool[Array, "..."]]) -> KeptBits:
    """Return what is kept at the four positions as the bits of a byte.

    XLA computes the largest value and its index in two loops, and each would draw the
    mask, which takes longer than to write a byte for each window.
    """
    bits = [each.astype(jnp.uint8) << number for number, each in enumerate(kept)]
    return materialize(reduce(operator.or_, bits))


def at_corners(values: Array, shape: tuple[int, ...]) -> list[Array]:
    """Return the values at each of the four positions in the 2x2 windows of a map.

    Args:
        values: what broadcasts to the map, such as noise; no gradient flows to it.
        shape: the shape of the map, whose last row or column belongs to no window if
            there is an odd number of them.
    """
    values = values.reshape((1,) * (len(shape) - values.ndim) + values.shape)
    found = []
    for offset in np.ndindex(2, 2):
        rows, columns = (
            slice(None) if values.shape[axis] == 1 else slice(start, size // 2 * 2, 2)
            for axis, start, size in zip((1, 2), offset, shape[1:3])
        )
        found.append(values[:, rows, columns])
    return found


@jax.custom_vjp
def rectified(x: Images) -> Images:
    """Return ReLU, whose gradient reads the output, so that `x` is never written."""
    return materialize(jax.nn.relu(x))


def _rectified_forward(x: Images) -> tuple[Images, Images]:
    y = rectified(x)
    return y, y


def _rectified_backward(y: Images, cotangent: Images) -> tuple[Images]:
    return (jnp.where(y > 0, cotangent, 0),)


rectified.defvjp(_rectified_forward, _rectified_backward)
