"""A recurrent language model that predicts the next character at each position."""

from typing import Literal

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from dropout import Drop, identity, named_key
from models.convolution import Images
from models.layers import GLOROT, Dense, Depth, Size, require_widths
from models.recurrence import Recurrence


class Embedding(nnx.Module):
    """An embedding: the vector of a character is a row of `embedding/kernel`."""

    def __init__(self, shape: tuple[int, int], key: Key[Array, ""]):
        table = GLOROT(named_key(key, "embedding/kernel"), shape, jnp.float32)
        self.kernel = nnx.Param(table)

    def __call__(
        self, characters: Float[Array, "n time characters"], drop: Drop
    ) -> Float[Array, "n time width"]:
        """Map one-hot characters to their vectors."""
        # A matrix product in place of a look-up: the variants that drop kernels need
        # an operation (x, kernel) -> product.
        table = self.kernel[...].astype(characters.dtype)
        return drop("embedding/kernel", characters, table, jnp.matmul)


class CharRNN(nnx.Module):
    """A language model of characters with layers of LSTM or GRU cells.

    An embedding, `layers` recurrent layers of `units` cells, and a dense layer that
    gives logits at every position.
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        classes: int,
        key: Key[Array, ""],
        *,
        cell: Literal["lstm", "gru"] = "lstm",
        embedding: Size = 64,
        units: Size = 128,
        layers: Depth = 1,
    ):
        require_widths("char_rnn", (embedding, units, layers), 3)
        self.names = tuple(f"{cell}{number}" for number in range(1, layers + 1))
        self.embedding = Embedding((image[1] * image[2], embedding), key)
        for name, features in zip(self.names, (embedding, *[units] * layers)):
            layer = Recurrence(name, cell, features, units, key)
            setattr(self, name, layer)
        self.out = Dense("out", (units, classes), key=key)

    def __call__(
        self, images: Images, drop: Drop = identity
    ) -> Float[Array, "n time classes"]:
        """Map one-hot characters (n, time, w, c) to logits (n, time, classes)."""
        x = drop("input", images)
        x = drop("tokens", self.embedding(x.reshape(*x.shape[:2], -1), drop))
        for name in self.names:
            x = drop(name, getattr(self, name)(x, drop))
        return self.out(x, drop)
