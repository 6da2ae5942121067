"""Every variant under forward mode, `shard_map`, explicit mesh axes and float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec
from sampling import sampled
from variant_cases import FORMS, QUICK, ROWS, Case, functions, inputs

from dropout import VARIANTS, Moment, bind, parse, resolve
from dropout.keys import row_keys

KEY = jax.random.key(11)
ROWS_SPREAD = PartitionSpec("data")


@pytest.fixture(params=VARIANTS)
def case(request):
    return Case(request.param)


def loss(case, key, *arrays):
    return (case.draw(key, jnp.float32(0.3), *arrays) ** 2 / 2).sum()


@pytest.mark.parametrize("name", sampled(VARIANTS, (*FORMS, "shakedrop")))
def test_forward_mode_is_the_transpose_of_reverse_mode(name):
    """<J t, c> = <t, J^T c>, and so for the gradient, whose derivative is symmetric
    where a variant obeys the law of the gradient."""
    case = Case(name)
    arrays = inputs(case.kind)
    tangents = tuple(jnp.cos(7 * array) for array in arrays)
    draw = partial(case.draw, KEY, jnp.float32(0.3))

    @partial(jax.jit, compiler_options=QUICK)
    def products(arrays, tangents):
        y, forward = jax.jvp(draw, arrays, tangents)
        cotangent = jnp.sin(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
        pulled = jax.vjp(draw, *arrays)[1](cotangent)
        linear = jax.linearize(draw, *arrays)[1](*tangents)
        gradient = jax.grad(partial(loss, case, KEY), range(len(arrays)))
        second = jax.jvp(gradient, arrays, tangents)[1]
        twice = jax.grad(
            lambda *arrays: sum(map(jnp.vdot, gradient(*arrays), tangents)),
            range(len(arrays)),
        )(*arrays)
        backward = sum(map(jnp.vdot, pulled, tangents))
        return forward, linear, jnp.vdot(forward, cotangent), backward, second, twice

    forward, linear, one, other, second, twice = products(arrays, tangents)
    np.testing.assert_allclose(linear, forward, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)
    if case.name not in ("shakedrop", "shake_shake"):  # another noise on purpose
        for a, b in zip(second, twice, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)
    else:
        assert all(jnp.isfinite(a).all() for a in (*second, *twice))


@pytest.mark.parametrize("name", ["bernoulli", "shakedrop", "alpha"])
@pytest.mark.slow
def test_jacobians_agree(name):
    x = jnp.arange(1.0, 13).reshape(2, 6)

    def draw(x):
        return VARIANTS[name](KEY, x, 0.4)

    forward, backward = jax.jacfwd(draw)(x), jax.jacrev(draw)(x)
    np.testing.assert_allclose(forward, backward, rtol=1e-6)
    hessian = jax.hessian(lambda x: (draw(x) ** 2).sum() / 2)(x)
    assert jnp.isfinite(hessian).all() and (hessian != 0).any()


def test_a_compiled_backward_pass_keeps_no_mask(case):
    """What a compiled forward pass hands to the backward pass beyond what the plain
    network does, and what both need in memory when compiled as one: less than a mask
    of one bit an element."""
    if "memory" in case.entry.exempt:
        return
    shape = (64, 24, 24, 16)
    arrays = [jax.ShapeDtypeStruct(shape, a.dtype) for a in inputs(case.kind)]

    def kept(function):
        pull = jax.eval_shape(
            lambda *arrays: jax.vjp(jax.jit(function), *arrays)[1], *arrays
        )
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(pull))

    drawn = kept(partial(case.draw, KEY, jnp.float32(0.5)))
    assert drawn - kept(case.plain) < arrays[0].size / 8


@pytest.mark.slow
def test_a_replicated_array_under_shard_map(case):
    """The gradient is the sum over shards, each with keys of its own."""
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    keys = row_keys(KEY, 2 * ROWS)
    arrays, every = inputs(case.kind), PartitionSpec()

    def gradients(keys, *arrays):
        return jax.grad(partial(loss, case, keys), range(len(arrays)))(*arrays)

    sharded = jax.shard_map(
        gradients,
        mesh=mesh,
        in_specs=(ROWS_SPREAD, *(every for _ in arrays)),
        out_specs=every,
    )
    found = jax.jit(sharded, compiler_options=QUICK)(keys, *arrays)
    alone = jax.jit(gradients, compiler_options=QUICK)
    halves = [alone(half, *arrays) for half in (keys[:ROWS], keys[ROWS:])]
    for leaf, one, other in zip(found, *halves, strict=True):
        # What draws nothing is replicated, as its gradient is.
        expected = one if "keys" in case.entry.exempt else one + other
        np.testing.assert_allclose(leaf, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_explicit_axes_change_nothing(case):
    """With the rows, or the last axis, spread over a mesh with explicit axes."""
    arrays = inputs(case.kind)

    def pulled(key, *arrays):
        y, pull = jax.vjp(partial(case.draw, key, jnp.float32(0.3)), *arrays)
        return y, *pull(jnp.ones_like(y))

    expected = jax.jit(pulled, compiler_options=QUICK)(KEY, *arrays)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        for spec in (ROWS_SPREAD, PartitionSpec(None, None, None, "data")):
            spread = [jax.device_put(np.asarray(array), spec) for array in arrays]
            found = jax.jit(pulled, compiler_options=QUICK)(KEY, *spread)
            specs = [jax.typeof(array).sharding.spec for array in (found[1], *spread)]
            assert specs[0] == specs[1]
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("unit", ["example", "batch"])
def test_explicit_axes_at_a_kernel_site(unit):
    rows = resolve(parse(f"fc/kernel:bernoulli(unit='{unit}'):0.4"), ("fc/kernel",))
    x, kernel = np.ones((8, 6), np.float32), np.ones((6, 4), np.float32)

    def product(key, examples, x, kernel):
        drop = bind(rows, Moment(key, examples, 1, 2))
        return drop("fc/kernel", x, kernel, jnp.matmul)

    expected = jax.jit(product)(KEY, jnp.arange(8), jnp.asarray(x), jnp.asarray(kernel))
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        ids, x = jax.device_put((np.arange(8), x), ROWS_SPREAD)
        found = jax.jit(product, compiler_options=QUICK)(
            KEY, ids, x, jax.device_put(kernel, PartitionSpec())
        )
        assert jax.typeof(found).sharding.spec == PartitionSpec("data", None)
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-6)


@pytest.mark.slow
def test_float64_has_the_same_decisions_at_its_own_precision(case):
    """Also beyond the range of float32, for variants that are linear in x."""
    y = jax.jit(case.draw, compiler_options=QUICK)(KEY, 0.3, *inputs(case.kind))
    with jax.enable_x64(True):
        arrays = [jnp.asarray(np.asarray(a), jnp.float64) for a in inputs(case.kind)]
        draw = partial(Case(case.name).draw, KEY, 0.3)
        if case.kind == "kernel" and case.entry.kernel_form == "product":
            weight, product = functions(case.kind, case.entry)
            weight = jnp.asarray(np.asarray(weight), jnp.float64)
            draw = lambda x: case.entry(KEY, x, 0.3, weight, jnp.multiply)  # noqa: E731

        @partial(jax.jit, compiler_options=QUICK)
        def pulled(*arrays):
            y, pull = jax.vjp(draw, *arrays)
            return y, *pull(jnp.ones_like(y))

        wide, *gradients = pulled(*arrays)
        assert {leaf.dtype.name for leaf in (wide, *gradients)} == {"float64"}
        np.testing.assert_array_equal(np.asarray(wide == 0), np.asarray(y == 0))
        found, y = np.asarray(wide), np.asarray(y)
        seen = y > np.finfo(np.float32).min  # by DropKey hidden keys have the lowest
        np.testing.assert_allclose(found[seen], y[seen], rtol=2e-5, atol=1e-5)
        at_test = case.at_test(0.3, *arrays) if not case.functions else wide
        assert at_test.dtype == jnp.float64


def test_float64_keeps_its_range_and_precision():
    with jax.enable_x64(True):
        for value in (1e300, 1e-200, 1 / 3):
            y = VARIANTS["bernoulli"](KEY, jnp.full((8, 8), value, jnp.float64), 0.3)
            largest = float(y.max())
            assert abs(largest * 0.7 / value - 1) < 1e-15
