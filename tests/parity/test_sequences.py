"""Recurrent layers and the transformer's block beside PyTorch's, given its weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dropout import identity
from models.recurrence import CELLS, Recurrence
from models.transformer import TransformerBlock
from parity.peers import peer

torch = peer("torch")

pytestmark = pytest.mark.parity

ROWS, TIME, FEATURES, UNITS, HEADS = 3, 7, 8, 8, 2


def array(tensor):
    return jnp.asarray(tensor.detach().numpy())


def inputs(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, TIME, FEATURES, generator=generator)


def dense(layer):
    """A linear layer's parameters; PyTorch keeps kernels the other way round."""
    return {"kernel": array(layer.weight).T, "bias": array(layer.bias)}


def norm(layer):
    return {"scale": array(layer.weight), "bias": array(layer.bias)}


def tanh_gelu(x):
    return torch.nn.functional.gelu(x, approximate="tanh")


@pytest.mark.parametrize("kind", CELLS)
def test_recurrent_layers_equal_those_of_torch(kind):
    """PyTorch's LSTM has two biases, which add up: its second one is left at 0."""
    torch.manual_seed(1)
    theirs = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind](
        FEATURES, UNITS, batch_first=True
    )
    second = {"bias": array(theirs.bias_hh_l0)} if kind == "gru" else {}
    if kind == "lstm":
        torch.nn.init.zeros_(theirs.bias_hh_l0)
    ours = Recurrence(kind, kind, FEATURES, UNITS, jax.random.key(0))
    nnx.update(ours, {
        "kernel": array(theirs.weight_ih_l0).T,
        "recurrent": {"kernel": array(theirs.weight_hh_l0).T, **second},
        "bias": array(theirs.bias_ih_l0),
    })  # fmt: skip
    x = inputs(2)
    found, expected = ours(array(x), identity), array(theirs(x)[0])
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_block_of_a_transformer_equals_that_of_torch():
    torch.manual_seed(3)
    theirs = torch.nn.TransformerEncoderLayer(
        FEATURES, HEADS, 4 * FEATURES, dropout=0.0, activation=tanh_gelu,
        layer_norm_eps=1e-6, batch_first=True, norm_first=True,
    )  # fmt: skip
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    attention = theirs.self_attn
    ours = TransformerBlock("block1", FEATURES, HEADS, jax.random.key(0))
    nnx.update(ours, {
        "norm1": norm(theirs.norm1),
        "norm2": norm(theirs.norm2),
        "attention": {
            "qkv": {
                "kernel": array(attention.in_proj_weight).T,
                "bias": array(attention.in_proj_bias),
            },
            "out": dense(attention.out_proj),
        },
        "mlp": {"hidden": dense(theirs.linear1), "out": dense(theirs.linear2)},
    })  # fmt: skip
    x = inputs(4)
    np.testing.assert_allclose(
        ours(array(x), identity), array(theirs(x)), rtol=1e-5, atol=1e-4
    )
