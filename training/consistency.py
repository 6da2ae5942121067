"""Several draws of the masks in one step, and the penalty on their disagreement."""

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dropout.grammar import Call, Interval, check_options, lookup

Logits = Float[Array, "draws n *positions classes"]
PlainLogits = Float[Array, "n *positions classes"]
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


def fraternal(logits: Logits, *, kappa: Strength = 0.1) -> Float[Array, " n"]:
    """Return how far apart the logits of each example's draws are.

    Formula: kappa times the mean of (z_i - z_j)^2 over classes and over all pairs of
        different draws, z the logits; the positions of an example are averaged.
    Source: Zolna et al. 2018, "Fraternal Dropout", ICLR; with two draws it is their
        loss, the mean of both cross-entropies included.
    """
    return kappa * _squared_distance(logits.astype(jnp.float32))


def pi_model(logits: Logits, *, weight: Strength = 1.0) -> Float[Array, " n"]:
    """Return how far apart the predictions of each example's draws are (Pi model).

    Formula: weight times the mean of (p_i - p_j)^2 over classes and over all pairs of
        different draws, p the probabilities; the positions of an example are averaged.
    Source: Laine & Aila 2017, "Temporal Ensembling for Semi-Supervised Learning", ICLR.
        Their weight rises from 0 in the first epochs, each pass augments the images
        anew, unlabelled images are penalised too, and the cross-entropy is of one pass
        alone.
    """
    return weight * _squared_distance(jax.nn.softmax(logits.astype(jnp.float32)))


def expectation_linear(
    logits: Logits, plain: PlainLogits, *, weight: Strength = 1.0
) -> Float[Array, " n"]:
    """Return how far each example's logits with masks are from those at test.

    Formula: weight times the mean of (z_i - z)^2 over classes and draws, z_i the logits
        of a draw and z those with each variant's form at test, in the same batch; the
        positions of an example are averaged. Gradients flow through both.
    Source: Ma et al. 2017, "Dropout with Expectation-linear Regularization", ICLR, on
        the logits, as Zolna et al. 2018 compare with it; the paper takes the last
        hidden layer.
    """
    apart = jnp.square(logits.astype(jnp.float32) - plain.astype(jnp.float32)[None])
    return weight * apart.mean((0, *range(2, apart.ndim)))


def _squared_distance(values: Logits) -> Float[Array, " n"]:
    """The mean of (v_i - v_j)^2 over pairs of different draws and all but examples."""
    draws = values.shape[0]
    spread = jnp.square(values - values.mean(0, keepdims=True)).sum(0)
    return 2 * spread.mean(range(1, spread.ndim)) / (draws - 1)


CONSISTENCIES: dict[str, Penalty] = {
    function.__name__: function
    for function in (none, rdrop, fraternal, pi_model, expectation_linear)
}
WITH_ONE_DRAW = ("none", "expectation_linear")


def check_consistency(call: Call) -> None:
    """Raise ValueError for an unknown penalty, option or value."""
    kind = "consistency"
    check_options(kind, call, lookup(kind, call.name, CONSISTENCIES))


def draws_of(call: Call, samples: int) -> int:
    """Return the number of draws in a step, at least two where they are compared."""
    return samples if call.name in WITH_ONE_DRAW else max(samples, 2)


def disagreement(
    call: Call, logits: Logits, plain: Callable[[], PlainLogits]
) -> Float[Array, " n"]:
    """Return the penalty that is added to the loss of each example.

    Args:
        call: the penalty.
        logits: those of each draw.
        plain: computes the logits as at test, if the penalty needs them.
    """
    function = CONSISTENCIES[call.name]
    given = (plain(),) if function is expectation_linear else ()
    return function(logits, *given, **dict(call.options))
