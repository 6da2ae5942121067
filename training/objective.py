"""The objective of training: the loss of a network under a plan of dropout."""

from collections.abc import Callable
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from dropout import Drop, Moment, Row, Timeline, bind, rows_at
from dropout.grammar import Call
from dropout.moment import Generator
from dropout.parameters import LearnedRow
from dropout.sites import Mode
from training.consistency import disagreement
from training.data.augmentation import augment
from training.dropout_parameters import learned_of, total_penalty
from training.freezing import without_gradient
from training.network import Forward, Tree
from training.state import Batch
from training.telemetry import watch, zeros_of


class Objective(NamedTuple):
    """Everything that a run's loss depends on, except parameters and data.

    Attributes:
        forward: the network.
        standardise: the function from raw images to the network's inputs.
        rows: the resolved plan.
        timeline: the length of the run, to which schedules refer.
        bits: the generator of the masks.
        label_smoothing: the mass spread evenly over all classes.
        augmentations: applied to the standardised images, in order.
        learned: the rows of the plan whose rate is learned.
        train_size: the number of training examples; regularisers are divided by it.
        draws: the number of draws of each example's masks in a step. The loss is the
            mean over them; layers that no mask affects are computed once.
        consistency: the penalty on disagreement between draws.
        watched: the sites that telemetry watches, with their channels.
        train_only: patterns of the parameters that are trained; all if it is empty.
        run_key: the key of masks that are fixed for the whole run.
    """

    forward: Forward
    standardise: Callable[[Array], Array]
    rows: tuple[Row, ...]
    timeline: Timeline
    bits: Generator
    label_smoothing: float
    augmentations: tuple[Call, ...] = ()
    learned: tuple[LearnedRow, ...] = ()
    train_size: int = 1
    draws: int = 1
    consistency: Call = Call("none")
    watched: tuple[tuple[str, int], ...] = ()
    train_only: str = ""
    run_key: Key[Array, ""] | None = None


Target = tuple[Int[Array, "n *positions"], Float[Array, " n"]]


def summed_loss(
    objective: Objective,
    params: Tree,
    stats: Tree,
    step: Int[Array, ""],
    part: Batch,
    key: Key[Array, ""],
) -> tuple[Float[Array, ""], tuple[Float[Array, ""], Tree]]:
    """Return the loss summed over a micro-batch, and (sum of correct, statistics)."""
    epoch = step // objective.timeline.steps_per_epoch
    images, targets = examples_of(objective, part)
    params = without_gradient(params, objective.train_only)

    def predict(draw: Int[Array, ""] | int) -> tuple[Array, Tree]:
        moment = Moment(key, part.examples, epoch, step, draw, objective.run_key)
        drop = drop_at(objective, params, step, moment, "train")
        drop = watch(drop, zeros_of(params))
        return objective.forward(params, stats, images, drop, part.weights)

    def plain() -> Array:
        drop = drop_at(objective, params, step, None, "eval")
        return objective.forward(params, stats, images, drop, part.weights)[0]

    if objective.draws == 1 and objective.consistency.name == "none":
        logits, after = predict(0)
        loss, correct = score(objective, logits, targets)
        return loss, (correct, after)
    # Layers that do not depend on the draw are not mapped: the trunk is computed once.
    logits, after = jax.vmap(predict)(jnp.arange(objective.draws))
    losses, correct = jax.vmap(partial(score, objective, targets=targets))(logits)
    apart = disagreement(objective.consistency, logits, plain) * part.weights
    after = jax.tree.map(lambda leaf: leaf.mean(0), after)
    return losses.mean() + apart.sum(), (correct.mean(), after)


def mean_penalty(
    objective: Objective, params: Tree, step: Int[Array, ""]
) -> Float[Array, ""]:
    """Return the regularisers of learned dropout, as a part of the mean loss."""
    penalty = total_penalty(params, objective.learned, step, objective.timeline)
    return penalty / objective.train_size


def drop_at(
    objective: Objective,
    params: Tree,
    step: Int[Array, ""],
    moment: Moment | None,
    mode: Mode,
) -> Drop:
    """Return the plan's `drop` at a step, with the parameters that it has learned."""
    rows = rows_at(objective.rows, step, objective.timeline)
    return bind(rows, moment, mode, objective.bits, learned_of(params))


def examples_of(
    objective: Objective, part: Batch
) -> tuple[Float[Array, "n h w c"], list[Target]]:
    """Return the network's inputs for a micro-batch, and the weighted targets.

    A mixed image has two labels, whose weights sum to that of the example.
    """
    images = objective.standardise(part.images)
    if part.augmentation is None:
        return images, [(part.labels, part.weights)]
    keys, others = part.augmentation
    partners = None if others is None else objective.standardise(others.images)
    images, shares = augment(objective.augmentations, images, partners, keys)
    if others is None or shares is None:
        return images, [(part.labels, part.weights)]
    return images, [
        (part.labels, part.weights * shares),
        (others.labels, part.weights * (1 - shares)),
    ]


def score(
    objective: Objective, logits: Float[Array, "n *positions c"], targets: list[Target]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the weighted sum of losses, and the summed weight of correct targets."""
    losses = [
        cross_entropy(logits, labels, objective.label_smoothing)
        for labels, _ in targets
    ]
    correct = [correct_weight(logits, *target) for target in targets]
    summed = [jnp.sum(loss * weights) for loss, (_, weights) in zip(losses, targets)]
    return reduce(jnp.add, summed), reduce(jnp.add, correct)


def cross_entropy(
    logits: Float[Array, "n *positions classes"],
    labels: Int[Array, "n *positions"],
    smoothing: float,
) -> Float[Array, " n"]:
    """Return the cross-entropy with smoothed targets.

    Targets are (1 - smoothing) one-hot + smoothing / classes.

    An example with several positions has the mean over them.
    """
    targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=jnp.float32)
    targets = optax.smooth_labels(targets, smoothing)
    losses = optax.softmax_cross_entropy(logits.astype(jnp.float32), targets)
    return mean_over_positions(losses)


def correct_weight(
    logits: Float[Array, "n *positions classes"],
    labels: Int[Array, "n *positions"],
    weights: Float[Array, " n"],
) -> Float[Array, ""]:
    """Return the summed weight of examples whose largest logit is their label's.

    An example with several positions counts by the share of them that are correct.
    """
    correct = (logits.argmax(-1) == labels).astype(jnp.float32)
    return jnp.sum(mean_over_positions(correct) * weights)


def mean_over_positions(
    values: Float[Array, "n *positions"],
) -> Float[Array, " n"]:
    """Return the mean over all axes but the first."""
    return values.mean(range(1, values.ndim)) if values.ndim > 1 else values
