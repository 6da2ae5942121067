"""Evaluation: loss and accuracy over a split, every example counted once."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from training.step import (
    Objective,
    State,
    Totals,
    correct_weight,
    cross_entropy,
    drop_at,
)


class Scores(NamedTuple):
    """Means over the examples of a split."""

    loss: float
    accuracy: float


def make_evaluate_batch(objective: Objective) -> Callable[..., Totals]:
    """A function to be jitted: sums over one weighted batch, by the rules at test.

    The rates are those of the last step done; the loss has no label smoothing.
    """

    def evaluate_batch(
        state: State,
        images: Array,
        labels: Int[Array, "n *positions"],
        weights: Float[Array, " n"],
    ) -> Totals:
        last = jnp.maximum(state.step - 1, 0)
        drop = drop_at(objective, state.params, last, None, "eval")
        logits, _ = objective.forward(
            state.params, state.stats, objective.standardise(images), drop
        )
        losses = cross_entropy(logits, labels, 0.0)
        correct = correct_weight(logits, labels, weights)
        return Totals(jnp.sum(losses * weights), correct, jnp.sum(weights))

    return evaluate_batch


def mean_scores(parts: list[Totals]) -> list[Scores]:
    """The means over all examples of a list of batches, of each member."""
    return scores_of(jax.tree.map(lambda *sums: jnp.stack(sums).sum(0), *parts))


def scores_of(totals: Totals) -> list[Scores]:
    """The means of totals, of each member; NaN of no example."""
    sums = [np.atleast_1d(part).astype(np.float64) for part in jax.device_get(totals)]
    with np.errstate(invalid="ignore"):
        means = [part / sums[2] for part in sums[:2]]
    return [Scores(float(loss), float(accuracy)) for loss, accuracy in zip(*means)]
