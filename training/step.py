"""The training step: one pure function of the state, a batch and a key."""

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key, Num

from dropout import Drop, Moment, Row, Timeline, bind, rates_at
from dropout.grammar import Call
from dropout.parameters import Place
from dropout.sites import Generator, Mode
from training.augmentation import Draws, augment
from training.consistency import disagreement
from training.learned import learned_of, total_penalty
from training.network import Forward, Tree
from training.optimizer import bound_norms
from training.telemetry import watch, with_zeros, without_zeros, zeros_of


class Batch(NamedTuple):
    """A batch in `k` micro-batches of `m` rows; padding has weight 0.

    A row has one label, or one at each of its positions.
    `draws` is None where nothing is augmented.
    In a population every array has a leading axis of members, as in `State`.
    """

    images: Num[Array, "k m h w c"]
    labels: Int[Array, "k m *positions"]
    examples: Int[Array, "k m"]
    weights: Float[Array, "k m"]
    draws: Draws | None = None


class Totals(NamedTuple):
    """Sums over training examples since the last logged line."""

    loss: Float[Array, ""]
    correct: Float[Array, ""]
    examples: Float[Array, ""]


class State(NamedTuple):
    """All that a step changes; in a population every array has a leading axis.

    Attributes:
        step: the steps done.
        skipped: those of them that changed nothing else, as they were not finite.
        telemetry: sums by site since the last logged line; empty where none is wanted.
    """

    step: Int[Array, ""]
    skipped: Int[Array, ""]
    params: Tree
    stats: Tree
    opt_state: Any
    totals: Totals
    telemetry: Tree = {}


class Objective(NamedTuple):
    """What is minimised, and under which dropout.

    Attributes:
        forward: the network.
        standardise: raw images to what the network sees.
        rows: the resolved plan.
        timeline: the length of the run, which schedules refer to.
        bits: the generator of the masks.
        label_smoothing: the mass spread evenly over all classes.
        augmentations: what is done to the standardised images.
        places: where the plan's learned rules act.
        train_size: the number of training examples, which regularisers are spread over.
        draws: how many times each example's masks are drawn in a step; the loss is the
            mean over draws, and what no mask reaches is computed once.
        consistency: what it costs that draws disagree.
        watched: the sites that telemetry watches, with their channels.
    """

    forward: Forward
    standardise: Callable[[Array], Array]
    rows: tuple[Row, ...]
    timeline: Timeline
    bits: Generator
    label_smoothing: float
    augmentations: tuple[Call, ...] = ()
    places: tuple[Place, ...] = ()
    train_size: int = 1
    draws: int = 1
    consistency: Call = Call("none")
    watched: tuple[tuple[str, int], ...] = ()


Metrics = dict[str, Float[Array, "*members"] | Bool[Array, "*members"]]
Answer = tuple[Int[Array, "n *positions"], Float[Array, " n"]]
TrainStep = Callable[[State, Batch, Key[Array, ""]], tuple[State, Metrics]]


def empty_totals() -> Totals:
    """Totals of no example."""
    return Totals(*(jnp.zeros((), jnp.float32) for _ in range(3)))


def initial_state(params: Tree, stats: Tree, optimizer) -> State:
    """The state before the first step."""
    with jax.numpy_dtype_promotion("standard"):
        opt_state = optimizer.init(params)
    # Two arrays, not one twice: each is donated to the step.
    done, skipped = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)
    return State(done, skipped, params, stats, opt_state, empty_totals())


def steps_done(state: State) -> int:
    """The steps done, which are the same for all members of a population."""
    return int(np.asarray(state.step).max())


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    max_norm: float,
    on_trace: Callable[[], None],
) -> TrainStep:
    """A step to be jitted: (state, batch, key of the masks) -> (state, metrics).

    Where the loss or its gradient is not finite, `finite` is false in the metrics and
    nothing changes but the counts of steps.
    `on_trace` is called whenever the step is traced, so that compilations are counted.
    """

    def train_step(
        state: State, batch: Batch, key: Key[Array, ""]
    ) -> tuple[State, Metrics]:
        on_trace()
        watched = with_zeros(state.params, state.telemetry)
        gradient, stats, sums = accumulate(
            objective, state._replace(params=watched), batch, key
        )
        seen, gradient = zeros_of(gradient), without_zeros(gradient)
        gradient = jax.tree.map(lambda leaf: leaf / sums.examples, gradient)
        if objective.places:
            of_penalty = jax.grad(mean_penalty, argnums=1)(
                objective, state.params, state.step
            )
            gradient = jax.tree.map(jnp.add, gradient, of_penalty)
        finite = all_finite((sums.loss, gradient))
        params, opt_state = _update(optimizer, gradient, state, max_norm)
        totals = Totals(*map(jnp.add, state.totals, sums))
        after = state._replace(
            params=params,
            stats=stats,
            opt_state=opt_state,
            totals=totals,
            telemetry=jax.tree.map(jnp.add, state.telemetry, seen),
        )
        after = jax.tree.map(lambda *pair: jax.lax.select(finite, *pair), after, state)
        metrics = {
            "loss": sums.loss / sums.examples,
            "accuracy": sums.correct / sums.examples,
            "finite": finite,
        }
        skipped = jnp.where(finite, state.skipped, state.skipped + 1)
        return after._replace(step=state.step + 1, skipped=skipped), metrics

    return train_step


