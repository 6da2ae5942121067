"""Weight variants: masks, moments of a layer, and what tells them from activations."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from variant_cases import draw

from dropout.variants.kernels import moment_matched

KEY = jax.random.key(36)
RATE = 0.3
ROWS = 8192


def convolve(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize(
    ("drop", "axes"),
    [
        ("element", ()),
        ("filter", (1, 2, 3)),
        ("input", (1, 2, 4)),
        ("slice", (1, 2)),
        ("tap", (3, 4)),
    ],
)
def test_kernel_dropout_drops_whole_slices(drop, axes):
    y = draw("kernel_dropout", KEY, jnp.ones((64, 3, 2, 4, 5)), RATE, drop=drop)
    first = y[tuple(slice(1) if i in axes else slice(None) for i in range(5))]
    assert (y == first).all()
    for axis in set(range(5)) - set(axes):
        assert not (y == jnp.take(y, jnp.asarray([0]), axis)).all()


def test_dense_kernels_and_tables():
    table = jnp.ones((64, 10, 4))
    for y in (
        draw("embedding", KEY, table, RATE),
        draw("kernel_dropout", KEY, table, RATE, drop="input"),
    ):
        assert (y == y[:, :, :1]).all() and not (y == y[:, :1]).all()


def test_slices_of_a_dense_kernel_are_its_weights():
    """Bit for bit dropconnect; and the slices of a convolution are dropped at the
    nominal rate, |z| < 5."""
    dense = jax.random.normal(KEY, (64, 10, 4))
    slices = draw("kernel_dropout", KEY, dense, RATE, drop="slice")
    np.testing.assert_array_equal(slices, draw("dropconnect", KEY, dense, RATE))
    y = draw("kernel_dropout", KEY, jnp.ones((ROWS, 2, 2, 3, 2)), RATE, drop="slice")
    dropped = np.asarray(y)[:, 0, 0] == 0
    assert abs(dropped.mean() - RATE) < 5 * np.sqrt(RATE * (1 - RATE) / dropped.size)


def covariance(samples):
    centred = samples - samples.mean(0)
    return centred.T @ centred / len(samples)


def test_activation_and_kernel_masks_have_one_variance_and_other_covariances():
    """Of one output of a convolution Var = (p / q) conv(x^2, W^2) either way; two
    outputs without a common input vary together when they miss the same taps, with
    (p / q) sum_k w_k^2 x_k x'_k, and else do not. 8192 draws, 5 standard errors."""
    x = jax.random.uniform(KEY, (1, 2, 8, 1), minval=0.5, maxval=1.5)
    kernel = jax.random.normal(jax.random.key(1), (2, 2, 1, 1))
    ratio = RATE / (1 - RATE)
    patches = np.stack([np.ravel(x[0, :, i : i + 2, 0]) for i in (0, 4)])
    weights = np.square(np.ravel(kernel))
    shared = ratio * (weights * patches[0] * patches[1]).sum()
    variances = ratio * (np.square(patches) * weights).sum(1)

    activations = draw("bernoulli", KEY, jnp.tile(x, (ROWS, 1, 1, 1)), RATE)
    kernels = draw("dropconnect", KEY, jnp.tile(kernel, (ROWS, 1, 1, 1, 1)), RATE)
    outputs = {
        "activation": convolve(activations, kernel),
        "kernel": jax.vmap(lambda k: convolve(x, k)[0])(kernels),
    }
    for name, expected in (("activation", 0.0), ("kernel", shared)):
        pair = np.float64(outputs[name][:, 0, :, 0])[:, [0, 4]]
        found = covariance(pair)
        products = np.prod(pair - pair.mean(0), axis=1)
        assert abs(found[0, 1] - expected) < 5 * products.std() / np.sqrt(ROWS), name
        for i in (0, 1):
            squares = np.square(pair[:, i] - pair[:, i].mean())
            error = squares.std() / np.sqrt(ROWS)
            assert abs(found[i, i] - variances[i]) < 5 * error, name


