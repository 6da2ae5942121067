"""Convolution and pooling against XLA's own: values, gradients, transforms."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from model_cases import made
from sampling import sampled

from dropout import bernoulli, identity
from models import convolution as fast
from models.convolution.correlation import correlate
from models.convolution.products import product
from models.convolution.winograd import POINTS, transforms

# (height, width), kernel size, channels in, channels out, padding
CASES = {
    "winograd": ((6, 6), 3, 8, 4, "VALID"),
    "winograd, odd": ((7, 8), 3, 8, 5, "VALID"),
    "winograd, padded": ((9, 8), 3, 9, 2, "SAME"),
    "winograd, strips": ((13, 12), 3, 8, 4, "VALID"),
    "winograd, strips, padded": ((10, 15), 3, 9, 2, "SAME"),
    "one channel": ((7, 5), 3, 1, 3, "VALID"),
    "5x5": ((9, 8), 5, 2, 3, "VALID"),
    "5x5, padded": ((5, 7), 5, 3, 2, "SAME"),
    "5x5, winograd": ((7, 6), 5, 9, 2, "SAME"),
    "even kernel": ((6, 7), 2, 3, 2, "VALID"),
    "even kernel, padded": ((5, 6), 4, 2, 3, "SAME"),
    "1x1": ((4, 5), 1, 8, 3, "VALID"),
}
SOME = sampled(CASES, ("one channel",))
STRIDED = [*((case, 2) for case in CASES), ("winograd, padded", 3)]
compiled = partial(jax.jit, compiler_options=fast.compiler_options())


def operands(case, key, count=3):
    (height, width), size, inputs, outputs, padding = CASES[case]
    shapes = (count, height, width, inputs), (size, size, inputs, outputs)
    shapes = (*shapes, (1, 1, 1, outputs))
    keys = jax.random.split(key, 3)
    return [jax.random.normal(k, s) for k, s in zip(keys, shapes)], padding


def deferred(x, kernel, bias, padding):
    x = fast.deferred_convolution(x, kernel, padding=padding)
    return fast.relu(fast.add_bias(x, bias))


def stage(x, kernel, bias, padding):
    return fast.max_pool(deferred(x, kernel, bias, padding))


def apart(x, kernel, bias, padding, between=lambda x: x):
    x = fast.add_bias(fast.convolution(x, kernel, padding=padding), bias)
    return fast.max_pool(between(fast.relu(x)))


def dropped(x, kernel, bias, padding):
    """With bernoulli between convolution and pooling, example by example."""
    x = deferred(x, kernel, bias, padding)
    return fast.max_pool(bernoulli(jax.random.key(3), x, 0.4))


SLOWLY_DROPPED = pytest.param(dropped, marks=pytest.mark.slow)


def plain_stage(x, kernel, bias, padding):
    numbers = ("NHWC", "HWIO", "NHWC")
    x = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), padding, dimension_numbers=numbers
    )
    x, window = jnp.maximum(x + bias, 0), (1, 2, 2, 1)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")


def with_gradients(function, padding):
    """(values, gradients in x, kernel and bias), the cotangent a fixed pattern."""

    def loss(x, kernel, bias):
        y = function(x, kernel, bias, padding)
        cotangent = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
        return jnp.vdot(y, cotangent), y

    def both(*arrays):
        gradients, y = jax.grad(loss, (0, 1, 2), has_aux=True)(*arrays)
        return y, *gradients

    return both


def assert_close(results, expected):
    for result, reference in zip(results, expected, strict=True):
        assert result.shape == reference.shape and result.dtype == reference.dtype
        scale = float(jnp.abs(reference).max())
        np.testing.assert_allclose(result, reference, rtol=0, atol=4e-6 * scale)


@pytest.mark.parametrize("count", sampled([3, 1024], ["3"]))
def test_a_product_and_its_gradients_are_those_of_matrices(count, key):
    """In float64; of few rows and of many."""
    shapes = (count, 2, 2, 5), (5, 3), (count, 2, 2, 3)
    arrays = [jax.random.normal(k, s) for k, s in zip(jax.random.split(key, 3), shapes)]
    y, pull = jax.vjp(product, *arrays[:2])
    x, matrix, errors = (
        np.float64(each).reshape(-1, each.shape[-1]) for each in arrays
    )
    expected = x @ matrix, errors @ matrix.T, x.T @ errors
    for found, exact in zip((y, *pull(arrays[2])), expected, strict=True):
        np.testing.assert_allclose(found.reshape(exact.shape), exact, atol=2e-4)


@pytest.mark.parametrize(("window", "taps"), POINTS)
def test_transformed_images_and_kernels_multiply_to_a_convolution(window, taps):
    of_images, of_kernels, of_outputs = map(np.array, transforms(window, taps))
    random = np.random.default_rng(0)
    image = random.normal(size=window + taps - 1)
    kernel = random.normal(size=taps)
    found = of_outputs @ ((of_images @ image) * (of_kernels @ kernel))
    np.testing.assert_allclose(found, np.correlate(image, kernel), atol=1e-13)


@pytest.mark.parametrize("case", SOME)
def test_a_stage_and_its_gradients_are_those_of_xla(case, key):
    arrays, padding = operands(case, key)
    expected = compiled(with_gradients(plain_stage, padding))(*arrays)
    assert_close(compiled(with_gradients(stage, padding))(*arrays), expected)


@pytest.mark.slow
@pytest.mark.parametrize("case", sampled(CASES, ("winograd, padded",)))
def test_so_are_they_with_something_between_convolution_and_pooling(case, key):
    arrays, padding = operands(case, key)
    expected = compiled(with_gradients(plain_stage, padding))(*arrays)
    assert_close(compiled(with_gradients(apart, padding))(*arrays), expected)


@pytest.mark.parametrize(
    ("case", "stride"),
    [
        pytest.param(*case, marks=() if case in STRIDED[::6] else pytest.mark.slow)
        for case in STRIDED
    ],
)
def test_a_strided_convolution_and_its_gradients_are_those_of_xla(case, stride, key):
    (x, kernel, _), padding = operands(case, key)
    border = [((n - 1) // 2, n // 2) for n in kernel.shape[:2]]
    pads = border if padding == "SAME" else [(0, 0), (0, 0)]

    def strided(x, kernel):
        return fast.convolution(x, kernel, padding=padding, stride=stride)

    def with_gradients_of(function):
        def both(x, kernel):
            y, backward = jax.vjp(function, x, kernel)
            pattern = jnp.cos(jnp.arange(y.size, dtype=jnp.float32))
            return y, *backward(pattern.reshape(y.shape))

        return compiled(both)(x, kernel)

    plain = partial(correlate, pads=pads, stride=stride)
    assert_close(with_gradients_of(strided), with_gradients_of(plain))


@pytest.mark.parametrize(
    ("case", "stride"), [("winograd, padded", 1), ("5x5, padded", 2)]
)
def test_a_direct_convolution_is_that_of_xla(case, stride, key):
    (x, kernel, _), padding = operands(case, key)
    pads = [((n - 1) // 2, n // 2) for n in kernel.shape[:2]]
    direct = partial(fast.direct_convolution, padding=padding, stride=stride)
    program = compiled(direct).lower(x, kernel)
    # Not by Winograd's method, whose products are of matrices.
    assert stride > 1 or "dot_general" not in program.as_text()
    expected = correlate(x, kernel, pads, stride)
    assert_close([program.compile()(x, kernel)], [expected])


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", sampled(["winograd, odd", "one channel", "5x5, padded"], ["winograd, odd"])
)
@pytest.mark.parametrize("function", [stage, apart])
def test_of_values_that_tie_the_first_gets_the_gradient(case, function, key):
    """Small whole numbers: every sum is exact, and most windows hold a tie.

    So it is with kernels of 3x3 in windows of 2x2, which these sizes take. Larger
    windows, and kernels of 5x5 over many channels, divide by three: there rounding may
    choose among ties.
    """
    arrays, padding = operands(case, key)
    arrays = [jnp.round(array) for array in arrays]
    found = compiled(with_gradients(function, padding))(*arrays)
    expected = compiled(with_gradients(plain_stage, padding))(*arrays)
    for result, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(result, reference, rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", sampled(["winograd", "5x5"], ["5x5"]))
def test_a_pooled_convolution_is_all_there_is(case, key):
    """Under jit the convolution itself is computed only where something reads it."""
    arrays, padding = operands(case, key)
    texts = [
        compiled(partial(function, padding=padding)).lower(*arrays).compile().as_text()
        for function in (stage, apart)
    ]
    whole = jax.eval_shape(partial(fast.convolution, padding=padding), *arrays[:2])
    shape = f"f32[{','.join(map(str, whole.shape))}]"
    assert [shape in text for text in texts] == [False, True]


@pytest.mark.parametrize(
    ("case", "count", "rows"),
    [
        ("winograd", 16, 3 * 2 * 2),
        pytest.param("winograd, strips", 14, 3 * 2, marks=pytest.mark.slow),
    ],
)
def test_the_input_gradients_of_a_layer_are_scheduled_before_its_kernel_gradients(
    case, count, rows, key
):
    # Alternating, each product would wait for the last one.
    arrays, padding = operands(case, key)

    def loss(x, kernel, bias):
        return stage(x, kernel, bias, padding).sum()

    program = compiled(jax.grad(loss, (0, 1))).lower(*arrays).compile().as_text()
    schedule = program[program.index("ENTRY") :]
    made = re.findall(r"= f32\[([\d,]+)\].*/dot_general", schedule)
    inputs, outputs = arrays[1].shape[2:]
    of_inputs, of_kernels = (
        [number for number, shape in enumerate(made) if shape.endswith(wanted)]
        for wanted in (f"{rows},{inputs}", f"{inputs},{outputs}")
    )
    assert len(of_inputs) == len(of_kernels) == count
    assert max(of_inputs) < min(of_kernels)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [stage, SLOWLY_DROPPED])
def test_members_of_a_population_are_each_what_they_are_alone(stage, key):
    (x, *first), padding = operands("winograd", key)
    second = [array + 1 for array in first]
    members = [jnp.stack(pair) for pair in zip(first, second)]
    function = with_gradients(stage, padding)
    mapped = compiled(jax.vmap(function, (None, 0, 0)))(x, *members)
    alone = compiled(function)
    assert_close([result[0] for result in mapped], alone(x, *first))
    assert_close([result[1] for result in mapped], alone(x, *second))


far = partial(apart, between=jnp.sin)
FAR = pytest.param(far, id="far", marks=pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize("function", [stage, FAR])
def test_a_scan_over_micro_batches_under_remat_gives_the_same(function, key):
    arrays, padding = operands("winograd", key, count=4)

    def scanned(x, kernel, bias, padding):
        remade = jax.checkpoint(lambda part: function(part, kernel, bias, padding))
        parts = x.reshape(2, 2, *x.shape[1:])
        y = jax.lax.scan(lambda _, part: (None, remade(part)), None, parts)[1]
        return y.reshape(4, *y.shape[2:])

    expected = compiled(with_gradients(function, padding))(*arrays)
    assert_close(compiled(with_gradients(scanned, padding))(*arrays), expected)


@pytest.mark.parametrize("stage", [stage, FAR, SLOWLY_DROPPED])
@pytest.mark.parametrize(
    "case", sampled(["winograd", "winograd, strips", "one channel"], ["one channel"])
)
def test_a_sharded_batch_stays_sharded(case, stage, key):
    mesh = Mesh(np.array(jax.devices()), ("data",))
    arrays, padding = operands(case, key, count=64)
    rows = NamedSharding(mesh, PartitionSpec("data"))
    arrays = [
        jax.device_put(arrays[0], rows),
        *jax.device_put(arrays[1:], NamedSharding(mesh, PartitionSpec())),
    ]
    function = compiled(with_gradients(stage, padding))
    text = function.lower(*arrays).compile().as_text()
    assert not re.search("all-gather|all-to-all|collective-permute", text)
    values, to_images, *_ = function(*arrays)
    assert values.sharding.is_equivalent_to(rows, 4)
    assert to_images.sharding.is_equivalent_to(rows, 4)


@pytest.mark.parametrize(
    "options",
    [
        {"window": (3, 3), "strides": (2, 2), "padding": "VALID"},
        {"window": (2, 2), "strides": (2, 2), "padding": "SAME"},
        {"window": (3, 2), "strides": (1, 2), "padding": "SAME"},
        {"window": (2, 2), "strides": (2, 2), "padding": "VALID"},
    ],
)
def test_any_window_pools_as_reduce_window_does(options, key):
    x = jax.random.normal(key, (2, 7, 8, 3))
    window, strides = ((1, *options[name], 1) for name in ("window", "strides"))
    expected = jax.lax.reduce_window(
        x, -jnp.inf, jax.lax.max, window, strides, options["padding"]
    )
    result = compiled(partial(fast.max_pool, **options))(x)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("function", [stage, apart])
def test_a_value_that_is_no_number_is_not_hidden(function, key):
    (x, *others), padding = operands("one channel", key)
    x = x.at[1, 3, 2, 0].set(jnp.nan)
    y = compiled(partial(function, padding=padding))(x, *others)
    expected = plain_stage(x, *others, padding)
    np.testing.assert_array_equal(jnp.isnan(y), jnp.isnan(expected))
    assert jnp.isnan(y).any()


def test_half_precision_keeps_its_type(key):
    arrays, padding = operands("winograd", key)
    halves = [array.astype(jnp.bfloat16) for array in arrays]
    y = compiled(partial(stage, padding=padding))(*halves)
    assert y.dtype == jnp.bfloat16
    expected = plain_stage(*arrays, padding)
    np.testing.assert_allclose(y.astype(jnp.float32), expected, atol=0.5)


@pytest.mark.slow
def test_a_network_is_bitwise_the_same_again(key):
    model = made("cnn", (12, 13, 3), 4, key)
    images = jax.random.normal(key, (4, 12, 13, 3))
    once, again = (
        compiled(lambda x: jax.grad(lambda x: model(x, identity).sum())(x))(images)
        for _ in range(2)
    )
    np.testing.assert_array_equal(once, again)


def test_the_compiler_options_hold_here_and_give_way_where_unknown(monkeypatch):
    assert fast.compiler_options()

    def refuse(*_, **__):
        raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: No such compile option")

    monkeypatch.setattr(jax, "jit", refuse)
    assert fast.compiler_options.__wrapped__() == {}
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert fast.compiler_options.__wrapped__() == {}
