"""Whole networks beside torchvision's, timm's, Keras' and ones written in PyTorch.

They have the same weights: logits, the gradient of every parameter, and running
statistics after a batch.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from variant_cases import QUICK

from dropout import identity
from dropout.grammar import parse_call
from models import MODELS
from parity.made import normal, projected
from parity.networks import IMAGES, ROWS, flat, images_of, our_network
from parity.recorded import recorded

FAST = ("cnn(widths=(3, 4), dense=5)", "lstm(units=5)", "mlp(widths=(6, 5))")


def marks(text):
    if text in FAST:
        return ()
    return (pytest.mark.slow,)


CASES = [pytest.param(text, marks=marks(text)) for text in IMAGES]


def test_every_network_is_compared():
    assert {parse_call(text).name for text in IMAGES} == set(MODELS)


def logits_and_statistics(text, params, images, mode):
    network = our_network(text)
    weights = jnp.ones(ROWS) if mode == "train" else None
    return network.forward(params, network.stats, images, identity, weights)


def in_evaluation(text):
    forward = partial(logits_and_statistics, text, mode="eval")
    params = our_network(text).params
    return jax.jit(forward, compiler_options=QUICK)(params, images_of(text))[0]


def in_training(text, mode):
    """Logits, gradients in the parameters and images, and the statistics after them."""

    def loss(params, images):
        logits, stats = logits_and_statistics(text, params, images, mode)
        return jnp.vdot(logits, normal("cotangent", logits.shape)), (logits, stats)

    gradient = jax.jit(jax.grad(loss, (0, 1), has_aux=True), compiler_options=QUICK)
    params = our_network(text).params
    (slopes, to_images), (logits, stats) = gradient(params, images_of(text))
    return logits, {**flat(slopes), "images": to_images}, flat(stats)


def assert_close(found, expected):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("text", CASES)
def test_logits_are_another_librarys(text):
    assert_close(in_evaluation(text), recorded("networks", text)["eval/logits"])


@pytest.mark.slow
@pytest.mark.parametrize("text", CASES)
def test_gradients_and_statistics_are_another_librarys(text):
    """Keras is asked for logits alone. A bias before a norm has no gradient."""
    theirs = recorded("networks", text)
    mode = "train" if "train/logits" in theirs else "eval"
    logits, slopes, stats = in_training(text, mode)
    assert_close(logits, theirs[f"{mode}/logits"])
    if f"{mode}/gradients" not in theirs:
        return
    error = np.abs(projected(slopes) - theirs[f"{mode}/gradients"])
    lengths = theirs[f"{mode}/lengths"]
    worst = (error / (lengths + 1e-2 * lengths.max())).max()
    assert worst < 1e-4, worst
    statistics = theirs[f"{mode}/statistics"]
    np.testing.assert_allclose(projected(stats), statistics, rtol=1e-5, atol=1e-5)