def test_dropconnect_is_bernoulli_on_the_kernel():
    kernel = jax.random.normal(KEY, (4, 3, 3, 2, 5))
    drawn = (draw(name, KEY, kernel, RATE) for name in ("dropconnect", "bernoulli"))
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize("name", ["gaussian", "dropconnect"])
def test_moments_of_a_dense_layer(name):
    """With a mask an example: mean W v, variance (p / q) W^2 v^2, no covariance between
    outputs; within 5 standard errors of 8192 draws."""
    v, kernel = jnp.float32([0.5, -1, 2, 1]), jax.random.normal(KEY, (4, 2))
    kernels = draw(name, KEY, jnp.tile(kernel, (ROWS, 1, 1)), RATE)
    u = np.float64(jnp.einsum("i,nio->no", v, kernels))
    variance = RATE / (1 - RATE) * np.float64((v**2) @ kernel**2)
    centred = u - np.float64(v @ kernel)
    assert (abs(centred.mean(0)) < 5 * np.sqrt(variance / ROWS)).all()
    squares = np.square(centred)
    assert (abs(squares.mean(0) - variance) < 5 * squares.std(0) / np.sqrt(ROWS)).all()
    assert abs(np.prod(centred, 1).mean()) < 5 * np.sqrt(variance.prod() / ROWS)


@pytest.mark.slow
def test_the_mean_activation_of_moment_matched_draws():
    """DropConnect's inference. For a rectifier: m Phi(m / s) + s phi(m / s), within 5
    standard errors of 4096 samples; and near the mean over all masks, whose moments it
    matches."""
    v = jax.random.uniform(KEY, (3, 6), minval=-1.0)
    kernel = jax.random.normal(jax.random.key(1), (6, 2))
    samples = 4096
    draws = jax.vmap(lambda key: moment_matched(key, v, RATE, kernel, jnp.matmul))
    y = jax.nn.relu(draws(jax.random.split(KEY, samples))).mean(0)
    mean = np.float64(v @ kernel)
    deviation = np.sqrt(RATE / (1 - RATE) * np.float64(v**2 @ kernel**2))
    z = mean / deviation
    expected = mean * stats.norm.cdf(z) + deviation * stats.norm.pdf(z)
    assert (abs(y - expected) < 5 * deviation / np.sqrt(samples)).all()
    masked = np.zeros_like(mean)
    for mask in product((0, 1), repeat=6):
        chance = (1 - RATE) ** sum(mask) * RATE ** (6 - sum(mask))
        scaled = np.float64(v) * mask / (1 - RATE)
        masked += chance * np.maximum(scaled @ np.float64(kernel), 0)
    assert (abs(expected - masked) < 0.1 * deviation).all()
    plain = moment_matched(KEY, v, 0.0, kernel, jnp.matmul)
    np.testing.assert_allclose(plain, v @ kernel, rtol=1e-6)


@pytest.mark.slow
def test_targeted_drops_only_the_smallest_of_each_unit():
    kernel = jax.random.normal(KEY, (2, 3, 4, 5))
    kernels = jnp.tile(kernel, (2048, 1, 1, 1, 1))
    columns = np.abs(np.asarray(kernel).reshape(24, 5))
    threshold = np.sort(columns, axis=0)[11]
    candidates = (columns <= threshold).reshape(kernel.shape)
    y = np.asarray(draw("targeted", KEY, kernels, RATE))
    np.testing.assert_array_equal(
        y[:, ~candidates], np.asarray(kernels)[:, ~candidates]
    )
    dropped = (y[:, candidates] == 0).mean(0)
    assert abs(dropped - RATE).max() < 5 * np.sqrt(RATE * (1 - RATE) / 2048)
    at_one = draw("targeted", KEY, kernels[:1], 1.0)[0]
    np.testing.assert_array_equal(at_one, jnp.where(candidates, 0, kernel))


def test_targeted_units_are_dropped_whole_or_not_at_all():
    kernel = jax.random.normal(KEY, (6, 8)) * jnp.arange(1.0, 9.0).reshape(1, -1)
    kernels = jnp.tile(kernel, (256, 1, 1))
    y = draw("targeted", KEY, kernels, 0.5, target=0.25, drop="unit")
    zero = np.asarray(y == 0)
    assert (zero.all(1) == zero.any(1)).all()
    smallest = np.argsort(np.linalg.norm(kernel, axis=0))[:2]
    assert set(np.flatnonzero(zero.any((0, 1)))) == set(smallest)
    with pytest.raises(ValueError, match="target=1.5"):
        draw("targeted", KEY, kernels, 0.5, target=1.5)


def test_ties_still_give_the_exact_number_of_candidates():
    y = draw("targeted", KEY, jnp.ones((1, 8, 3)), 1.0, target=0.5)
    np.testing.assert_array_equal((y == 0).sum(1), 4)
