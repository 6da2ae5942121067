"""Several draws of the masks in one step, and the penalty on their disagreement."""

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dropout.grammar import Call, Interval, check_options, lookup

Logits = Float[Array, "draws n *positions classes"]
Strength = Annotated[float, Interval("[0, 1e9]")]
Penalty = Callable[..., Float[Array, " n"]]


def none(logits: Logits) -> Float[Array, " n"]:
    """Return no penalty."""
    return jnp.zeros(logits.shape[1], jnp.float32)


def rdrop(logits: Logits, *, alpha: Strength = 1.0) -> Float[Array, " n"]:
    """Return how far each example's predictions diverge between draws (R-Drop).

    Formula: alpha times the mean of KL(p_i || p_j) over all ordered pairs of different
        draws; for two of them alpha (KL(p_1 || p_2) + KL(p_2 || p_1)) / 2. The
        positions of an example are averaged.
    Source: Liang et al. 2021, "R-Drop: Regularized Dropout for Neural Networks",
        NeurIPS. Here the loss has the mean of the draws' cross-entropies, where the
        paper has their sum, so that this alpha is half of the paper's alpha.
    """
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    p, draws = jnp.exp(log_p), logits.shape[0]
    within = draws * (p * log_p).sum((0, -1))
    across = (p.sum(0) * log_p.sum(0)).sum(-1)
    divergence = (within - across) / (draws * (draws - 1))
    return alpha * divergence.reshape(divergence.shape[0], -1).mean(-1)


CONSISTENCIES: dict[str, Penalty] = {
    function.__name__: function for function in (none, rdrop)
}


def check_consistency(call: Call) -> None:
    """Raise ValueError for an unknown penalty, option or value."""
    kind = "consistency"
    check_options(kind, call, lookup(kind, call.name, CONSISTENCIES))


def draws_of(call: Call, samples: int) -> int:
    """Return the number of draws in a step; a penalty needs at least two."""
    return samples if call.name == "none" else max(samples, 2)


def disagreement(call: Call, logits: Logits) -> Float[Array, " n"]:
    """Return the penalty that is added to the loss of each example."""
    return CONSISTENCIES[call.name](logits, **dict(call.options))
