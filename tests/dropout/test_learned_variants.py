"""Learned variants beside finite differences, quadrature and their fixed relatives."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampling import sampled
from scipy.integrate import quad
from variant_cases import QUICK

from dropout import (
    VARIANTS,
    Moment,
    Site,
    Timeline,
    bind,
    initial_parameters,
    learned_rows,
    parse,
    penalty,
    resolve,
)
from dropout.variants.learned.concrete import concrete_mean, spatial_concrete_penalty
from dropout.variants.learned.sparse_variational import (
    molchanov_divergence,
    sparse_prune,
)
from dropout.variants.learned.variational import kingma_divergence, variational_penalty
from models.convolution import convolution

KEY = jax.random.key(11)
TIMELINE = Timeline(10, 10)
SITES = (
    Site("fc1/kernel", (5, 4), "fc1/kernel"),
    Site("fc1/pre", (6, 4), "out/kernel"),
    Site("fc1", (6, 4), "out/kernel"),
    Site("out/kernel", (4, 3), "out/kernel"),
)
NAMES = tuple(site.name for site in SITES)
PLANS = {
    "concrete": "fc1:concrete:0.3",
    "spatial_concrete": "fc1:spatial_concrete:0.3",
    "variational": "fc1:variational:0.3",
    "variational a channel": "fc1:variational(share='channel'):0.3",
    "variational weights": "*/kernel:variational(share='weight'):0.3",
    "variational outputs": "*/kernel:variational(share='channel'):0.3",
    "sparse_variational": "*/kernel:sparse_variational:0.3",
    "l0_gate": "fc1:l0_gate:0.3",
}


@cache
def problem(plan):
    """The loss of a net of two layers with its regulariser, and its parameters."""
    rows = resolve(parse(plan), NAMES)
    learned = learned_rows(rows, SITES)
    first, second, third = jax.random.split(jax.random.key(3), 3)
    kernels = {
        "fc1/kernel": jax.random.normal(first, (5, 4)),
        "out/kernel": jax.random.normal(second, (4, 3)),
    }
    x = jax.random.normal(third, (6, 5))
    initial = initial_parameters(learned, kernels)

    def loss(params):
        kernels, parameters = params
        moment = Moment(KEY, jnp.arange(6), 0, 0)
        drop = bind(rows, moment, params=parameters)
        hidden = drop("fc1/kernel", x, kernels["fc1/kernel"], jnp.matmul)
        hidden = drop("fc1", jnp.tanh(drop("fc1/pre", hidden)))
        out = drop("out/kernel", hidden, kernels["out/kernel"], jnp.matmul)
        return jnp.square(out - 1).mean() + penalty(
            learned, parameters, kernels, 0, TIMELINE
        ) / 50  # fmt: skip

    return jax.jit(jax.value_and_grad(loss), compiler_options=QUICK), (kernels, initial)


@pytest.mark.parametrize("name", sampled(PLANS, ["concrete", "l0_gate", "variational"]))
def test_gradients_equal_finite_differences(name):
    """Along random directions in the variant's parameters and in the kernels."""
    loss, params = problem(PLANS[name])
    _, gradient = loss(params)
    leaves, tree = jax.tree.flatten(params)
    for part in (0, 1):
        random = np.random.default_rng(part)
        step = [random.normal(size=leaf.shape).astype(np.float32) for leaf in leaves]
        step = jax.tree.unflatten(tree, step)
        still = jax.tree.map(np.zeros_like, step[1 - part])
        step = (step[0], still) if part == 0 else (still, step[1])
        up, down = (
            float(loss(jax.tree.map(lambda p, d, h=h: p + h * d, params, step))[0])
            for h in (1e-3, -1e-3)
        )
        slope = sum(
            float((g * d).sum())
            for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(step))
        )
        # Rounding of a loss of about 1 in float32 over a step of 2e-3.
        assert (up - down) / 2e-3 == pytest.approx(slope, rel=1e-2, abs=2e-3), part
    assert all((leaf != 0).any() for leaf in jax.tree.leaves(gradient[1]))


def exact_divergence(log_alpha):
    """KL(N(1, alpha) || log-uniform), up to the constant that makes it 0 at infinity.

    -KL = 0.5 log alpha - E log|1 + sqrt(alpha) e| + C; for alpha without bound
    E log|1 + sqrt(alpha) e| is 0.5 log alpha + E log|e| = 0.5 log alpha - 0.6351814.
    """
    alpha = np.exp(log_alpha)

    def density(e):
        inner = np.log(abs(1 + np.sqrt(alpha) * e))
        return inner * np.exp(-e * e / 2) / np.sqrt(2 * np.pi)

    kink = -1 / np.sqrt(alpha)
    edges = sorted({-12.0, min(max(kink, -12.0), 12.0), 12.0})
    mean = sum(quad(density, a, b, limit=200)[0] for a, b in zip(edges, edges[1:]))
    return mean - 0.5 * log_alpha + 0.6351814227307


