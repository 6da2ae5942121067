"""A transformer's block: attention and a perceptron, each on a branch."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from dropout import Drop
from models.layers import Dense
from models.norms import last_axis_norm, normalise
from models.skipping import computed_if_kept

# By its formula with erf, as in Hendrycks & Gimpel 2016, or with their faster tanh.
Gelu = Literal["tanh", "erf"]
Tokens = Float[Array, "n tokens width"]

# Query, key and value lie side by side: each of the three has Glorot's variance.
QKV = jax.nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")


class SelfAttention(nnx.Module):
    """Self-attention of several heads (Vaswani et al. 2017)."""

    def __init__(self, name: str, width: int, heads: int, key: Key[Array, ""]):
        self.name, self.heads = name, heads
        self.qkv = Dense(f"{name}/qkv", (width, 3 * width), key=key, kernel_init=QKV)
        self.out = Dense(f"{name}/out", (width, width), key=key)

    def __call__(self, x: Tokens, drop: Drop) -> Tokens:
        """Mix tokens by softmax(q k^T / sqrt(d)) v in each head of width d."""
        n, tokens, width = x.shape
        heads = self.qkv(x, drop).reshape(n, tokens, 3, self.heads, -1)
        query, key, value = jnp.moveaxis(heads, (2, 3), (0, 2))
        logits = jnp.matmul(query, key.mT) * query.shape[-1] ** -0.5
        logits = drop(f"{self.name}/logits", logits)
        # In float32, as norms are: in bfloat16 the sum over many keys loses digits.
        weights = jax.nn.softmax(logits.astype(jnp.float32)).astype(x.dtype)
        weights = drop(f"{self.name}/weights", weights)
        mixed = jnp.moveaxis(jnp.matmul(weights, value), 1, 2)
        return self.out(drop(self.name, mixed.reshape(n, tokens, width)), drop)


class Perceptron(nnx.Module):
    """Two dense layers on each token, with four times the width between them."""

    def __init__(self, name: str, width: int, key: Key[Array, ""], gelu: Gelu = "tanh"):
        self.name, self.approximate = name, gelu == "tanh"
        self.hidden = Dense(f"{name}/hidden", (width, 4 * width), key=key)
        self.out = Dense(f"{name}/out", (4 * width, width), key=key)

    def __call__(self, x: Tokens, drop: Drop) -> Tokens:
        """Apply a dense layer, GELU and a dense layer; the shape is kept."""
        gelu = partial(jax.nn.gelu, approximate=self.approximate)
        hidden = drop(f"{self.name}/act", self.hidden(x, drop), gelu)
        return self.out(drop(self.name, hidden), drop)


class TransformerBlock(nnx.Module):
    """Attention, then a perceptron, each after a norm and added to its input.

    The site `branch` is the sum of what both add, so that dropping it skips the block
    as LayerDrop does (Fan et al. 2020).
    """

    def __init__(
        self,
        name: str,
        width: int,
        heads: int,
        key: Key[Array, ""],
        gelu: Gelu = "tanh",
    ):
        self.name = name
        self.norm1, self.norm2 = last_axis_norm(width), last_axis_norm(width)
        self.attention = SelfAttention(f"{name}/attention", width, heads, key)
        self.mlp = Perceptron(f"{name}/mlp", width, key, gelu)

    def __call__(self, x: Tokens, drop: Drop) -> Tokens:
        """Add both branches to the tokens; the shape is kept."""
        site = f"{self.name}/branch"
        added = computed_if_kept(
            self, site, drop, lambda block, drop: block.branch(x, drop)
        )
        return x + drop(site, added)

    def branch(self, x: Tokens, drop: Drop) -> Tokens:
        """Return the sum of what attention and perceptron add."""
        branch = self.attention(normalise(self.norm1, x, None), drop)
        added = drop(f"{self.name}/attention/branch", branch)
        branch = self.mlp(normalise(self.norm2, x + added, None), drop)
        return added + drop(f"{self.name}/mlp/branch", branch)
