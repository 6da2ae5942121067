"""The statistics of batch norms' inputs without dropout, beside the running ones.

After dropout, the running variance of a batch norm is estimated on dropped inputs, and
at test its inputs have another variance: the variance shift of Li et al. 2019.
"""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from models.norms import MOMENTUM
from training.data.order import evaluation_batches
from training.data.splits import Split
from training.network import Tree
from training.objective import Objective
from training.scoring import test_logits
from training.state import State

BATCH = 512


def make_batch_statistics(objective: Objective) -> Callable[..., Tree]:
    """Return a function to jit: (state, images, weights) -> statistics of that batch.

    Dropout is as at test. Every norm uses the statistics of the batch itself, so that
    norms after it get the inputs that they would get if all statistics were right.
    """

    def batch_statistics(
        state: State, images: Array, weights: Float[Array, " n"]
    ) -> Tree:
        _, moved = test_logits(objective, state, images, row_weights=weights)
        # A running statistic moves by a known share of the way to the batch's.
        return jax.tree.map(
            lambda old, new: old + (new - old) / (1 - MOMENTUM), state.stats, moved
        )

    return batch_statistics


def statistics_over(
    batch_statistics: Callable[..., Tree], state: State, split: Split, ids
) -> Tree:
    """Return the statistics of each norm's inputs over examples of a split."""
    examples, weights = evaluation_batches(ids, min(BATCH, len(ids)))
    found, shares = [], []
    for rows, counted in zip(examples, weights):
        images = jnp.asarray(split.fetch(rows)[0])
        found.append(batch_statistics(state, images, jnp.asarray(counted)))
        shares.append(np.float32(counted.sum()))
    share = np.asarray(shares) / np.sum(shares)
    return _pooled(found, [float(part) for part in share])


def variance_shift(running: Tree, met: Tree) -> dict[str, Float[Array, ""]]:
    """Return each norm's mean, over channels, of running over actual variance."""
    return {
        name: jnp.mean(ours["var"] / jnp.maximum(theirs["var"], 1e-12))
        for (name, ours), (_, theirs) in zip(norms(running), norms(met))
    }


def norms(stats: Tree, name: str = "") -> Iterator[tuple[str, Tree]]:
    """Yield the name of each norm, with its mean and variance."""
    if "var" in stats:
        yield name.removeprefix("/"), stats
        return
    for part, inner in stats.items():
        yield from norms(inner, f"{name}/{part}")


def _pooled(found: list[Tree], shares: list[float]) -> Tree:
    """Return the statistics of all batches together, by the law of total variance."""
    if "var" not in found[0]:
        return {name: _pooled([f[name] for f in found], shares) for name in found[0]}
    mean = sum(share * f["mean"] for share, f in zip(shares, found))
    square = sum(share * (f["var"] + f["mean"] ** 2) for share, f in zip(shares, found))
    return {"mean": mean, "var": square - mean**2}
