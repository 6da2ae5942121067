"""The training step: one pure function of the state, a batch and a key."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Key

from training.freezing import with_frozen
from training.network import Tree
from training.objective import Objective, mean_penalty, summed_loss
from training.optimizer import bound_norms
from training.state import Batch, State, Totals, empty_totals
from training.telemetry import with_zeros, without_zeros, zeros_of

# Of a step, by member in a population; of a call, with its steps along the first axis.
Metrics = dict[str, Float[Array, "..."] | Bool[Array, "..."]]
# The same on the host.
Shown = dict[str, np.ndarray]
TrainStep = Callable[[State, Batch, Key[Array, ""]], tuple[State, Metrics]]


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    max_norm: float,
    on_trace: Callable[[], None],
) -> TrainStep:
    """Return a step to be jitted: (state, batch, key of the masks) -> (state, metrics).

    If the loss or its gradient is not finite, `finite` is false in the metrics and
    nothing changes except the counts of steps.
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
        if objective.learned:
            of_penalty = jax.grad(mean_penalty, argnums=1)(
                objective, state.params, state.step
            )
            gradient = jax.tree.map(jnp.add, gradient, of_penalty)
        finite = all_finite((sums.loss, gradient))

        def updated() -> State:
            params, opt_state = _update(optimizer, gradient, state, max_norm)
            params = with_frozen(objective.train_only, state.params, params)
            return state._replace(
                params=params,
                stats=stats,
                opt_state=opt_state,
                totals=Totals(*map(jnp.add, state.totals, sums)),
                telemetry=jax.tree.map(jnp.add, state.telemetry, seen),
            )

        after = _if_finite(finite, updated, state)
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
    """Return gradient, new statistics and sums, micro-batch by micro-batch."""
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
    # XLA:CPU does not use its fast convolutions inside a loop, even of one trip.
    if rest.labels.shape[0]:
        carry, _ = jax.lax.scan(add, carry, rest)
    return carry


def all_finite(tree: Any) -> Bool[Array, ""]:
    """Return whether no number in a tree is infinite or NaN."""
    leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    return jnp.stack(leaves).all()


def _if_finite(
    finite: Bool[Array, ""], updated: Callable[[], State], state: State
) -> State:
    # On the CPU a selection would copy the old state, and a step of `mlp` takes 0.9 of
    # the time without it. An accelerator would wait for the host to choose a branch.
    if jax.default_backend() == "cpu":
        return jax.lax.cond(finite, updated, lambda: state)
    return jax.tree.map(partial(jax.lax.select, finite), updated(), state)


def _update(optimizer, gradient: Tree, state: State, max_norm: float) -> tuple:
    # Optax mixes dtypes on purpose; our own code stays under strict promotion.
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
    return (bound_norms(params, max_norm) if max_norm else params), opt_state
