"""What variants, `resolve` and `bind` refuse, each in one line."""

import inspect
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropout import VARIANTS, Moment, bind, parse, resolve
from dropout.bits import random_bits

KEY = jax.random.key(5)
X = jnp.ones((4, 6, 6, 3))


def refused(call, match):
    with pytest.raises(ValueError, match=match) as raised:
        call()
    assert "\n" not in str(raised.value)


def unchecked(entry):
    """The entry as users call it, without the type checker of the tests."""
    return lambda *given: inspect.unwrap(type(entry).__call__)(entry, *given)


@pytest.mark.parametrize("dtype", ["int32", "bool", "complex64"])
@pytest.mark.parametrize("name", ["bernoulli", "spatial", "dropblock", "concrete"])
def test_arrays_that_are_not_real_floats(name, dtype):
    draw = unchecked(VARIANTS[name])
    refused(lambda: draw(KEY, X.astype(dtype), 0.3), f"{name}: x of dtype {dtype}")


@pytest.mark.parametrize("name", ["spatial", "feature_alpha", "patch", "dropblock"])
def test_a_row_without_a_batch_axis(name):
    refused(lambda: VARIANTS[name](KEY, jnp.ones(5), 0.3), "expected a batch of rows")


def test_a_scalar():
    draw = unchecked(VARIANTS["bernoulli"])
    refused(lambda: draw(KEY, jnp.ones(()), 0.3), "expected a batch of rows")


@pytest.mark.parametrize("under_jit", [False, True])
@pytest.mark.parametrize(
    "rate", [1.5, np.float32(1.5), np.array(-0.1), jnp.float32(1.5), Fraction(3, 2)]
)
def test_concrete_rates_out_of_the_domain(rate, under_jit):
    draw = unchecked(VARIANTS["bernoulli"])
    call = jax.jit(lambda x: draw(KEY, x, rate))
    refused(lambda: (call if under_jit else call.__wrapped__)(X), "outside .0, 1")


@pytest.mark.parametrize("rate", [jnp.full(4, 0.3), np.full((1,), 0.3)])
def test_arrays_of_rates(rate):
    refused(lambda: unchecked(VARIANTS["bernoulli"])(KEY, X, rate), "one real number")


@pytest.mark.parametrize(
    "rate", ["0.5", None, True, np.bool_(True), jnp.array(False), 0.5j, [0.5]]
)
def test_rates_that_are_no_number(rate):
    refused(lambda: unchecked(VARIANTS["bernoulli"])(KEY, X, rate), "one real number")


@pytest.mark.parametrize("rate", [np.float16(0.5), np.float64(0.5), jnp.bfloat16(0.5)])
def test_every_real_number_is_a_rate(rate):
    y = unchecked(VARIANTS["bernoulli"])(KEY, X, rate)
    assert set(np.unique(y)) == {0.0, 2.0}


@pytest.mark.parametrize("key", [0, None, "key", 0.5])
def test_what_is_no_key(key):
    draw = unchecked(VARIANTS["bernoulli"])
    refused(lambda: draw(key, X, 0.3), f"type {type(key).__name__}.*jax.random.key")


@pytest.mark.parametrize("rows", [2, 4])
def test_keys_of_the_old_kind_and_of_other_generators(rows):
    draw, old = unchecked(VARIANTS["bernoulli"]), jax.random.PRNGKey(0)
    refused(lambda: draw(old, X[:rows], 0.3), "jax.random.key")
    table = resolve(parse("fc:bernoulli:0.5"), ("fc",))
    moment = Moment(old, jnp.arange(rows), 0, 0)
    refused(lambda: inspect.unwrap(bind)(table, moment), "jax.random.key")
    for generator in ("rbg", "unsafe_rbg"):
        key = jax.random.key(0, impl=generator)
        refused(lambda key=key: draw(key, X, 0.3), f"generator {generator}")


def test_rows_whose_bits_would_repeat():
    seeds = jax.ShapeDtypeStruct((1, 2), jnp.uint32)
    whole = jax.eval_shape(lambda s: random_bits(s, (1, 2**16, 2**16)), seeds)
    assert whole.shape == (1, 2**16, 2**16)
    for shape in ((1, 2**16, 2**16 + 1), (1, 2**33)):
        refused(
            lambda shape=shape: jax.eval_shape(lambda s: random_bits(s, shape), seeds),
            "at most 2.32",
        )


def test_sites_with_the_same_hash():
    """Two plausible names with the same CRC-32."""
    sites = ("act143/norm1", "act66/shortcut/conv2/shortcut")
    refused(lambda: resolve(parse("none"), sites), "same hash")


@pytest.mark.parametrize("plan", ["none", "fc:bernoulli:0.5"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_name_that_is_no_site(plan, mode):
    drop = bind(resolve(parse(plan), ("conv", "fc")), Moment(KEY, jnp.arange(4), 0, 0))
    assert drop("conv", X) is X
    refused(lambda: drop("conf", X), "'conf' is none of.*did you mean 'conv'")


def test_a_moment_has_no_defaults_for_epoch_and_step_and_is_a_pytree():
    with pytest.raises(TypeError, match="epoch.*step"):
        Moment(KEY, jnp.arange(4))
    rows = resolve(parse("fc:bernoulli:0.5"), ("fc",))
    moment = Moment(KEY, jnp.arange(4), 3, jnp.int32(7), draw=2)
    y = jax.jit(lambda moment, x: bind(rows, moment)("fc", x))(moment, X)
    np.testing.assert_array_equal(y, bind(rows, moment)("fc", X))
    assert (y != bind(rows, moment._replace(epoch=4))("fc", X)).any()


@pytest.mark.parametrize("name", ["zoneout", "shake_shake"])
def test_a_second_array_of_another_shape_or_dtype(name):
    for other in (X[..., :1], X.astype(jnp.bfloat16)):
        refused(lambda other=other: VARIANTS[name](KEY, X, 0.3, other), "second array")


def test_a_schedule_whose_end_is_before_its_start():
    for schedule in ("linear", "decay"):
        text = f"fc:bernoulli:0.5@{schedule}(start=0.9, end=0.1)"
        refused(lambda text=text: parse(text), "no later than the end")
