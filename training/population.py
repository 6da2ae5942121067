"""Populations: one program for members that differ in traced values.

`training.run.train_population(config, members, workdir)` trains `training.members`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Key

import dropout
from training.averages import averaging
from training.experiment import (
    Experiment,
    mask_key,
    optimizer_for,
    peak_learning_rate,
    run_mask_key,
)
from training.network import Tree
from training.norm_statistics import make_batch_statistics
from training.objective import Objective
from training.optimizer import Scalar
from training.runtime.devices import over_members, put, replicated
from training.scoring import make_evaluate_batch
from training.state import Batch, State, Totals
from training.step import Metrics, make_train_step

OptimizerOf = Callable[[Scalar, Scalar], optax.GradientTransformation]


class TracedMember(NamedTuple):
    """A `Member` as a compiled step takes it; the same fields, as arrays.

    Attributes:
        key: of the training masks.
        run_key: of the masks that are fixed for the whole run.
        rates: the full rate at each row of the plan, computed in float64 on the host.
        share: by which the average of the parameters moves at each step.
    """

    key: Key[Array, "*members"]
    run_key: Key[Array, "*members"]
    rates: Float[Array, "*members rows"]
    learning_rate: Float[Array, "*members"]
    weight_decay: Float[Array, "*members"]
    share: Float[Array, "*members"]


MemberStep = Callable[[State, Batch, TracedMember], tuple[State, Metrics]]


def make_member_step(
    objective: Objective,
    optimizer: OptimizerOf,
    max_norm: float,
    on_trace: Callable[[], None],
) -> MemberStep:
    """Return a training step of one member."""

    def member_step(
        state: State, batch: Batch, member: TracedMember
    ) -> tuple[State, Metrics]:
        step = make_train_step(
            objective_with_rates(objective, member.rates)._replace(
                run_key=member.run_key
            ),
            optimizer(member.learning_rate, member.weight_decay),
            max_norm,
            on_trace,
        )
        return averaging(step, member.share)(state, batch, member.key)

    return member_step


def freezing(step: MemberStep) -> MemberStep:
    """Return a step that changes nothing more once a step was not finite."""

    def step_or_stay(
        state: State, batch: Batch, member: TracedMember
    ) -> tuple[State, Metrics]:
        after, metrics = step(state, batch, member)
        stayed = state._replace(step=state.step + 1, skipped=state.skipped + 1)
        goes_on = state.skipped == 0
        kept = jax.tree.map(lambda *pair: jax.lax.select(goes_on, *pair), after, stayed)
        return kept, metrics

    return step_or_stay


def make_member_evaluate(
    objective: Objective,
) -> Callable[[TracedMember, State, Array, Array, Array], Totals]:
    """`make_evaluate_batch` of one member."""

    def member_evaluate(
        member: TracedMember, state: State, images: Array, labels: Array, weights: Array
    ) -> Totals:
        evaluate = make_evaluate_batch(objective_with_rates(objective, member.rates))
        return evaluate(state, images, labels, weights)

    return member_evaluate


def make_member_statistics(
    objective: Objective,
) -> Callable[[TracedMember, State, Array, Array], Tree]:
    """`make_batch_statistics` of one member."""

    def member_statistics(
        member: TracedMember, state: State, images: Array, weights: Array
    ) -> Tree:
        statistics = make_batch_statistics(
            objective_with_rates(objective, member.rates)
        )
        return statistics(state, images, weights)

    return member_statistics


def objective_with_rates(
    objective: Objective, rates: Float[Array, " rows"]
) -> Objective:
    """Return the objective at other full rates."""
    return objective._replace(rows=dropout.with_rates(objective.rows, rates))


def traced_members(experiment: Experiment) -> TracedMember:
    """Return a run, or all members of a population, on their devices."""
    runs = [_traced(run) for run in experiment.runs]
    if not experiment.members:
        return put(runs[0], replicated(experiment.mesh))
    members = jax.tree.map(lambda *leaves: jnp.stack(leaves), *runs)
    return put(members, over_members(experiment.mesh))


def experiment_step(experiment: Experiment, on_trace: Callable[[], None]) -> MemberStep:
    """Return the training step of a run, or of all members, to be jitted.

    A run on its own gets its rates, learning rate and weight decay as traced values, as
    a member does. As constants, the compiler would round them differently, which is
    visible after 200 steps.
    """
    config = experiment.config
    step = make_member_step(
        experiment.objective,
        partial(optimizer_for, config, experiment.timeline),
        config.max_norm,
        on_trace,
    )
    if not experiment.members:
        return step
    if config.on_nan == "stop":
        step = freezing(step)
    return map_members(step, experiment.mesh)


def _traced(run: Experiment) -> TracedMember:
    return TracedMember(
        mask_key(run),
        run_mask_key(run.keys),
        jnp.array([row.rate for row in run.rows], jnp.float32),
        jnp.float32(peak_learning_rate(run.config)),
        jnp.float32(run.config.weight_decay),
        jnp.float32(1 - run.config.ema),
    )


def map_members(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Apply a function to each member, along the first axis of all its arguments.

    Members are spread over the mesh. Those on one device are vectorised, but taken one
    after the other on the CPU, whose convolutions are slow over kernels that differ.
    An argument with a single member is the same for all.
    """
    vectorised = jax.vmap(function)

    def in_turn(*arguments: Any) -> Any:
        return jax.lax.map(lambda each: function(*each), arguments)

    spread = PartitionSpec("members")
    on_each_device = jax.shard_map(
        in_turn if jax.default_backend() == "cpu" else vectorised,
        mesh=mesh,
        in_specs=spread,
        out_specs=spread,
        check_vma=False,
    )

    def mapped(*arguments: Any) -> Any:
        leaves = jax.tree.leaves(arguments)
        members = max(leaf.shape[0] for leaf in leaves)
        repeated = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (members, *leaf.shape[1:])), arguments
        )
        return on_each_device(*repeated)

    return mapped
