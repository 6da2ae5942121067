"""Residual networks against a forward pass in NumPy, and how their kernels start.

Without norms, so that biases and signs of all activations count; on maps of odd and of
even size.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_cases import made
from variant_cases import QUICK

from models.transformer import SelfAttention

SIZES = [(9, 8), (8, 11)]


def network(text, image=(9, 8, 2)):
    """A network whose biases are not 0, and its parameters in float64."""
    model = made(text, image, 3, jax.random.key(1))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    shifted = jax.tree.map(lambda leaf: leaf + 0.05 * (leaf.ndim == 1), params)
    nnx.update(model, shifted)
    return model, jax.tree.map(np.float64, shifted)


def relu(x):
    return np.maximum(x, 0)


def windows(x, size, stride, fill):
    """Windows with half a kernel of padding on each side: (n, h, w, size, size, c)."""
    before = (size - 1) // 2
    pads = ((0, 0), (before, size // 2), (before, size // 2), (0, 0))
    padded = np.pad(x, pads, constant_values=fill)
    found = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))
    return np.moveaxis(found[:, ::stride, ::stride], 3, -1)


def conv(x, layer, stride=1):
    kernel = layer["kernel"]
    seen = windows(x, kernel.shape[0], stride, 0)
    return np.einsum("nhwijc,ijcd->nhwd", seen, kernel) + layer["bias"]


def head(x, params):
    return x.mean((1, 2)) @ params["out"]["kernel"] + params["out"]["bias"]


def residual(x, params, stride, strides):
    """A branch of convolutions with their strides, beside a shortcut."""
    branch = x
    for number, each in enumerate(strides, 1):
        branch = conv(branch, params[f"conv{number}"], each)
        branch = relu(branch) if number < len(strides) else branch
    if "shortcut" in params:
        return relu(branch + conv(x, params["shortcut"], stride))
    x = x[:, ::stride, ::stride]
    zeros = np.zeros((*x.shape[:3], branch.shape[-1] - x.shape[-1]))
    return relu(branch + np.concatenate([x, zeros], -1))


def resnet(x, params):
    x = relu(conv(x, params["conv1"]))
    for number, stride in enumerate((1, 2, 2), 1):
        x = residual(x, params[f"block{number}"], stride, (stride, 1))
    return head(x, params)


def resnet_imagenet(x, params):
    """The stride of a bottleneck is in its 3x3 convolution, torch's V1.5."""
    x = relu(conv(x, params["conv1"], 2))
    x = windows(x, 3, 2, -np.inf).max((3, 4))
    for number, stride in enumerate((1, 2, 2, 2), 1):
        x = residual(x, params[f"block{number}"], stride, (1, stride, 1))
    return head(x, params)


def wrn(x, params):
    """The projection reads the first activation, not the block's input."""
    x = conv(x, params["conv1"])
    for number, stride in enumerate((1, 2, 2), 1):
        block = params[f"block{number}"]
        active = relu(x)
        branch = conv(relu(conv(active, block["conv1"], stride)), block["conv2"])
        changes = "shortcut" in block
        x = branch + (conv(active, block["shortcut"], stride) if changes else x)
    return head(relu(x), params)


def shake_shake(x, params):
    """The second half of a shortcut reads the pixels up and to the left."""
    x = conv(x, params["conv1"])
    for number, stride in enumerate((1, 2, 2), 1):
        block, entry = params[f"block{number}"], relu(x)
        paths = [
            conv(relu(conv(entry, path["conv1"], stride)), path["conv2"])
            for path in (block["path1"], block["path2"])
        ]
        if "shortcut" in block:
            shifted = np.zeros_like(entry)
            shifted[:, 1:, 1:] = entry[:, :-1, :-1]
            halves = zip((entry, shifted), ("conv1", "conv2"))
            x = np.concatenate(
                [conv(each, block["shortcut"][name], stride) for each, name in halves],
                -1,
            )
        x = x + (paths[0] + paths[1]) / 2
    return head(relu(x), params)


NETWORKS = {
    "resnet(depth=8, width=4, norm='none')": resnet,
    "resnet_imagenet(depth=14, width=4, norm='none')": resnet_imagenet,
    "wrn(depth=10, width=2, norm='none')": wrn,
    "shake_shake(depth=8, width=4, norm='none')": shake_shake,
}


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("text", NETWORKS)
def test_a_forward_pass_is_that_of_numpy(text, size, key):
    if "imagenet" in text:
        size = (4 * size[0] - 3, 4 * size[1])
    model, params = network(text, (*size, 2))
    images = 2 * jax.random.normal(key, (2, *size, 2))
    expected = NETWORKS[text](np.asarray(images, np.float64), params)
    scale = np.abs(expected).max()
    assert scale > 0.1
    forward = jax.jit(lambda images: model(images), compiler_options=QUICK)
    np.testing.assert_allclose(forward(images), expected, atol=2e-5 * scale)


def kernels(params, path=()):
    for name, value in params.items():
        if isinstance(value, dict):
            yield from kernels(value, (*path, name))
        elif name == "kernel" and value.ndim == 4:
            yield "/".join(path), value


@pytest.mark.slow
@pytest.mark.parametrize("text", NETWORKS)
def test_kernels_start_with_the_variance_of_he(text):
    """2 / fan-out (He et al. 2015, eq. 14): within five standard errors."""
    _, params = network(text)
    for name, kernel in kernels(params):
        height, width, _, outputs = kernel.shape
        found = (kernel**2).mean() * height * width * outputs / 2
        assert abs(found - 1) < 5 * np.sqrt(2 / kernel.size), (name, found)


@pytest.mark.slow
def test_attention_weights_are_as_exact_as_bfloat16_holds_them(key):
    """Rounding is off by 2^-8 at most; a sum in bfloat16 over 256 keys by far more."""
    layer = SelfAttention("attention", 8, 2, jax.random.key(2))
    seen = {}

    def drop(site, x, *others, **_):
        seen[site] = x
        return x if len(others) < 2 else others[1](x, others[0])

    x = 3 * jax.random.normal(key, (2, 256, 8))
    layer(x.astype(jnp.bfloat16), drop)
    found, logits = seen["attention/weights"], seen["attention/logits"]
    assert found.dtype == jnp.bfloat16
    exact = np.exp(np.float64(logits))
    exact /= exact.sum(-1, keepdims=True)
    np.testing.assert_allclose(np.float64(found), exact, rtol=1.02 * 2**-8, atol=1e-7)
