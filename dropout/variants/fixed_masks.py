"""Variants whose few masks are fixed for a whole run."""

from typing import Annotated

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer, UInt32

from dropout.arrays import Positions, Rate, widened
from dropout.bits import Seeds, integers, random_bits
from dropout.grammar import Interval
from dropout.keys import AnyKey
from dropout.noise import fixed_rate, multiply, ranks

Count = Annotated[int, Interval("[1, 1024]")]


def masksembles(
    key: AnyKey,
    x: Positions,
    rate: Rate,
    number: Integer[Array, " n"] | None = None,
    *,
    masks: Count = 4,
) -> Positions:
    """Multiplies the channels of an example by one of a few masks that never change.

    Formula: y = m_i x, without scaling. Each of the n = `masks` masks keeps M channels
        of C, M = (1 - rate) C to the nearest whole number and at least 1; together
        they keep all C, unless n M < C. The paper's scale s, which sets how much they
        overlap, follows from C = M s (1 - (1 - 1 / s)^n), and any two masks share
        M / s channels: their intersection over union is 1 / (2 s - 1). The authors
        draw masks of M in M s channels and drop the channels that no mask keeps until
        C are left; here the first i masks keep M s (1 - (1 - 1 / s)^i) channels, what
        they would keep on average.
    Mask: (n, 1, ..., 1, c). In training an example has mask (id + epoch + draw) mod n,
        where the authors cut a shuffled batch in n parts; at test draw i has mask
        i mod n. Without a run's numbers, each row takes a random one.
    At test: x M / C, the mean; the published form is the mean prediction over all
        masks, `scripts/evaluate.py --rule=mc --samples=4`, which has no sampling error.
    Domain: rate in [0, 1]; 1 keeps one channel. Above 1 - 1 / n masks do not overlap.
    Source: Durasov et al. 2021, "Masksembles for Uncertainty Estimation", CVPR.
    """
    channels = x.shape[-1]
    covered = jnp.asarray(_covered(channels, masks))

    def noise(
        seeds: Seeds,
        rate: Float[Array, ""],
        shape: tuple[int, ...],
        *number: Integer[Array, " n"],
    ) -> Array:
        words = random_bits(seeds, (shape[0], masks + 2, channels))
        index = number[0] % masks if number else integers(words[:, -1, 0], masks)
        kept = _kept_channels(rate, channels)
        mask = _one_mask(words, index, kept, covered[kept])
        return mask.astype(jnp.float32).reshape(-1, *(1,) * (len(shape) - 2), channels)

    given = () if number is None else (number,)
    return multiply(noise, key, x, rate, *given)


def mean_of_masks(x: Positions, rate: Rate, *, masks: Count = 4) -> Positions:
    """Return x M / C, the mean over masks that keep M of C channels."""
    rate = fixed_rate(rate, x)
    share = _kept_channels(rate, x.shape[-1]).astype(rate.dtype) / x.shape[-1]
    return (widened(x) * share).astype(x.dtype)


def _kept_channels(rate: Float[Array, ""], channels: int) -> Int[Array, ""]:
    """How many channels each mask keeps."""
    kept = (1 - rate.astype(jnp.float32)) * np.float32(channels)
    return jnp.maximum(jnp.floor(kept + 0.5), 1).astype(jnp.int32)


def _covered(channels: int, masks: int) -> Int[np.ndarray, "kept masks"]:
    """How many channels the first i masks keep together, for each M from 0 to C."""
    kept = np.arange(channels + 1)[:, None]
    # C = M (1 + r + ... + r^(n-1)) with r = 1 - 1 / s, found by halving an interval.
    powers = np.arange(masks)
    low, high = np.zeros(kept.shape), np.ones(kept.shape)
    for _ in range(60):
        middle = (low + high) / 2
        enough = kept * (middle**powers).sum(1, keepdims=True) >= channels
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.rint(kept * np.cumsum(high**powers, axis=1)).astype(np.int32)


def _one_mask(
    words: UInt32[Array, "n lots channels"],
    index: Int[Array, " n"],
    kept: Int[Array, ""],
    covered: Int[Array, " masks"],
) -> Bool[Array, "n channels"]:
    """The mask of this number: new channels, and the others among earlier masks'.

    A first lot orders the channels, of which mask i adds those from `covered[i - 1]` to
    `covered[i]`; a lot of its own chooses among those before.
    """
    order = ranks(words[:, 0], axis=-1)
    before = jnp.where(index > 0, covered[index - 1], 0)[:, None]
    after = covered[index][:, None]
    lots = jnp.take_along_axis(words, index[:, None, None] + 1, axis=1)[:, 0] >> 1
    late = (order >= before).astype(jnp.uint32) << 31
    repeated = ranks(lots | late, axis=-1) < kept - (after - before)
    return repeated | (order >= before) & (order < after)
