"""Loss and accuracy over a split, every example counted once."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Int32

from dropout import Moment
from dropout.sites import Mode
from models.norms import RowWeights
from training.averages import at_average
from training.data.order import evaluation_batches
from training.data.reading import evaluation_loader, fetched
from training.data.splits import Split
from training.experiment import Experiment
from training.network import Tree
from training.objective import Objective, correct_weight, cross_entropy, drop_at
from training.runtime.devices import gathered, over_rows, own_rows, put
from training.state import State, Totals

EVALUATION_BATCH = 512


class Scores(NamedTuple):
    """Means over the examples of a split."""

    loss: float
    accuracy: float


def make_evaluate_batch(objective: Objective) -> Callable[..., Totals]:
    """Return a function to jit: sums over a weighted batch, with dropout as at test.

    The rates are those of the last step done; the loss has no label smoothing.
    """

    def evaluate_batch(
        state: State,
        images: Array,
        labels: Int[Array, "n *positions"],
        weights: Float[Array, " n"],
    ) -> Totals:
        logits, _ = test_logits(objective, state, images)
        losses = cross_entropy(logits, labels, 0.0)
        correct = correct_weight(logits, labels, weights)
        return Totals(jnp.sum(losses * weights), correct, jnp.sum(weights))

    return evaluate_batch


def test_logits(
    objective: Objective,
    state: State,
    images: Array,
    mode: Mode = "eval",
    moment: Moment | None = None,
    row_weights: RowWeights = None,
) -> tuple[Float[Array, "n *positions classes"], Tree]:
    """Return the logits of raw images, and the statistics after them.

    The rates are those of the last step done. Without `row_weights` running statistics
    are used; with them each norm uses the statistics of the batch.
    """
    last = jnp.maximum(state.step - 1, 0)
    drop = drop_at(objective, state.params, last, moment, mode)
    standardised = objective.standardise(images)
    return objective.forward(state.params, state.stats, standardised, drop, row_weights)


def mean_scores(parts: list[Totals]) -> list[Scores]:
    """Return each member's means over all examples of a list of batches."""
    return scores_of(jax.tree.map(lambda *sums: jnp.stack(sums).sum(0), *parts))


def scores_of(totals: Totals) -> list[Scores]:
    """Return each member's means from its totals; they are NaN without examples."""
    whole = jax.device_get(gathered(totals))
    sums = [np.atleast_1d(part).astype(np.float64) for part in whole]
    with np.errstate(invalid="ignore"):
        means = [part / sums[2] for part in sums[:2]]
    return [Scores(float(loss), float(accuracy)) for loss, accuracy in zip(*means)]


def scores_on(
    experiment: Experiment,
    evaluate_batch: Callable[..., Totals],
    state: State,
    split: Split,
    ids: Int32[np.ndarray, "*members n"],
) -> list[Scores]:
    """Return the scores of each run on the examples `ids` of a split.

    Each example counts once. Members of a population may have examples of their own.
    """
    mesh = experiment.mesh
    size = min(EVALUATION_BATCH, ids.shape[-1])
    size += -size % mesh.shape["data"]
    batches = [evaluation_batches(row, size) for row in np.atleast_2d(ids)]
    examples, weights = (np.stack(parts, axis=1) for parts in zip(*batches))
    sharding = over_rows(mesh)
    if not experiment.members:
        examples, weights = examples[:, 0], weights[:, 0]
        sharding = NamedSharding(mesh, PartitionSpec("data"))
    parts = []
    own = own_rows(mesh, size)
    found = fetched(split, examples[..., own], evaluation_loader(experiment.config))
    for read, counted in zip(found, weights[..., own]):
        arrays = (*read, counted)
        parts.append(evaluate_batch(state, *put(arrays, sharding)))
    return mean_scores(parts)


def average_scores(
    experiment: Experiment,
    evaluate_batch: Callable[..., Totals],
    state: State,
    split: Split,
    ids: Int32[np.ndarray, "*members n"],
) -> list[dict[str, float]]:
    """Return, by name, the scores of each run's average; empty without an average."""
    if not state.average:
        return [{} for _ in experiment.runs]
    scores = scores_on(experiment, evaluate_batch, at_average(state), split, ids)
    return [
        {f"ema_{name}": value for name, value in s._asdict().items()} for s in scores
    ]
