"""Laws that every variant in the registry obeys, or is listed as exempt from.

An exempt law is asserted to fail. Statistical laws draw 4096 independent rows of 192
elements or more with a fixed key and hold within 5.3 standard errors at every element:
over all cases a false alarm once in about 500 keys.
"""

from functools import partial
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from sampling import sampled
from variant_cases import (
    CASES,
    FORMS,
    MORE,
    QUICK,
    ROWS,
    Case,
    compiled,
    functions,
    inputs,
    run,
)

import dropout
from dropout import VARIANTS, JaxBits
from dropout.keys import row_keys
from dropout.kinds import PLAIN
from dropout.variants.entry import Law

KEY = jax.random.key(20)
RATES = (0.25, 0.75)  # whole numbers of the 4 channels and of the 48 positions
SAMPLES = 4096
LIMIT = 5.3  # standard errors


@pytest.fixture(scope="module", params=sampled(CASES, VARIANTS), ids=str)
def case(request):
    return request.param


@pytest.fixture(scope="module", params=sampled(VARIANTS, FORMS))
def variant(request):
    return Case(request.param)


def check(case, law, holds):
    """A law holds, or the variant is exempt and fails it with its default options."""
    if law in case.entry.exempt:
        assert case.options or not holds, f"{case} obeys the exempt law {law!r}"
    else:
        assert holds, f"{case} breaks the law {law!r}"


def test_cases_are_of_the_registry():
    assert set(MORE) <= set(VARIANTS)
    assert {case.name for case in CASES} == set(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_entry_is_complete(name):
    entry = VARIANTS[name]
    assert set(entry.exempt) <= set(get_args(Law))
    domain = f"Domain: rate in {entry.domain}"
    for heading in ("Formula:", "Mask:", "At test:", domain, "Source:"):
        assert heading in entry.draw.__doc__, heading
    assert entry.expectation is None or "mean" in entry.exempt


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in VARIANTS for kind in VARIANTS[name].kinds],
)
def test_acts_at_every_kind_that_it_lists(name, kind):
    passed = functions(kind, VARIANTS[name])

    def draw(rate, x, *others):
        return VARIANTS[name](KEY, x, rate, *others, *passed)

    def plain(x, *others):
        if kind == "kernel" and not passed:
            return x
        return PLAIN[kind](x, *others, *passed)

    arrays = inputs(kind)
    y = jax.eval_shape(draw, jnp.float32(0.5), *arrays)
    assert y == jax.eval_shape(plain, *arrays)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_rate_outside_the_domain_is_an_error(name):
    entry = VARIANTS[name]
    outside = [-0.1, 1.1, float("nan")]
    outside += [0.0] if entry.domain.startswith("(") else []
    outside += [1.0] if entry.domain.endswith(" 1)") else []
    exported = getattr(dropout, name)
    assert exported is entry and name in dropout.__all__
    for rate in outside:
        with pytest.raises(ValueError, match=name):
            Case(name).draw(KEY, rate, *inputs(entry.kinds[0]))
        with pytest.raises(ValueError, match=name):
            exported(KEY, *inputs(entry.kinds[0])[:1], rate)


@pytest.mark.parametrize(
    "dtype", [jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.slow)]
)
def test_half_precision(variant, dtype):
    check_rate_0(variant, dtype)
    check_rate_1(variant, dtype)


def test_rate_0_is_the_plain_network_bit_for_bit(case):
    check_rate_0(case, jnp.float32)


def test_rate_1_is_finite(case):
    check_rate_1(case, jnp.float32)


