"""The moving average of a network's parameters, evaluated beside the last ones.

After each step that changes the parameters p, the average e is e + (1 - decay) (p - e).
It begins at the initial parameters, which still weigh 0.37 after 1 / (1 - decay) steps.
Running statistics of norms are averaged alike, because they belong to the parameters.
Source: Szegedy et al. 2016, "Rethinking the Inception Architecture for Computer
Vision", CVPR, section 8.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from training.network import Tree
from training.state import Batch, State
from training.step import Metrics, TrainStep


def begun_average(params: Tree, stats: Tree, decay: float) -> Tree:
    """Return the average before the first step; it is empty where none is asked for."""
    # Copies: what is donated to a step must not be there twice.
    return jax.tree.map(jnp.copy, _of(params, stats)) if decay else {}


def averaging(step: TrainStep, share: Float[Array, ""]) -> TrainStep:
    """Return a step that also moves the average by `share` of the way to its result.

    Without an average it is the step itself; a step that changes nothing moves nothing.
    """

    def step_and_average(
        state: State, batch: Batch, key: Key[Array, ""]
    ) -> tuple[State, Metrics]:
        after, metrics = step(state, batch, key)
        moved = jax.tree.map(
            lambda old, new: jnp.where(
                metrics["finite"], old + share * (new - old), old
            ),
            state.average,
            _of(after.params, after.stats) if state.average else {},
        )
        return after._replace(average=moved), metrics

    return step_and_average


def at_average(state: State) -> State:
    """Return the state with the average in the place of its parameters."""
    return state._replace(**state.average)


def _of(params: Tree, stats: Tree) -> Tree:
    return {"params": params, "stats": stats}
