"""The largest of four places, and ReLU of it, whose derivatives keep little."""

import jax
import jax.numpy as jnp
from jax.lax import optimization_barrier as materialize
from jaxtyping import Array, Int8

from models.convolution.products import Images


@jax.custom_vjp
def largest(values: list[Images]) -> Images:
    """The elementwise maximum; the gradient flows to the first of those that tie.

    Keeps which one won, in a byte: the gradient of `reduce_window` takes half the step.
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
    """ReLU, whose gradient asks its output: what is pooled is then never written."""
    return materialize(jax.nn.relu(x))


def _rectified_forward(x: Images) -> tuple[Images, Images]:
    y = rectified(x)
    return y, y


def _rectified_backward(y: Images, cotangent: Images) -> tuple[Images]:
    return (jnp.where(y > 0, cotangent, 0),)


rectified.defvjp(_rectified_forward, _rectified_backward)
