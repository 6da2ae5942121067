"""Inference rules: where samples come from, what they cost, what they average to."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from variant_cases import QUICK

from evaluation import inference
from evaluation.inference import (
    MODES,
    SAMPLED,
    check_inference_rule,
    compile_predict,
    make_predict_samples,
)
from models.convolution import plain_operations
from training.canonical import canonical
from training.experiment import prepare
from training.runtime.devices import make_mesh
from training.start import start_state

PLAN = "conv1/kernel:dropconnect:0.2 pool1/window:max_pool:0.4 fc:bernoulli:0.5"
KEY = jax.random.key(8)


@pytest.fixture(scope="module")
def run(small):
    experiment = prepare(canonical(replace(small, dropout=PLAN, mesh="data:1")))
    images, _ = experiment.data.test.fetch(np.arange(30, dtype=np.int32))
    return experiment, start_state(experiment), np.asarray(images)


quick = partial(jax.jit, compiler_options=QUICK)


IDS = np.arange(100, 130, dtype=np.int32)


@pytest.fixture(scope="module")
def predicted(run):
    experiment, state, images = run

    def predict(inference, samples=3):
        compiled = quick(make_predict_samples(experiment.objective, inference, samples))
        return np.asarray(compiled(state, KEY, images, IDS))

    return {inference: predict(inference) for inference in MODES}


def test_inference_rules_differ_and_only_some_have_samples(predicted):
    names = list(MODES)
    for number, name in enumerate(names):
        samples = predicted[name]
        assert samples.shape == (3 if name in SAMPLED else 1, 30, 3)
        np.testing.assert_allclose(np.exp(samples).sum(-1), 1, rtol=1e-5)
        for other in names[:number]:
            assert abs(samples - predicted[other]).max() > 1e-4, (name, other)
        for one, two in zip(samples, samples[1:]):
            assert abs(one - two).max() > 1e-3


def test_a_sample_is_the_same_in_any_chunk_and_on_any_devices(run, predicted):
    experiment, state, images = run
    mesh = make_mesh("data:4")
    placed = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
    predict = compile_predict(experiment._replace(mesh=mesh), placed, "mc", 3, 12)
    order = np.random.default_rng(0).permutation(30)
    found = predict(placed, KEY, images[order], IDS[order])
    expected = predicted["mc"][:, order]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_chunks_fit_into_memory_and_fewer_samples_are_the_first_of_more(
    run, predicted, monkeypatch
):
    experiment, state, images = run
    monkeypatch.setattr(inference, "CACHE", 2**14)
    sizes, padded = [], inference._padded

    def recorded(array, size):
        sizes.append(size)
        return padded(array, size)

    monkeypatch.setattr(inference, "_padded", recorded)
    found = compile_predict(experiment, state, "mc", 2)(state, KEY, images, IDS)
    expected = predicted["mc"][:2]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert 1 <= max(sizes) < 30


def test_what_comes_before_the_first_active_site_is_computed_once(small):
    def convolved(plan, samples):
        config = canonical(replace(small, dropout=plan, mesh="data:1"))
        experiment = prepare(config)
        images = experiment.data.test.fetch(np.arange(4, dtype=np.int32))[0]
        predict = make_predict_samples(experiment.objective, "mc", samples)
        state, images = start_state(experiment), images.astype(jnp.float32)
        with plain_operations():  # in which a convolution is one operation
            traced = jax.make_jaxpr(predict)(state, KEY, images, jnp.arange(4))
        return _convolved_images(traced.jaxpr)

    assert convolved("fc:bernoulli:0.5", 9) == [4, 4]
    assert convolved("pool1:bernoulli:0.5", 9) == [4, 36]
    assert convolved("input:bernoulli:0.5", 9) == [36, 36]


def _convolved_images(jaxpr):
    """How many images each convolution of a program takes, those of its calls too."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            found.append(equation.invars[0].aval.shape[0])
        for parameter in equation.params.values():
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns") and equation.primitive.name != "custom_vjp_call":
                found += _convolved_images(inner)
        if equation.primitive.name == "custom_vjp_call":
            found += _convolved_images(equation.params["call_jaxpr"].jaxpr)
    return found


@pytest.mark.parametrize(
    "inference, plan, message",
    [
        ("bayes", "fc:bernoulli:0.5", "expected one of plain, scaling"),
        ("mc", "none", "no dropout"),
        ("pooling", "fc:bernoulli:0.5", "kind window"),
        ("gaussian", "fc:bernoulli:0.5", "at a kernel"),
    ],
)
def test_an_inference_rule_that_cannot_act_is_a_usage_error(
    small, inference, plan, message
):
    experiment = prepare(canonical(replace(small, dropout=plan)))
    with pytest.raises(ValueError, match=message):
        check_inference_rule(inference, experiment.rows)
