"""The state before the first step of an experiment, its shapes and its devices."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from training.averages import begun_average
from training.dropout_parameters import with_learned, with_starts
from training.experiment import Experiment
from training.network import Tree
from training.runtime.devices import over_members, put, replicated
from training.state import State, initial_state
from training.telemetry import empty_sums


def start_state(experiment: Experiment) -> State:
    """Return the state before the first step, on the devices of the mesh."""
    begin = jax.jit(partial(_state, experiment))
    states = []
    for run in experiment.runs:
        params, stats = experiment.network.initial(run.keys["params"])
        states.append(begin(with_learned(params, run.objective.learned), stats))
    state = states[0]
    if experiment.members:
        state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    return put(state, state_sharding(experiment))


def state_shapes(experiment: Experiment) -> State:
    """Return the shapes and types of the state; nothing is computed."""
    network, learned = experiment.network, experiment.objective.learned

    def begin(params: Tree, stats: Tree) -> State:
        state = _state(experiment, with_learned(params, learned), stats)
        if not experiment.members:
            return state
        return jax.tree.map(lambda x: jnp.stack([x] * len(experiment.members)), state)

    return jax.eval_shape(begin, network.params, network.stats)


def state_sharding(experiment: Experiment) -> NamedSharding:
    """Return where the state lies: on every device, or each member on one."""
    spread = over_members if experiment.members else replicated
    return spread(experiment.mesh)


def _state(experiment: Experiment, params: Tree, stats: Tree) -> State:
    params = with_starts(params, experiment.rows)
    state = initial_state(params, stats, experiment.optimizer)
    return state._replace(
        telemetry=empty_sums(experiment.objective.watched),
        average=begun_average(state.params, state.stats, experiment.config.ema),
    )
