"""Whole networks beside torchvision's, timm's, Keras' and ones written in PyTorch.

They have the same weights: logits, the gradient of every parameter, and running
statistics after a batch.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity.made import normal, projected
from parity.networks import IMAGES, ROWS, flat, images_of, our_network
from parity.recorded import recorded
from sampling import sampled
from variant_cases import QUICK

from dropout import identity
from dropout.grammar import parse_call
from models import MODELS

FAST = ("cnn(widths=(3, 4), dense=5)", "lstm(units=5)", "mlp(widths=(6, 5))")


def test_every_network_is_compared():
    assert {parse_call(text).name for text in IMAGES} == set(MODELS)


def ours(text, weights):
    """Logits, gradients in the parameters and images, and the statistics after them."""
    network = our_network(text)

    def loss(params, images):
        logits, stats = network.forward(
            params, network.stats, images, identity, weights
        )
        return jnp.vdot(logits, normal("cotangent", logits.shape)), (logits, stats)

    gradient = jax.jit(jax.grad(loss, (0, 1), has_aux=True), compiler_options=QUICK)
    (slopes, to_images), (logits, stats) = gradient(network.params, images_of(text))
    return logits, {**flat(slopes), "images": to_images}, flat(stats)


@pytest.mark.parametrize("text", sampled(IMAGES, FAST))
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_network_is_another_librarys(text, mode):
    theirs = recorded("networks", text)
    if f"{mode}/logits" not in theirs:
        pytest.skip("the network does the same in both modes")
    logits, slopes, stats = ours(text, jnp.ones(ROWS) if mode == "train" else None)
    expected = theirs[f"{mode}/logits"]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * scale)
    if f"{mode}/gradients" in theirs:
        error = np.abs(projected(slopes) - theirs[f"{mode}/gradients"])
        worst = (error / theirs[f"{mode}/lengths"]).max()
        assert worst < 1e-4, worst
        np.testing.assert_allclose(
            projected(stats), theirs[f"{mode}/statistics"], rtol=1e-5, atol=1e-5
        )
