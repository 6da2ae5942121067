"""What a run decides before its first step: nothing is compiled, and a short run takes
the algorithm that compiles in less time, which its record keeps."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from small_run import train

from dropout import Timeline, named_key, parse, resolve
from dropout.grammar import parse_call
from models import MODELS
from training.canonical import canonical
from training.config import Config
from training.convolution_choice import WORTH_COMPILING, with_algorithm
from training.data.kept_statistics import kept_statistics
from training.data.splits import ArraySplit
from training.data.standardisation import statistics
from training.experiment import prepare
from training.network import planned
from training.record.console import describe, result_line
from training.record.same_run import with_recorded_algorithm
from training.record.summary import results_of
from training.start import start_state
from training.state import Totals

KEY = jax.random.key(0)  # Made here: that is a compilation.


def plan_of(name, image=(32, 32, 3)):
    return planned(parse_call(name), image, 10, KEY)


@pytest.fixture
def compilations(monkeypatch):
    """A list that grows at each program that is compiled, or read from the cache."""
    found = []
    compile = jax._src.compiler.compile_or_get_cached
    monkeypatch.setattr(
        "jax._src.compiler.compile_or_get_cached",
        lambda *given, **named: found.append(given) or compile(*given, **named),
    )
    return found


@pytest.mark.parametrize(
    "name",
    [n if n == "cnn" else pytest.param(n, marks=pytest.mark.slow) for n in MODELS],
)
def test_a_network_is_planned_without_a_compilation(name, compilations):
    network = plan_of(name, (64, 65, 1) if name == "char_rnn" else (28, 28, 3))
    leaves = jax.tree.leaves((network.params, network.stats))
    assert {type(leaf) for leaf in leaves} == {jax.ShapeDtypeStruct}
    assert not compilations
    jax.jit(lambda x: x * 3 + 2.25)(1.5)
    assert compilations  # So the list would have grown.


def test_the_multiplications_of_a_convolution_are_its_outputs_times_what_each_reads():
    """On 28x28x1 cnn has: 26 x 26 x 32 outputs read 9, and 11 x 11 x 64 read 9 x 32."""
    expected = (26 * 26 * 32 * 9, 11 * 11 * 64 * 9 * 32)
    assert plan_of("cnn", (28, 28, 1)).multiplications == expected
    assert plan_of("mlp").multiplications == ()


def test_an_experiment_starts_twice_from_the_same_arrays(small):
    experiment = prepare(canonical(replace(small, workdir="unused")))
    first, second = (start_state(experiment).params for _ in range(2))
    kernel = first["fc"]["kernel"]
    # The values of the key of the kernel's site, by the initialiser itself.
    key = named_key(experiment.keys["params"], "fc/kernel")
    drawn = jax.nn.initializers.glorot_uniform()(key, kernel.shape, np.float32)
    np.testing.assert_array_equal(kernel, drawn)
    np.testing.assert_array_equal(kernel, second["fc"]["kernel"])
    assert kernel is not second["fc"]["kernel"]


@pytest.mark.parametrize(
    ("examples_of_enough", "dropout", "model", "expected"),
    [
        (0.9, "fc:bernoulli:0.5", "cnn", "direct"),
        (1.1, "fc:bernoulli:0.5", "cnn", "windows"),
        (0.9, "conv1/kernel:bernoulli:0.5", "cnn", "windows"),
        (0.9, "none", "mlp", "windows"),
    ],
)
def test_a_run_is_direct_while_its_steps_save_less_than_they_cost_to_compile(
    examples_of_enough, dropout, model, expected
):
    network = plan_of(model, (28, 28, 1))
    products = 26 * 26 * 32 * 9 + 11 * 11 * 64 * 9 * 32
    steps = round(examples_of_enough * 2 * WORTH_COMPILING / products / 50)
    rows = resolve(parse(dropout), tuple(site.name for site in network.sites))
    config = Config(batch_size=50, convolution="auto")
    chosen = with_algorithm(config, network, rows, Timeline(steps, 10))
    assert chosen.convolution == expected
    for given in ("direct", "windows"):
        config = replace(config, convolution=given)
        assert with_algorithm(config, network, rows, Timeline(steps, 10)) == config


@pytest.mark.slow
def test_the_algorithm_is_recorded_and_said_and_a_resumed_run_keeps_it(
    finished, small, tmp_path
):
    workdir, summary = finished
    config = canonical(replace(small, workdir=str(workdir)))
    assert summary["convolution"] == "direct"
    assert "convolutions: direct" in (workdir / "plan.txt").read_text()
    assert "--convolution=direct\n" in (workdir / "run.flags").read_text()
    # A record of an earlier version names none, and its steps were those of windows.
    older = tmp_path / "older"
    shutil.copytree(workdir, older)
    flags = (older / "run.flags").read_text()
    (older / "run.flags").write_text(flags.replace("--convolution=direct\n", ""))
    found = with_recorded_algorithm(replace(config, workdir=str(older)))
    assert found.convolution == "windows"
    with pytest.raises(ValueError, match="--convolution is 'windows', was 'direct'"):
        train(replace(small, convolution="windows"), workdir)
    found = with_recorded_algorithm(replace(config, workdir=str(tmp_path / "none")))
    assert found.convolution == "auto"


def test_the_train_split_is_not_evaluated_where_no_one_asks(small):
    config = replace(small, evaluate_train=False, dropout="none", workdir="unused")
    experiment = prepare(canonical(config))
    evaluated = []

    def evaluate(state, images, labels, weights):
        evaluated.append(weights.sum())
        return Totals(2 * weights.sum(), weights.sum() / 2, weights.sum())

    found = results_of(experiment, evaluate, start_state(experiment))
    assert sum(evaluated) == 30  # The test examples alone.
    assert found["train_accuracy"] is None and found["train_loss"] is None
    assert (found["test_accuracy"], found["test_loss"]) == (0.5, 2.0)
    line = result_line(json.loads(json.dumps(found)), Path("unused"))
    assert "train" not in line.partition(" after")[0] and "50.00%" in line


def test_statistics_of_a_large_split_are_computed_once(tmp_path, monkeypatch):
    module = "training.data.kept_statistics"
    monkeypatch.setattr(f"{module}.SMALLEST_KEPT_BYTES", 1)
    calls = []
    monkeypatch.setattr(
        f"{module}.statistics", lambda split: calls.append(1) or statistics(split)
    )
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 5, 2), np.uint8)
    labels = np.zeros(50, np.int32)
    expected = images.mean((0, 1, 2)) / 255, images.std((0, 1, 2)) / 255
    for _ in range(2):
        found = kept_statistics(ArraySplit(images, labels), tmp_path / "cache")
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert {each.dtype for each in found} == {np.dtype(np.float32)}
    assert len(calls) == 1
    images = images.copy()
    images[7, 1, 2, 0] ^= 255
    kept_statistics(ArraySplit(images, labels), tmp_path / "cache")
    assert len(calls) == 2
    for path in (tmp_path / "cache").iterdir():
        path.write_text("[[1")
    found = kept_statistics(ArraySplit(images, labels), tmp_path / "cache")
    np.testing.assert_allclose(found[0], images.mean((0, 1, 2)) / 255, rtol=1e-6)
    assert len(calls) == 3


def test_the_description_says_nothing_of_convolutions_where_there_are_none(small):
    config = replace(small, model="mlp", dropout="none", workdir="unused")
    assert "convolutions" not in describe(prepare(canonical(config)))
