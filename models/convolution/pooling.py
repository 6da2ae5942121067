"""The maximum over windows, and its ReLU, with derivatives that store little."""

import jax
import jax.numpy as jnp
from jax.lax import optimization_barrier as materialize
from jaxtyping import Array, Int8

from models.convolution.products import Images


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
def rectified(x: Images) -> Images:
    """Return ReLU, whose gradient reads the output, so that `x` is never written."""
    return materialize(jax.nn.relu(x))


def _rectified_forward(x: Images) -> tuple[Images, Images]:
    y = rectified(x)
    return y, y


def _rectified_backward(y: Images, cotangent: Images) -> tuple[Images]:
    return (jnp.where(y > 0, cotangent, 0),)


rectified.defvjp(_rectified_forward, _rectified_backward)
