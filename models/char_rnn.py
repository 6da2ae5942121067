"""A recurrent language model of characters: at each, the next one is to be found."""

from typing import Literal

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from dropout import Drop, identity, named_key
from models.layers import GLOROT, Dense, Images, require_widths
from models.recurrence import Recurrence


class Embedding(nnx.Module):
    """A vector for each character: a row of the table, which is the site's kernel."""

    def __init__(self, shape: tuple[int, int], key: Key[Array, ""]):
        table = GLOROT(named_key(key, "embedding/kernel"), shape, jnp.float32)
        self.kernel = nnx.Param(table)

    def __call__(
        self, rows: Float[Array, "n time characters"], drop: Drop
    ) -> Float[Array, "n time width"]:
        """One-hot characters -> their rows of the table."""
        table = self.kernel[...].astype(rows.dtype)
        return drop("embedding/kernel", rows, table, jnp.matmul)


class CharRNN(nnx.Module):
    """Embedded characters through recurrent layers; logits at every position."""

    def __init__(
        self,
        image: tuple[int, int, int],
        classes: int,
        key: Key[Array, ""],
        *,
        cell: str,
        embedding: int,
        units: int,
        layers: int,
    ):
        self.names = tuple(f"{cell}{number}" for number in range(1, layers + 1))
        self.embedding = Embedding((image[1] * image[2], embedding), key)
        for name, features in zip(self.names, (embedding, *[units] * layers)):
            layer = Recurrence(name, cell, features, units, key)
            setattr(self, name, layer)
        self.out = Dense("out", (units, classes), key=key)

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites in the order in which they are called."""
        layers = ((*getattr(self, name).sites, name) for name in self.names)
        return "input", "embedding/kernel", "tokens", *sum(layers, ()), "out/kernel"

    def __call__(
        self, images: Images, drop: Drop = identity
    ) -> Float[Array, "n time classes"]:
        """Rows of one-hot characters (n, time, w, c) -> logits (n, time, classes)."""
        x = drop("input", images)
        x = drop("tokens", self.embedding(x.reshape(*x.shape[:2], -1), drop))
        for name in self.names:
            x = drop(name, getattr(self, name)(x, drop))
        return self.out(x, drop)


def char_rnn(
    image: tuple[int, int, int],
    classes: int,
    key: Key[Array, ""],
    *,
    cell: Literal["lstm", "gru"] = "lstm",
    embedding: int = 64,
    units: int = 128,
    layers: int = 1,
) -> CharRNN:
    """A language model of characters with layers of LSTM or GRU cells."""
    require_widths("char_rnn", (embedding, units, layers), 3)
    return CharRNN(
        image, classes, key, cell=cell, embedding=embedding, units=units, layers=layers
    )
