"""What a GPU computes, against the CPU beside it: `make test-gpu`, if there is one."""

import json
import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from paths import ROOT
from variant_cases import CASES, compiled, inputs

from dropout.bits import normal, random_bits, row_seeds
from dropout.keys import JaxBits
from models.convolution import add_bias, convolution, max_pool, relu

pytestmark = pytest.mark.gpu
KEY = jax.random.key(31)
SHAPE = (8, 5, 7, 3)
TRAIN = ROOT / "train.py"


@pytest.fixture(scope="module", autouse=True)
def devices():
    if jax.default_backend() != "gpu":
        pytest.skip("JAX has no GPU here")
    return jax.devices("cpu")[0], jax.devices("gpu")[0]


def on_each(devices, function, *arguments):
    """The arrays that a function makes on each device."""
    placed = (jax.device_put(arguments, device) for device in devices)
    return [jax.tree.map(np.asarray, function(*each)) for each in placed]


@pytest.mark.parametrize("wrap", [lambda key: key, JaxBits], ids=["hash", "jax"])
def test_bits_are_those_of_the_cpu(devices, wrap):
    draw = jax.jit(lambda key: random_bits(row_seeds(wrap(key), SHAPE[0]), SHAPE))
    np.testing.assert_array_equal(*on_each(devices, draw, KEY))


def test_normal_draws_are_those_of_the_cpu(devices):
    draw = jax.jit(lambda key: normal(row_seeds(key, SHAPE[0]), SHAPE))
    np.testing.assert_allclose(*on_each(devices, draw, KEY), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_variants_decide_as_on_the_cpu(devices, case):
    """The same elements dropped, the same values and gradients up to rounding."""
    arrays = inputs(case.kind)
    out = jax.eval_shape(case.plain, *arrays)
    cotangent = jnp.ones(out.shape, out.dtype)
    function, rate = compiled(str(case))[0], jnp.float32(0.5)
    of_cpu, of_gpu = on_each(devices, function, KEY, rate, cotangent, *arrays)
    for ours, theirs in zip(jax.tree.leaves(of_gpu), jax.tree.leaves(of_cpu)):
        np.testing.assert_array_equal(ours == 0, theirs == 0)
        scale = np.abs(theirs).max() + 1e-6
        np.testing.assert_allclose(ours / scale, theirs / scale, atol=1e-5)


@pytest.mark.parametrize(("size", "padding"), [(3, "VALID"), (5, "SAME")])
def test_convolution_and_pooling_agree_with_the_fast_ones(
    devices, monkeypatch, size, padding
):
    """XLA's operations in full precision against what the CPU is given."""
    first, second, third = jax.random.split(KEY, 3)
    x = jax.random.normal(first, (8, 14, 14, 8))
    kernel = jax.random.normal(second, (size, size, 8, 16)) / size
    bias = jax.random.normal(third, (1, 1, 1, 16))

    def pulled(backend, *operands):
        def pooled(x, kernel, bias):
            y = add_bias(convolution(x, kernel, padding=padding), bias)
            return max_pool(relu(y))

        monkeypatch.setattr(jax, "default_backend", lambda: backend)
        y, pull = jax.vjp(pooled, *operands)
        return y, pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

    with jax.default_matmul_precision("highest"):
        of_cpu, of_gpu = (
            jax.jit(partial(pulled, device.platform))(
                *jax.device_put((x, kernel, bias), device)
            )
            for device in devices
        )
    for ours, theirs in zip(*map(jax.tree.leaves, (of_gpu, of_cpu))):
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(ours / scale, theirs / scale, atol=1e-5)


def summary_of(workdir, platform, *flags):
    """Trains in a process of its own and reads its summary."""
    subprocess.run(
        [sys.executable, TRAIN, "--epochs=0", "--steps=40", f"--workdir={workdir}"]
        + [f"--cache_dir={workdir.parent}/cache", *flags],
        env={**os.environ, "JAX_PLATFORMS": platform},
        check=True,
    )
    return json.loads((workdir / "summary.json").read_text())


def test_a_rerun_is_bit_for_bit_and_its_masks_are_those_of_the_cpu(tmp_path):
    first, again = (
        summary_of(tmp_path / name, "cuda", "--deterministic") for name in "ab"
    )
    cpu = summary_of(tmp_path / "c", "cpu")
    assert first["params_digest"] == again["params_digest"]
    assert first["masks_digest"] == cpu["masks_digest"]
    assert first["compilations"] == 1
    assert first["train_loss"] == pytest.approx(cpu["train_loss"], rel=0.05)
    assert first["params_digest"] != cpu["params_digest"]