def check_rate_0(case, dtype):
    x, *others = inputs(case.kind, dtype=dtype)
    limits = jnp.finfo(dtype)
    subnormal = float(limits.smallest_subnormal)
    special = jnp.asarray([-0.0, subnormal, -subnormal, float(limits.tiny)], dtype)
    x = x.at[:, 0, 0, :].set(special[: x.shape[-1]])
    plain = case.plain(x, *others)
    y, _ = run(case, KEY, 0.0, x, *others)
    assert y.dtype == plain.dtype == x.dtype
    bits = f"uint{8 * x.dtype.itemsize}"
    np.testing.assert_array_equal(
        np.asarray(y).view(bits), np.asarray(plain).view(bits)
    )
    at_test = case.at_test(0.0, x, *others)
    assert at_test.dtype == x.dtype and at_test.shape == plain.shape
    np.testing.assert_allclose(
        at_test.astype("float32"), plain.astype("float32"), rtol=1e-6, atol=1e-36
    )


def check_rate_1(case, dtype):
    y, gradients = run(case, KEY, 1.0, *inputs(case.kind, dtype=dtype))
    for array in (y, *gradients):
        assert jnp.isfinite(array).all()


def test_nothing_flows_into_the_rate_and_all_rates_share_one_compilation(case):
    function, traces = compiled(str(case))
    arrays = inputs(case.kind)
    run(case, KEY, 0.3, *arrays)
    before = len(traces)
    for rate in (0.0, 0.1, 0.5, 1.0):
        _, gradients = run(case, KEY, rate, *arrays)
        assert gradients[0] == 0
    assert len(traces) == before


def test_nested(case):
    """What reaches the output at rate 0.5 does so at 0.2 too."""
    low, high = (run(case, KEY, r, *inputs(case.kind))[1][1] == 0 for r in (0.2, 0.5))
    check(case, "nested", not (low & ~high).any())


def test_other_keys_give_other_masks(case):
    arrays = inputs(case.kind)
    one, other = (run(case, jax.random.key(seed), 0.5, *arrays)[0] for seed in (1, 2))
    check(case, "keys", bool((one != other).any()))


def test_rows_with_one_key_share_their_noise(variant):
    alike = [jnp.broadcast_to(a[:1], a.shape) for a in inputs(variant.kind)]
    y = variant.draw(jnp.broadcast_to(KEY, (ROWS,)), jnp.float32(0.5), *alike)
    assert (y == y[:1]).all()


def test_gradient_is_that_of_the_forward_pass(case):
    """With its noise held a variant is affine in its inputs x, so that the derivative
    along x is y(2x) - y(x); taken for each row along a random cotangent."""
    arrays = inputs(case.kind)
    shape = jax.eval_shape(case.plain, *arrays).shape
    cotangent = jax.random.normal(jax.random.key(3), shape)
    function, rate = compiled(str(case))[0], jnp.float32(0.5)
    y, gradients = function(KEY, rate, cotangent, *arrays)
    twice, _ = function(KEY, rate, cotangent, *(2 * array for array in arrays))
    axes = tuple(range(1, len(shape)))
    along = sum((g * a).sum(axes) for g, a in zip(gradients[1:], arrays, strict=True))
    difference = (cotangent * (twice - y)).sum(axes)
    error = jnp.abs(along - difference).max()
    check(case, "gradient", bool(error < 1e-4 * jnp.abs(difference).max()))


def test_backward_pass_keeps_nothing_of_the_size_of_a_mask(case):
    """Bytes that the backward pass keeps beyond those of the plain network: less than
    a mask of one bit an element."""
    arrays = [
        jax.ShapeDtypeStruct((64, 24, 24, 16), a.dtype) for a in inputs(case.kind)
    ]

    def kept(function):
        pull = jax.eval_shape(lambda *arrays: jax.vjp(function, *arrays)[1], *arrays)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(pull))

    drawn = kept(partial(case.draw, KEY, jnp.float32(0.5)))
    check(case, "memory", drawn - kept(case.plain) < arrays[0].size / 8)


def agree(one, other):
    """The same decisions, and values to 1e-6 of the largest."""
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        np.testing.assert_array_equal(a == 0, b == 0)
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * np.abs(b).max())


