"""Keys derived by name and by row, so that a mask follows its example and its site."""

import zlib
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Integer, Key


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class JaxBits:
    """A key whose bits come from JAX's own generator instead of the counter hash.

    The statistical tests compare the counter hash with it. Variants take it wherever
    they take a key.
    """

    key: Key[Array, "..."]


AnyKey = Key[Array, "..."] | JaxBits
KeyLike = TypeVar("KeyLike", bound=Key[Array, "..."] | JaxBits)

TYPED_KEY = "expected a typed key, as jax.random.key(seed) makes it."


def check_key(key: Any) -> None:
    """Raise ValueError for what is not a typed key, or a key of another generator.

    Under `vmap` the generators `rbg` and `unsafe_rbg` give a row other bits in another
    batch.
    """
    leaf = key.key if isinstance(key, JaxBits) else key
    if not hasattr(leaf, "dtype"):
        raise ValueError(f"key of type {type(leaf).__name__}: {TYPED_KEY}")
    if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        raise ValueError(
            f"key of shape {leaf.shape} and dtype {leaf.dtype}: {TYPED_KEY}"
        )
    if "rbg" in str(jax.random.key_impl(leaf)):
        raise ValueError(
            f"key of the generator {jax.random.key_impl(leaf)}, with which a mask "
            "depends on its batch: expected jax.random.key(seed, impl='threefry2x32')."
        )


def named_key(key: KeyLike, name: str) -> KeyLike:
    """Return the child of `key` (one key, or one per row) that belongs to `name`.

    It folds in the hash of the name.
    """
    return fold(key, jnp.uint32(name_hash(name)))


def name_hash(name: str) -> int:
    """Return `zlib.crc32(name)`, which is the same in every process and version."""
    return zlib.crc32(name.encode())


def fold(key: KeyLike, data: Integer[Array, ""] | int) -> KeyLike:
    """Apply `jax.random.fold_in` to one key, or to one key per row."""

    def fold_leaf(leaf: Key[Array, "..."]) -> Key[Array, "..."]:
        function = jax.random.fold_in
        for _ in leaf.shape:
            function = jax.vmap(function, in_axes=(0, None))
        return function(leaf, data)

    return jax.tree.map(fold_leaf, key)


def example_keys(
    key: Key[Array, ""], examples: Integer[Array, " n"]
) -> Key[Array, " n"]:
    """Return one key per example, a function of `key` and the example alone."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, examples)


def row_keys(key: Key[Array, "..."], rows: int) -> Key[Array, " n"]:
    """Return one key per row: a scalar key stands for the examples 0 to rows - 1.

    Raises:
        ValueError: `key` is neither one key nor one key per row.
    """
    if key.shape == ():
        return example_keys(key, jnp.arange(rows, dtype=jnp.uint32))
    if key.shape == (rows,):
        return key
    raise ValueError(
        f"key of shape {key.shape}: expected one key, (), or one per row, ({rows},)."
    )
