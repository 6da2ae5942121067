"""Residual blocks beside the same blocks written in torch, given the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dropout import identity
from models.residual import BASIC, BOTTLENECK, Block
from parity.peers import peer

torch = peer("torch")

pytestmark = pytest.mark.parity

INPUTS, WIDTH, SHAPE = 6, 8, (5, 8, 8, 6)
CASES = [
    (BASIC, 1, True), (BASIC, 2, True), (BASIC, 2, False),
    (BOTTLENECK, 1, True), (BOTTLENECK, 2, True),
]  # fmt: skip


def ours(sizes, stride, projection):
    """A block whose norms scale and shift at random."""
    block = Block(
        "block1", (INPUTS, WIDTH), sizes=sizes, stride=stride, projection=projection,
        norm="batch", key=jax.random.key(0),
    )  # fmt: skip
    params = nnx.to_pure_dict(nnx.state(block, nnx.Param))
    keys = iter(jax.random.split(jax.random.key(1), 99))
    noisy = jax.tree.map(
        lambda leaf: leaf + 0.3 * jax.random.normal(next(keys), leaf.shape), params
    )
    nnx.update(block, noisy)
    return block


def unit(layer, stride):
    """A convolution and its norm in torch, with our layer's weights."""
    kernel = torch.tensor(np.asarray(layer.kernel[...]).transpose(3, 2, 0, 1))
    outputs, inputs, size, _ = kernel.shape
    conv = torch.nn.Conv2d(
        inputs, outputs, size, stride=stride, padding=size // 2, bias=False
    )
    norm = torch.nn.BatchNorm2d(outputs, eps=1e-5, momentum=0.1)
    with torch.no_grad():
        conv.weight.copy_(kernel)
        norm.weight.copy_(torch.tensor(np.asarray(layer.norm.scale[...])))
        norm.bias.copy_(torch.tensor(np.asarray(layer.norm.bias[...])))
    return torch.nn.Sequential(conv, norm)


class Theirs(torch.nn.Module):
    def __init__(self, block, sizes, stride):
        super().__init__()
        strides = (1, stride, 1) if sizes == BOTTLENECK else (stride, 1)
        layers = [getattr(block, name) for name in block.convs]
        self.branch = torch.nn.ModuleList(map(unit, layers, strides))
        self.shortcut = block.shortcut and unit(block.shortcut, stride)
        self.stride = stride

    def forward(self, x):
        y = x
        for layer in self.branch[:-1]:
            y = torch.relu(layer(y))
        y = self.branch[-1](y)
        if self.shortcut is not None:
            return torch.relu(y + self.shortcut(x))
        x = x[:, :, :: self.stride, :: self.stride]
        zeros = torch.zeros(x.shape[0], y.shape[1] - x.shape[1], *x.shape[2:])
        return torch.relu(y + torch.cat([x, zeros], 1))


def channels_first(x):
    return torch.tensor(np.asarray(x).transpose(0, 3, 1, 2))


def share_statistics(layers, theirs):
    """Checks the running means, and gives torch our variances: its own are unbiased."""
    for layer, (_, norm) in zip(layers, theirs, strict=True):
        mean, var = (np.asarray(x[...]) for x in (layer.norm.mean, layer.norm.var))
        np.testing.assert_allclose(norm.running_mean, mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(norm.running_var, var, rtol=1e-2)
        norm.running_var.copy_(torch.tensor(var))


@pytest.mark.parametrize(("sizes", "stride", "projection"), CASES)
def test_a_residual_block_is_torchs(sizes, stride, projection):
    block = ours(sizes, stride, projection)
    theirs = Theirs(block, sizes, stride)
    images = jax.random.normal(jax.random.key(2), SHAPE)

    def check(row_weights):
        found = block(images, identity, row_weights)
        expected = theirs(channels_first(images)).detach().numpy()
        expected = expected.transpose(0, 2, 3, 1)
        assert (expected > 0).mean() > 0.2
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5)

    check(jnp.ones(SHAPE[0]))
    share_statistics([getattr(block, name) for name in block.convs], theirs.branch)
    if block.shortcut:
        share_statistics([block.shortcut], [theirs.shortcut])
    theirs.eval()
    check(None)