@pytest.mark.parametrize("log_alpha", [-6, -4, -2, -1, 0, 1, 2, 3, 5, 8])
def test_molchanovs_divergence_is_within_0_009_of_quadrature(log_alpha):
    """The paper draws the two on top of each other; the largest gap here is 0.0085."""
    found = float(molchanov_divergence(jnp.float32(log_alpha)))
    assert found == pytest.approx(exact_divergence(log_alpha), abs=0.009)


def test_divergences_fall_and_molchanovs_ends_at_0():
    grid = jnp.linspace(-8, 8, 200)
    found = np.asarray(molchanov_divergence(grid))
    assert (np.diff(found) < 0).all() and 0 < found[-1] < 3e-4
    assert (np.diff(np.asarray(kingma_divergence(grid[grid <= 0]))) < 0).all()


def test_kingmas_divergence_differs_from_quadrature_by_a_constant():
    """Over alpha in [0.01, 1] the constant varies by less than 0.035."""
    grid = np.log([0.01, 0.05, 0.1, 0.3, 0.6, 1.0])
    gaps = [
        float(kingma_divergence(jnp.float32(a))) - exact_divergence(a) for a in grid
    ]
    assert max(gaps) - min(gaps) < 0.035, gaps


def draw(name, x, rate, key=KEY, **options):
    function = jax.jit(
        lambda key, x, rate: VARIANTS[name](key, x, rate, **options),
        compiler_options=QUICK,
    )
    return np.float64(function(key, x, jnp.float32(rate)))


def test_concrete_at_temperature_0_is_bernoulli():
    """20,000 decisions: soft values within 1e-3 of 0 and 1 / (1 - p) but for a share of
    about the temperature, and the rate within five standard errors."""
    rate, x = 0.3, jnp.ones((100, 200))
    y = draw("concrete", x, rate, temperature=1e-4) * (1 - rate)
    hard = (y < 1e-3) | (y > 1 - 1e-3)
    assert hard.mean() > 0.995
    error = np.sqrt(rate * (1 - rate) / y.size)
    assert abs((y < 0.5).mean() - rate) < 5 * error


@pytest.mark.parametrize(
    ("name", "temperature", "rate", "mean", "variance"),
    [
        ("concrete", 0.1, 0.1, 0.9987, 0.1011),
        ("concrete", 0.1, 0.3, 0.9981, 0.3870),
        ("concrete", 0.1, 0.5, 1.0000, 0.9008),
        ("spatial_concrete", 2 / 3, 0.1, 0.9497, 0.0678),
        ("spatial_concrete", 2 / 3, 0.3, 0.9455, 0.2138),
        ("spatial_concrete", 2 / 3, 0.5, 1.0000, 0.4734),
    ],
)
def test_moments_of_concrete_are_those_of_quadrature(
    name, temperature, rate, mean, variance
):
    """Moments by quadrature of the relaxed mask; 1e5 draws, five standard errors."""
    y = draw(name, jnp.ones((500, 200)), rate)
    error = np.sqrt(variance / y.size)
    assert abs(y.mean() - mean) < 5 * error + 5e-5
    fourth = ((y - y.mean()) ** 4).mean()
    assert abs(y.var() - variance) < 5 * np.sqrt(fourth / y.size) + 5e-4
    one = concrete_mean(jnp.ones((1, 1)), {"logit": jnp.log(rate / (1 - rate))},
                        temperature=temperature)  # fmt: skip
    assert float(one[0, 0]) == pytest.approx(mean, abs=1e-4)


def test_spatial_concrete_keeps_or_drops_whole_channels():
    y = draw("spatial_concrete", jnp.ones((4, 5, 5, 3)), 0.4)
    assert (y == y[:, :1, :1]).all() and len(np.unique(y)) == 12