def accumulate(
    objective: Objective, state: State, batch: Batch, key: Key[Array, ""]
) -> tuple[Tree, Tree, Totals]:
    """Gradient and sums over a batch, micro-batch by micro-batch; new statistics."""
    differentiate = jax.value_and_grad(summed_loss, argnums=1, has_aux=True)

    def add(carry: tuple, part: Batch) -> tuple[tuple, None]:
        gradient, stats, sums = carry
        (loss, (correct, stats)), part_gradient = differentiate(
            objective, state.params, stats, state.step, part, key
        )
        part_sums = Totals(loss, correct, part.weights.sum())
        gradient = jax.tree.map(jnp.add, gradient, part_gradient)
        return (gradient, stats, Totals(*map(jnp.add, sums, part_sums))), None

    zeros = jax.tree.map(jnp.zeros_like, state.params)
    first = jax.tree.map(lambda leaf: leaf[0], batch)
    rest = jax.tree.map(lambda leaf: leaf[1:], batch)
    carry, _ = add((zeros, state.stats, empty_totals()), first)
    # A loop, even of one trip, takes XLA:CPU's fast convolutions away.
    if rest.labels.shape[0]:
        carry, _ = jax.lax.scan(add, carry, rest)
    return carry


def all_finite(tree: Any) -> Bool[Array, ""]:
    """Whether no number in a tree is infinite or NaN."""
    leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    return jnp.stack(leaves).all()


def mean_penalty(
    objective: Objective, params: Tree, step: Int[Array, ""]
) -> Float[Array, ""]:
    """The regularisers of learned dropout, as a part of the mean loss."""
    places, timeline = objective.places, objective.timeline
    return total_penalty(params, places, step, timeline) / objective.train_size


def summed_loss(
    objective: Objective,
    params: Tree,
    stats: Tree,
    step: Int[Array, ""],
    part: Batch,
    key: Key[Array, ""],
) -> tuple[Float[Array, ""], tuple[Float[Array, ""], Tree]]:
    """The loss summed over a micro-batch, with correct answers and new statistics."""
    epoch = step // objective.timeline.steps_per_epoch
    images, answers = examples_of(objective, part)

    def predict(draw: Int[Array, ""] | int) -> tuple[Array, Tree]:
        moment = Moment(key, part.examples, epoch, step, draw)
        drop = drop_at(objective, params, step, moment, "train")
        drop = watch(drop, zeros_of(params))
        return objective.forward(params, stats, images, drop, part.weights)

    if objective.draws == 1:
        logits, after = predict(0)
        loss, correct = score(objective, logits, answers)
        return loss, (correct, after)
    # What does not depend on the draw is not mapped: the trunk is computed once.
    logits, after = jax.vmap(predict)(jnp.arange(objective.draws))
    losses, correct = jax.vmap(lambda draw: score(objective, draw, answers))(logits)
    apart = disagreement(objective.consistency, logits) * part.weights
    after = jax.tree.map(lambda leaf: leaf.mean(0), after)
    return losses.mean() + apart.sum(), (correct.mean(), after)


def score(
    objective: Objective, logits: Float[Array, "n *positions c"], answers: list[Answer]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The summed loss of weighted labels, and the summed weight of correct answers."""
    losses = [
        cross_entropy(logits, labels, objective.label_smoothing)
        for labels, _ in answers
    ]
    correct = [correct_weight(logits, *answer) for answer in answers]
    summed = [jnp.sum(loss * weights) for loss, (_, weights) in zip(losses, answers)]
    return reduce(jnp.add, summed), reduce(jnp.add, correct)


def drop_at(
    objective: Objective,
    params: Tree,
    step: Int[Array, ""],
    moment: Moment | None,
    mode: Mode,
) -> Drop:
    """The plan's `drop` with the rates of a step and the parameters it has learned."""
    rates = rates_at(objective.rows, step, objective.timeline)
    learned = learned_of(params)
    return bind(objective.rows, rates, moment, mode, objective.bits, learned)


def examples_of(
    objective: Objective, part: Batch
) -> tuple[Float[Array, "n h w c"], list[Answer]]:
    """What the network sees of a micro-batch, and the weighted labels to be found.

    A mixed image has two labels, whose weights sum to that of the example.
    """
    images = objective.standardise(part.images)
    if part.draws is None:
        return images, [(part.labels, part.weights)]
    keys, others = part.draws
    partners = None if others is None else objective.standardise(others.images)
    images, shares = augment(objective.augmentations, images, partners, keys)
    if others is None or shares is None:
        return images, [(part.labels, part.weights)]
    return images, [
        (part.labels, part.weights * shares),
        (others.labels, part.weights * (1 - shares)),
    ]


def correct_weight(
    logits: Float[Array, "n *positions classes"],
    labels: Int[Array, "n *positions"],
    weights: Float[Array, " n"],
) -> Float[Array, ""]:
    """The summed weight of the examples whose largest logit is that of their label.

    Of an example with several positions, the share of them counts.
    """
    correct = (logits.argmax(-1) == labels).astype(jnp.float32)
    return jnp.sum(mean_over_positions(correct) * weights)


def cross_entropy(
    logits: Float[Array, "n *positions classes"],
    labels: Int[Array, "n *positions"],
    smoothing: float,
) -> Float[Array, " n"]:
    """Cross-entropy with targets (1 - smoothing) one-hot + smoothing / classes.

    Of an example with several positions, the mean over them.
    """
    targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=jnp.float32)
    targets = optax.smooth_labels(targets, smoothing)
    losses = optax.softmax_cross_entropy(logits.astype(jnp.float32), targets)
    return mean_over_positions(losses)


def mean_over_positions(
    values: Float[Array, "n *positions"],
) -> Float[Array, " n"]:
    """The mean over all axes but the first."""
    return values.mean(range(1, values.ndim)) if values.ndim > 1 else values


def _update(optimizer, gradient: Tree, state: State, max_norm: float) -> tuple:
    # Optax mixes dtypes on purpose; our own code stays under strict promotion.
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
    return (bound_norms(params, max_norm) if max_norm else params), opt_state
