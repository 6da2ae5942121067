"""Networks as a user writes them, which know nothing of plans."""

import jax.numpy as jnp
from flax import nnx

from dropout import identity

SEEN = []  # what a network was given


class Block(nnx.Module):
    def __init__(self, width, rngs):
        self.fc = nnx.Linear(width, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.drop = nnx.Dropout(0.25, rngs=rngs)

    def __call__(self, x):
        return self.drop(nnx.relu(self.norm(self.fc(x))))


class Nested(nnx.Module):
    """A list of blocks, a layer that is called twice, and batch norms."""

    branches = ("blocks/*",)

    def __init__(self, image, num_classes, rngs, *, width: int = 6, depth: int = 2):
        self.stem = nnx.Linear(image[0] * image[1] * image[2], width, rngs=rngs)
        self.blocks = nnx.List([Block(width, rngs) for _ in range(depth)])
        self.again = self.blocks[0].fc
        self.out = nnx.Linear(width, num_classes, rngs=rngs)

    def __call__(self, images):
        x = self.stem(images.reshape(len(images), -1))
        for block in self.blocks:
            x = x + block(x)
        return self.out(self.again(x))


class Told(nnx.Module):
    """Calls `drop` itself, and keeps what it is told."""

    def __init__(self, channels, classes, key, image, rngs, factor=1):
        SEEN[:] = channels, classes, key, image, rngs, factor
        self.out = nnx.Linear(image[0] * image[1] * channels, classes, rngs=rngs)

    def __call__(
        self, x, drop=identity, train=None, training=None, deterministic=None,
        row_weights=None,
    ):  # fmt: skip
        flags = 4 * train + 2 * training + deterministic
        return drop("fc", self.out(x.reshape(len(x), -1))) * 0 + flags


def shaped(classes, rngs):
    return nnx.Linear(8, classes, rngs=rngs)


def list_of(rngs):
    return [rngs]


class NeedsMore(nnx.Module):
    def __init__(self, rngs, widths):
        self.widths = widths

    def __call__(self, images):
        return images


class TwoInputs(nnx.Module):
    def __call__(self, images, labels):
        return images


class Both(nnx.Module):
    def __init__(self, rngs):
        self.layer = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, images, drop):
        return self.layer(drop("fc", jnp.mean(images, (1, 2))))


NOTHING = 3