def multiplier(case):
    """(key, rate, *arrays) -> y and the gradients of its sum in the arrays."""

    def function(key, rate, *arrays):
        y, pull = jax.vjp(partial(case.draw, key, rate), *arrays)
        return [y, *pull(jnp.ones_like(y))]

    return function


def expected(case):
    y, gradients = run(case, KEY, 0.5, *inputs(case.kind))
    return [y, *gradients[1:]]


def test_jit_vmap_scan_and_remat_agree(variant):
    """Transformed, with one key a row, against one key."""
    function, arrays = multiplier(variant), inputs(variant.kind)

    @partial(jax.jit, compiler_options=QUICK)
    def transformed(rate, *rows):
        halves = [a.reshape(2, ROWS // 2, *a.shape[1:]) for a in rows]
        mapped = jax.vmap(lambda key, *arrays: function(key, rate, *arrays))(*halves)
        remade = jax.checkpoint(lambda half: function(half[0], rate, *half[1:]))
        _, scanned = jax.lax.scan(lambda c, half: (c, remade(half)), None, halves)
        rates = jnp.stack([rate / 2, rate])
        over_rates = jax.vmap(lambda rate: function(rows[0], rate, *rows[1:]))(rates)
        joined = [a.reshape(ROWS, *a.shape[2:]) for a in (*mapped, *scanned)]
        return joined, [a[1] for a in over_rates]

    joined, over_rates = transformed(jnp.float32(0.5), row_keys(KEY, ROWS), *arrays)
    agree(joined, 2 * expected(variant))
    agree(over_rates, expected(variant))


def test_eager_agrees(variant):
    y = variant.draw(KEY, jnp.float32(0.5), *inputs(variant.kind))
    agree(y, expected(variant)[0])


@pytest.mark.parametrize(
    ("count", "compiler_options"),
    [(2, {}), pytest.param(4, QUICK, marks=pytest.mark.slow)],
)
def test_device_counts_agree(variant, count, compiler_options):
    """Spread over devices, and once fully optimised, against one quickly compiled."""
    mesh = Mesh(np.asarray(jax.devices()[:count]), ("data",))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    keys, *arrays = jax.device_put([row_keys(KEY, ROWS), *inputs(variant.kind)], rows)
    function = jax.jit(multiplier(variant), compiler_options=compiler_options)
    spread = function(keys, jnp.float32(0.5), *arrays)
    assert len(spread[0].sharding.device_set) == count
    agree(spread, expected(variant))


def test_jax_bits_work_too(case):
    arrays = inputs(case.kind)
    y = jax.eval_shape(partial(case.draw, JaxBits(KEY), 0.5), *arrays)
    assert y == jax.eval_shape(case.plain, *arrays)


def deviation(samples, expected):
    """The largest deviation of a mean over rows, in standard errors."""
    samples, expected = np.float64(samples), np.float64(expected)
    rounding = 1e-6 * np.abs(samples).max() + 1e-9
    error = samples.std(0) / np.sqrt(len(samples)) + rounding
    return np.abs((samples.mean(0) - expected) / error).max()


@pytest.mark.parametrize("case", sampled(CASES, FORMS), ids=str)
def test_mean_and_realised_rate(case):
    """E[draw] is the form at test, or the expectation that the entry states; and the
    nominal fraction of the elements is dropped."""
    one = inputs(case.kind, rows=1)
    rows = [jnp.broadcast_to(array, (SAMPLES, *array.shape[1:])) for array in one]
    mean_holds, rate_holds = True, True
    for rate in RATES:
        y, gradients = run(case, KEY, rate, *rows)
        mean_holds &= deviation(y, case.at_test(rate, *one)[0]) < LIMIT
        drops = np.asarray(gradients[1] == 0).reshape(SAMPLES, -1)
        rate_holds &= deviation(drops.mean(1), rate) < LIMIT
        if case.entry.expectation is not None:
            assert deviation(y, case.expectation(rate, *one)[0]) < LIMIT
    check(case, "mean", mean_holds)
    check(case, "rate", rate_holds)
