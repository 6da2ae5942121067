"""The pass for which masks are drawn, and the keys of its masks at a site."""

from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Integer, Key

from dropout.keys import AnyKey, JaxBits, example_keys, fold, named_key

Generator = Literal["hash", "jax"]


class Moment(NamedTuple):
    """The pass for which masks are drawn: its examples, epoch, step and draw.

    It is a pytree, and may be an argument of a function under `jit` or `vmap`.

    Attributes:
        key: the key of the data split.
        examples: the row of each example in its source split.
        epoch: part of the keys of masks that belong to an example.
        step: part of the keys of masks that belong to a batch.
        draw: 0 in training, 1, 2, ... for further passes.
        run: the key of masks that are fixed for a whole run, the same in every split.
    """

    key: Key[Array, ""]
    examples: Integer[Array, " n"]
    epoch: Integer[Array, ""] | int
    step: Integer[Array, ""] | int
    draw: Integer[Array, ""] | int = 0
    run: Key[Array, ""] | None = None


def site_keys(
    moment: Moment, site: str, sharing: str, unit: str, rows: int
) -> Key[Array, " n"]:
    """Return one key per row: split -> epoch or step -> draw -> site -> example.

    Masks of the unit `run` have run -> site, the same in every split and pass.
    """
    if unit == "run" and moment.run is not None:
        return jnp.broadcast_to(named_key(moment.run, site), (rows,))
    key = fold(moment.key, moment.epoch if unit == "example" else moment.step)
    key = named_key(fold(key, moment.draw), site)
    if sharing == "batch":
        return jnp.broadcast_to(key, (rows,))
    return example_keys(key, moment.examples)


def mask_numbers(moment: Moment, mode: str) -> Integer[Array, " n"]:
    """Return which of a run's masks each row gets.

    At test that is the draw's number; in training it follows the example, which meets
    another mask in each epoch, so that every mask sees all examples.
    """
    draw = jnp.asarray(moment.draw, jnp.int32)
    if mode != "train":
        return jnp.broadcast_to(draw, moment.examples.shape)
    return (
        moment.examples.astype(jnp.int32) + jnp.asarray(moment.epoch, jnp.int32) + draw
    )


def generator_of(keys: Key[Array, " n"], bits: Generator) -> AnyKey:
    """Return the keys as they are, which a hash draws from, or JAX's own generator."""
    return JaxBits(keys) if bits == "jax" else keys
