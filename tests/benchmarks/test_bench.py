"""What the benchmarks compute from times, and what they refuse before they time."""

import random
import sys

import jax
import jax.numpy as jnp
import pytest

from benchmarks.generators import GENERATORS, generator_dropouts
from benchmarks.inference import InferenceRequest, sites_to_time
from benchmarks.parts import check
from benchmarks.request import Request, configuration, positive_numbers
from benchmarks.tables import Measured
from benchmarks.timing import calls_to_time, compared, measure, shuffled
from benchmarks.training_steps import per_member, plans_by_site
from benchmarks.whole_runs import medians, wall_time


def test_the_ratio_is_of_medians_to_the_first_contestant():
    results = compared({"first": [4.0, 1.0, 2.0], "second": [5.0, 100.0, 6.0]})
    assert results["first"] == Measured(1.5, 2.0, 3.0, 1.0)
    assert results["second"].median == 6.0 and results["second"].ratio == 3.0


@pytest.mark.parametrize("name", generator_dropouts())
def test_every_generator_drops_half_and_follows_the_key(name):
    dropout, x = generator_dropouts()[name], jnp.ones((100, 100))
    first, second = (
        dropout(jax.random.key(seed), jnp.float32(0.5), x) for seed in (0, 1)
    )
    # Five standard deviations of 10,000 fair coins: 0.025.
    assert abs(float((first == 0).mean()) - 0.5) < 0.025
    assert set(jnp.unique(first).tolist()) == {0.0, 2.0}
    # Masks of two keys agree in half of the elements.
    assert abs(float((first == second).mean()) - 0.5) < 0.025


def test_every_name_of_a_generator_is_one_of_jax():
    for name in GENERATORS:
        assert name in repr(jax.random.key_impl(jax.random.key(0, impl=name)))


def test_a_round_has_every_contestant_once_and_rounds_differ_in_order():
    names, order = list("abcdef"), random.Random(0)
    rounds = [shuffled(names, order) for _ in range(9)]
    assert all(sorted(each) == names for each in rounds)
    assert len(set(map(tuple, rounds))) > 5


def test_contestants_are_interleaved(monkeypatch):
    """Each is called once in every round."""
    log = []
    monkeypatch.setattr("benchmarks.timing.calls_to_time", lambda run, seconds: 2)
    contestants = {name: lambda calls, name=name: log.append(name) for name in "abc"}
    results = measure("", contestants, rounds=5, seconds=1.0)
    rounds = [log[start : start + 3] for start in range(0, len(log), 3)]
    assert len(rounds) == 5 and all(sorted(each) == list("abc") for each in rounds)
    assert list(results) == list("abc")


def test_the_number_of_calls_fills_the_time(monkeypatch):
    monkeypatch.setattr("benchmarks.timing.elapsed", lambda run, calls: 0.01 * calls)
    assert calls_to_time(lambda calls: None, seconds=0.5) == 50
    assert calls_to_time(lambda calls: None, seconds=0.0) == 2


def test_a_member_has_its_share_of_a_populations_time():
    assert per_member(Measured(4.0, 8.0, 12.0, 2.0), 4) == Measured(1, 2, 3, 0.5)


def test_plans_by_site_name_each_site_alone_and_together():
    plans = plans_by_site(["input", "conv1", "fc"])
    assert plans["none"] == "none" and plans["fc"] == "fc:bernoulli:0.2"
    together = "input:bernoulli:0.2 conv1:bernoulli:0.2 fc:bernoulli:0.2"
    assert plans["every activation"] == together
    assert plans["not before a pooling"] == "input:bernoulli:0.2 fc:bernoulli:0.2"


def test_batches_are_cut_into_micro_batches():
    cut = configuration(Request(microbatch=128), "mlp", 512, "none")
    whole = configuration(Request(microbatch=128), "mlp", 32, "none")
    assert (cut.microbatches, whole.microbatches) == (4, 1)


@pytest.mark.parametrize(
    ("parts", "changes", "flag"),
    [
        (["operations", "nosuch"], {}, "--parts=nosuch"),
        (["operations"], {"variants": ("nosuch",)}, "--variants=nosuch"),
        (["steps"], {"models": ("cnn", "nosuch")}, "--models=nosuch"),
        (["sites"], {"models": ("nosuch",)}, "nosuch"),
    ],
)
def test_unknown_names_are_refused_in_one_line(parts, changes, flag):
    with pytest.raises(ValueError, match=flag) as caught:
        check(parts, Request(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["0", "-1", "x", ""])
def test_sizes_are_whole_numbers_above_0(text):
    with pytest.raises(ValueError, match="--batch_sizes"):
        positive_numbers("batch_sizes", ["32", text])


@pytest.mark.slow
def test_a_site_that_the_network_lacks_is_refused():
    request = InferenceRequest("digits", "", "mlp", ("nosuch",), 1, 1, 1, "mc")
    with pytest.raises(ValueError, match="nosuch"):
        sites_to_time(request)


def test_whole_runs_are_compared_by_their_medians():
    seconds = {"cold": [9.0, 3.0, 4.0], "warm": [2.0], "Keras": [8.0, 8.0]}
    assert list(medians(seconds)) == [
        "cold: 4.0 s, 0.50 of Keras' 8.0 s",
        "warm: 2.0 s, 0.25 of Keras' 8.0 s",
    ]


def test_a_run_that_fails_is_told_by_its_last_line():
    with pytest.raises(ValueError, match="status 1: bad"):
        wall_time([sys.executable, "-c", "import sys; sys.exit('bad')"])
