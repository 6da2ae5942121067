"""Variants that drop weights: at kernel sites, where a row is a copy of the kernel."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dropout.arrays import (
    Examples,
    KernelCopies,
    Operation,
    Rate,
    widened,
)
from dropout.bits import Seeds, keep_mask, normal, row_seeds
from dropout.keys import AnyKey
from dropout.noise import (
    drop_elements,
    fixed_rate,
    keep_or_drop,
    keep_scale,
    multiply,
    ranks,
    remade,
    remake,
    scale,
    shared,
)


def dropconnect(key: AnyKey, x: KernelCopies, rate: Rate) -> KernelCopies:
    """Drops each weight with probability `rate` and scales the rest by 1 / (1 - rate).

    Formula: y = m x / q, m ~ Bernoulli(q), q = 1 - rate; for a layer u = W v:
        E[u] = W v, Var[u] = (rate / q) W^2 v^2.
    Mask: the shape of the kernel: one per batch, or with unit="example" one per example
        as published. The same bits as bernoulli.
    At test: the plain kernel. The published inference averages the activation over
        draws of `moment_matched`, the Gaussian with these moments.
    Domain: rate in [0, 1]; 1 gives zeros.
    Source: Wan et al. 2013, "Regularization of Neural Networks using DropConnect",
        ICML, in the inverted form.
    """
    return remade(drop_elements, keep_or_drop, key, x, rate)


def kernel_dropout(
    key: AnyKey,
    x: KernelCopies,
    rate: Rate,
    *,
    drop: Literal["element", "filter", "input", "slice", "tap"] = "element",
) -> KernelCopies:
    """Drops elements, filters, inputs, slices or taps; scales the rest by 1 / q.

    Formula: y = m x / q, m ~ Bernoulli(q), q = 1 - rate; E[y] = x. For a convolution
        Var[out] = (rate / q) conv(x^2, W^2) with "element"; all positions (and with one
        mask per batch all examples) miss the same weights.
    Mask: of a kernel (*taps, inputs, outputs): "element" its shape, "filter"
        (1, 1, 1, outputs), "input" (1, 1, inputs, 1), "slice" (1, 1, inputs,
        outputs), "tap" (*taps, 1, 1). On a dense kernel "slice" is dropconnect.
    At test: the plain kernel.
    Domain: rate in [0, 1]; 1 gives zeros.
    Source: Pan et al. 2018, "DropFilter", arXiv:1811.06783, for "element" and "filter".
        "slice" is the noise of Fan et al. 2021, "Training with Quantization Noise for
        Extreme Model Compression", ICLR, that sets blocks of one input to zero.
    """
    last = x.ndim - 1
    axes = {
        "element": (),
        "filter": range(1, last),
        "input": (*range(1, last - 1), last),
        "slice": range(1, last - 1),
        "tap": (last - 1, last),
    }
    return multiply(shared(keep_or_drop, axes[drop]), key, x, rate)


def mixout(
    key: AnyKey,
    x: KernelCopies,
    rate: Rate,
    start: Float[Array, "..."] | None = None,
    *,
    drop: Literal["element", "input"] = "element",
) -> KernelCopies:
    """Resets each weight to its value before training, with probability `rate`.

    Formula: y = (m W + (1 - m) W0 - rate W0) / q, m ~ Bernoulli(q), q = 1 - rate, W0
        the weights before the first step: W0 + (W - W0) / q where kept, else W0.
        E[y] = W. With W0 = 0 it is dropconnect, and where W = W0 no mask changes it.
    Mask: the shape of the kernel, one per batch, with the same bits as dropconnect;
        with drop="input" (1, ..., inputs, 1).
    At test: the plain kernel.
    Domain: rate in [0, 1]; 1 gives W0.
    Source: Lee et al. 2020, "Mixout: Effective Regularization to Finetune Large-scale
        Pretrained Language Models", ICLR. A run keeps W0 in its state; without `start`
        W0 is 0. The authors' code has drop="input", and leaves 1 / q out of the
        gradient.
    """
    if start is not None and start.shape != x.shape[1:]:
        raise ValueError(
            f"mixout: a kernel at the start of shape {start.shape}; expected "
            f"{x.shape[1:]}, that of the kernel."
        )
    origin = jnp.zeros((), x.dtype) if start is None else start[None]
    last = x.ndim - 1
    axes = {"element": (), "input": (*range(1, last - 1), last)}
    noise = shared(keep_or_drop, axes[drop])

    def mixed(
        seeds: Seeds, rate: Float[Array, ""], x: KernelCopies, origin: Array
    ) -> KernelCopies:
        wide = widened(x)
        origin = origin.astype(wide.dtype)
        moved = origin + scale(wide - origin, noise(seeds, rate, x.shape))
        # At rate 0 W0 + (W - W0) would be rounded.
        return jnp.where(rate == 0, x, moved.astype(x.dtype))

    seeds, origin = row_seeds(key, x.shape[0]), jax.lax.stop_gradient(origin)
    return remake(mixed)(seeds, fixed_rate(rate, x), x, origin)


def embedding(key: AnyKey, x: KernelCopies, rate: Rate) -> KernelCopies:
    """Drops whole words of an embedding table and scales the rest by 1 / (1 - rate).

    Formula: y = m x / q, m ~ Bernoulli(q), q = 1 - rate; E[y] = x. All occurrences of a
        word vanish together.
    Mask: (words, 1) of a table (words, d).
    At test: the plain table.
    Domain: rate in [0, 1]; 1 gives zeros.
    Source: Gal & Ghahramani 2016, "A Theoretically Grounded Application of Dropout in
        Recurrent Neural Networks", NeurIPS.
    """
    return kernel_dropout(key, x, rate, drop="input")


def targeted(
    key: AnyKey,
    x: KernelCopies,
    rate: Rate,
    *,
    target: float = 0.5,
    drop: Literal["weight", "unit"] = "weight",
) -> KernelCopies:
    """Drops weights among the smallest of each unit, or units among the smallest.

    Formula: candidates are, for "weight", the floor(target k) of smallest magnitude
        among the k incoming weights of each output; for "unit", the
        floor(target outputs) outputs of smallest norm, whole. Each is dropped with
        probability `rate`, without scaling: E[y] = x (1 - rate [candidate]).
    Mask: the shape of the kernel, or (1, ..., 1, outputs).
    At test: the plain kernel.
    Domain: rate in [0, 1]; 1 drops all candidates: the pruned kernel.
    Source: Gomez et al. 2019, "Learning Sparse Networks Using Targeted Dropout",
        arXiv:1905.13678. The authors' code drops the units weight by weight.
    """
    return multiply(_drop_candidates, key, x, rate, _candidates(x, target, drop))


def targeted_mean(
    x: KernelCopies,
    rate: Rate,
    *,
    target: float = 0.5,
    drop: Literal["weight", "unit"] = "weight",
) -> KernelCopies:
    """Return E[y] of targeted dropout: candidates lose the fraction `rate`."""
    left = (widened(x) * (1 - fixed_rate(rate, x))).astype(x.dtype)
    return jnp.where(_candidates(x, target, drop), left, x)


def moment_matched(
    key: AnyKey,
    x: Examples,
    rate: Rate,
    kernel: Array,
    operation: Operation,
) -> Examples:
    """Draw `operation(x, W)` from the Gaussian with the moments of DropConnect.

    Formula: u ~ N(operation(x, W), (rate / (1 - rate)) operation(x^2, W^2)), each
        output on its own. Under DropConnect with one mask per example the outputs of a
        dense layer are independent, as here; the outputs of a convolution are not,
        since its positions miss the same weights. The bias is added after. At rate 1
        the variance has no limit: it is finite, 2^24 operation(x^2, W^2), where
        DropConnect gives 0.
    Source: Wan et al. 2013, section 4.
    """
    rate = fixed_rate(rate, x)
    mean = operation(x, kernel)
    spread = (rate * keep_scale(rate)).astype(mean.dtype)
    variance = spread * operation(x * x, kernel * kernel)
    noise = normal(row_seeds(key, x.shape[0]), mean.shape)
    # Rounding, of Winograd's transforms say, can leave a variance below 0.
    deviation = jnp.sqrt(jnp.maximum(variance, 0))
    return mean + deviation * noise.astype(mean.dtype)


def _candidates(x: KernelCopies, target: float, drop: str) -> Bool[Array, "n ..."]:
    """True for the weights, or the units, that targeted dropout may drop."""
    if not 0 <= target <= 1:
        raise ValueError(f"targeted(target={target}): expected a fraction in [0, 1].")
    size = jnp.abs(widened(jax.lax.stop_gradient(x)))
    columns = size.reshape(x.shape[0], -1, x.shape[-1])
    if drop == "unit":
        norms = jnp.square(columns).sum(1)
        units = ranks(norms, axis=1) < int(target * x.shape[-1])
        return units.reshape(-1, *(1,) * (x.ndim - 2), x.shape[-1])
    weights = _smallest(columns, int(target * columns.shape[1]))
    return weights.reshape(x.shape)


def _smallest(size: Float[Array, "n k o"], count: int) -> Bool[Array, "n k o"]:
    """True for the `count` smallest of the k sizes of each output; of ties the first.

    The bits of floats >= 0 are in their order: their `count`-th smallest is found bit
    by bit, at a small part of the cost of sorting them.
    """
    width = 8 * size.dtype.itemsize
    bits = jax.lax.bitcast_convert_type(size, f"int{width}")
    highest = jnp.asarray(1 << (width - 2), bits.dtype)

    def next_bit(index: Array, bound: Array) -> Array:
        higher = bound | (highest >> index.astype(bits.dtype))
        below = (bits < higher).sum(1, keepdims=True, dtype=jnp.int32)
        return jnp.where(below <= count, higher, bound)

    bound = jax.lax.fori_loop(0, width - 1, next_bit, jnp.zeros_like(bits[:, :1]))
    below, ties = bits < bound, bits == bound
    missing = count - below.sum(1, keepdims=True, dtype=jnp.int32)
    return below | (ties & (jnp.cumsum(ties, 1, dtype=jnp.int32) <= missing))


def _drop_candidates(
    seeds: Seeds, rate: Float[Array, ""], shape: tuple[int, ...], candidates: Array
) -> Array:
    dropped = candidates & ~keep_mask(seeds, rate, candidates.shape)
    return jnp.where(dropped, 0, jnp.ones((), jnp.float32))