def test_the_penalty_of_concrete_equals_its_formula_and_is_flat_in_entropy_at_a_half():
    kernel = jnp.array([[1.0, -2.0], [0.5, 0.0]])
    p = 0.2
    found = spatial_concrete_penalty(
        {"logit": jnp.log(p / (1 - p))}, kernel, 3, length_scale=0.1
    )
    expected = 0.01 * 5.25 / 0.8 + 3 * (p * np.log(p) + (1 - p) * np.log(1 - p))
    assert float(found) == pytest.approx(expected, rel=1e-5)
    slope = jax.grad(lambda a: spatial_concrete_penalty({"logit": a}, 0 * kernel, 3))
    assert float(slope(jnp.float32(0.0))) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_variational_at_equal_alpha_is_gaussian_dropout_bit_for_bit(rate):
    x = jax.random.normal(jax.random.key(2), (16, 50))
    np.testing.assert_allclose(
        draw("variational", x, rate), draw("gaussian", x, rate), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("kind", ["dense", "conv"])
@pytest.mark.parametrize("name", ["variational", "sparse_variational"])
def test_local_reparameterisation_has_the_moments_of_weight_noise(name, kind):
    """W ~ N(w, alpha w^2): mean op(x, w), variance alpha op(x^2, w^2); 4096 draws."""
    rate, count = 0.3, 4096
    shape, taps = ((count, 6), ()) if kind == "dense" else ((count, 5, 5, 2), (3, 3))
    one = jax.random.normal(jax.random.key(4), (1, *shape[1:]))
    width = shape[-1]
    kernel = jax.random.normal(jax.random.key(5), (*taps, width, 3))

    def operation(x, kernel):
        return x @ kernel if kind == "dense" else convolution(
            x, kernel, padding="VALID"
        )  # fmt: skip

    x = jnp.broadcast_to(one, shape)
    y = jax.jit(lambda: VARIANTS[name](KEY, x, jnp.float32(rate), kernel, operation))()
    y = np.float64(y)
    mean = operation(one, kernel)[0]
    variance = rate / (1 - rate) * operation(one**2, kernel**2)[0]
    assert (abs(y.mean(0) - mean) < 5 * np.sqrt(variance / count)).all()
    assert (abs(y.var(0) / variance - 1) < 5 * np.sqrt(2 / count)).all()


@pytest.mark.slow
def test_a_tiny_variance_is_the_plain_product_and_a_large_one_is_pruned():
    kernel = jax.random.normal(jax.random.key(5), (6, 3))
    x = jax.random.normal(jax.random.key(6), (8, 6))
    entry = VARIANTS["sparse_variational"]
    quiet = {"log_variance": jnp.full((6, 3), -40.0)}
    np.testing.assert_allclose(
        entry(KEY, x, quiet, kernel, jnp.matmul), x @ kernel, rtol=1e-5, atol=1e-6
    )
    pruned = jnp.arange(3)[None] == 1
    edges = jnp.log(kernel**2 + 1e-8) + jnp.where(pruned, 3.01, 2.99)
    kept = sparse_prune({"log_variance": edges}, kernel)
    np.testing.assert_array_equal(kept, jnp.where(pruned, 0, kernel))


def test_the_divergence_counts_every_weight_that_an_alpha_governs():
    kernel, half = jnp.ones((4, 3)), jnp.log(jnp.float32(0.5))
    one = float(kingma_divergence(half))
    for log_alpha in (half, jnp.full(3, half), jnp.full((4, 3), half)):
        found = variational_penalty({"log_alpha": log_alpha}, kernel, 4)
        assert float(found) == pytest.approx(12 * one, rel=1e-5)


@pytest.mark.parametrize("name", [n for n in VARIANTS if VARIANTS[n].learned])
def test_evaluation_is_deterministic_and_sampling_is_asked_for(name):
    site = "out/kernel" if "sparse" in name else "fc1"
    rows = resolve(parse(f"{site}:{name}:0.3"), NAMES)
    x, kernel = jnp.ones((6, 4)), jnp.ones((4, 3))
    others = (kernel, jnp.matmul) if site == "out/kernel" else ()
    plain = x @ kernel if others else x
    if name == "l0_gate":  # 1.2 sigmoid(log alpha) - 0.1 at P(z = 0) = 0.3
        plain = plain * 0.284646
    at_test = bind(rows, None, "eval")(site, x, *others)
    np.testing.assert_allclose(at_test, plain, rtol=1e-6 if name == "l0_gate" else 0)
    sampled = [
        bind(rows, Moment(KEY, jnp.arange(6), 0, 0, draw), "mc")(site, x, *others)
        for draw in (1, 2)
    ]
    assert (sampled[0] != sampled[1]).any()


def test_standout_keeps_what_is_active():
    x = jnp.broadcast_to(jnp.linspace(-4, 4, 9), (4000, 9))
    kept = (draw("standout", x + 1e-3, 0.5, slope=1.0) != 0).mean(0)
    expected = 1 / (1 + np.exp(-np.linspace(-4, 4, 9)))
    assert (abs(kept - expected) < 5 * np.sqrt(expected * (1 - expected) / 4000)).all()
    flat = (draw("standout", x + 1e-3, 0.2, slope=0.0) != 0).mean(0)
    assert (abs(flat - 0.8) < 5 * np.sqrt(0.16 / 4000)).all()
