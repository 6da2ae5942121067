"""Learned dropout: parameters in the state, penalty, gradients, and logged rates."""

from dataclasses import replace
from functools import reduce

import jax
import numpy as np
import pytest
from flax import nnx
from small_run import train
from variant_cases import QUICK

from dropout import (
    VARIANTS,
    Site,
    Timeline,
    initial_parameters,
    kind_of,
    learned_rows,
    parse,
    penalty,
    resolve,
)
from dropout.grammar import parse_call
from models import MODELS, create
from training.canonical import canonical
from training.data.batches import batches_from
from training.dropout_parameters import learned_of, rates_of
from training.experiment import prepare
from training.network import functional
from training.record.metrics_log import read_metrics
from training.restore import restore
from training.start import start_state
from training.step import make_train_step

MODEL = "mlp(widths=(6, 5))"
PLAN = (
    "input:bernoulli:0.1@early fc1/kernel:sparse_variational:0.05@linear "
    "fc1/pre:standout:0.3 fc1:concrete:0.2 fc2:variational(share='channel'):0.3 "
    "out/kernel:variational(share='weight'):0.2"
)
LEARNED = [name for name in VARIANTS if VARIANTS[name].learned]
TIMELINE = Timeline(100, 10)
SITES = (
    Site("fc1/kernel", (4, 3), "fc1/kernel"), Site("fc1/pre", (8, 3), "fc2/kernel"),
    Site("fc1", (8, 3), "fc2/kernel"), Site("fc2/kernel", (3, 2), "fc2/kernel"),
)  # fmt: skip


@pytest.fixture(scope="module")
def learned(small, tmp_path_factory):
    """A run with all that adapts or is watched: its training lines, too."""
    workdir = tmp_path_factory.mktemp("learned") / "run"
    config = replace(
        small, model=MODEL, dropout=PLAN, dropout_learning_rate=0.05, telemetry=True,
        weight_decay=0.1, samples_per_step=2, consistency="rdrop",
    )  # fmt: skip
    summary = train(config, workdir)
    lines = [line for line in read_metrics(workdir) if line["split"] == "train"]
    return workdir, summary, lines


@pytest.mark.slow
def test_a_run_with_all_of_it_on_compiles_once(learned):
    assert learned[1]["compilations"] == 1


@pytest.mark.slow
def test_a_run_mixes_fixed_and_learned_rules(learned):
    _, _, lines = learned
    rates = {
        name: [line[name] for line in lines]
        for name in lines[0]
        if name.startswith("rate/")
    }
    assert [site[5:] for site in rates] == [
        "input", "fc1/kernel", "fc1/pre", "fc1", "fc2", "out/kernel",
    ]  # fmt: skip
    np.testing.assert_allclose(rates["rate/input"], [0.1, 0.1, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(rates["rate/fc1/pre"], [0.3] * 4, rtol=1e-6)
    for site in ("fc1/kernel", "fc1", "fc2", "out/kernel"):
        assert len(set(rates[f"rate/{site}"])) == 4, site
    assert all(np.isfinite(line["penalty"]) for line in lines)


@pytest.mark.slow
def test_telemetry_watches_every_site_that_has_a_rule(learned):
    _, _, lines = learned
    for line in lines:
        for site in [name[5:] for name in line if name.startswith("rate/")]:
            for name in ("mean_ratio", "variance_ratio", "gradient_norm"):
                assert np.isfinite(line[f"{name}/{site}"]), (name, site)
            assert 0 <= line[f"dead_channels/{site}"] <= 1
    # 2 draws of the first 16 rows, 4 steps, 100 pixels: five standard deviations.
    dropped = [line["drop_rate/input"] for line in lines]
    assert all(abs(rate - 0.1) < 0.0133 for rate in dropped[:2]), dropped
    assert dropped[2:] == [0, 0]


@pytest.mark.slow
def test_what_is_logged_last_is_what_the_saved_state_holds(learned):
    workdir, _, lines = learned
    experiment, state = restore(str(workdir))
    last = lines[-1]
    for site, rate in rates_of(state.params, experiment.objective.learned).items():
        assert last[f"rate/{site}"] == pytest.approx(float(rate), rel=1e-6)


@pytest.mark.slow
def test_parameters_start_at_the_rates_of_the_plan(small, tmp_path):
    config = replace(small, model=MODEL, dropout=PLAN, workdir=str(tmp_path))
    experiment = prepare(canonical(config))
    params, learned = start_state(experiment).params, experiment.objective.learned
    expected = {row.site: row.rate for row in experiment.rows}
    for site, rate in rates_of(params, learned).items():
        assert float(rate) == pytest.approx(expected[site], rel=2e-3), site
    assert set(learned_of(params)) == {item.row.site for item in learned}


@pytest.mark.parametrize("name", MODELS)
def test_the_name_of_a_kernels_site_is_its_path(name):
    image = (28, 28, 3)

    def shapes():
        model = create(parse_call(name), image, 10, jax.random.key(0))
        network = functional(model, image)
        for site, *_ in network.sites:
            if kind_of(site) == "kernel":
                reduce(lambda tree, part: tree[part], site.split("/"), network.params)

    nnx.eval_shape(lambda: shapes())


def learned_at(plan):
    return learned_rows(resolve(parse(plan), tuple(site.name for site in SITES)), SITES)


def test_a_site_is_regularised_with_the_kernel_that_reads_it():
    found = {
        p.row.site: p.kernel
        for p in learned_at("*/pre:concrete:0.1 */*:variational:0.1 *:concrete:0.1")
    }
    assert found == {
        "fc1/kernel": "fc1/kernel", "fc1/pre": "fc2/kernel", "fc1": "fc2/kernel",
        "fc2/kernel": "fc2/kernel",
    }  # fmt: skip
    with pytest.raises(ValueError, match="'last': no kernel"):
        rows = resolve(parse("last:concrete:0.1"), ("last",))
        learned_rows(rows, (Site("last", (8, 3), ""),))


def test_a_schedule_weighs_the_regulariser(key):
    learned = learned_at("fc1:concrete:0.3@linear")
    kernels = {"fc2/kernel": jax.random.normal(key, (3, 2))}
    params = initial_parameters(learned, kernels)
    values = [penalty(learned, params, kernels, s, TIMELINE) for s in (0, 50, 100)]
    entropy = -(0.3 * np.log(0.3) + 0.7 * np.log(0.7))
    squares = float((kernels["fc2/kernel"] ** 2).sum())
    full = 1e-8 * squares / 0.7 - 3 * entropy
    np.testing.assert_allclose(values, [0, full / 2, full], rtol=1e-5)


@pytest.mark.slow
def test_weight_decay_and_bounds_leave_the_parameters_alone(small, tmp_path):
    """Two runs that differ only in weight decay, after one step at a learning rate of
    which decay is a part: parameters of dropout are the same."""
    found = []
    for decay in (0.0, 10.0):
        config = replace(
            small, model=MODEL, dropout="fc1:concrete:0.3", weight_decay=decay,
            max_norm=0.1, optimizer="adamw", workdir=str(tmp_path),
        )  # fmt: skip
        experiment = prepare(canonical(config))
        step = make_train_step(
            experiment.objective, experiment.optimizer, 0.1, lambda: None
        )
        batch = next(batches_from(experiment, 0))
        after, _ = jax.jit(step, compiler_options=QUICK)(
            start_state(experiment), batch, jax.random.key(0)
        )
        found.append(after.params)
    assert found[0]["dropout"] == found[1]["dropout"]
    assert (found[0]["fc1"]["kernel"] != found[1]["fc1"]["kernel"]).any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fc1:concrete:0.0", r"rate 0.0 is outside \(0, 1\)"),
        ("fc1:concrete:1.0", r"rate 1.0 is outside \(0, 1\)"),
        ("fc1:variational:0.6", r"rate 0.6 is outside \(0, 0.5\]"),
        ("fc1:variational(share='unit'):0.1", "expected one of 'layer', 'channel'"),
    ],
)
def test_a_rate_that_cannot_be_learned_from_is_an_error(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_a_run_starts_with_the_kernels_that_mixout_goes_back_to(small, tmp_path):
    plan = "fc1/kernel:mixout:0.3 fc1:concrete:0.2"
    config = replace(small, model=MODEL, dropout=plan, workdir=str(tmp_path))
    params = start_state(prepare(canonical(config))).params
    assert params["dropout"].keys() == {"fc1/kernel", "fc1"}
    start = params["dropout"]["fc1/kernel"]["start"]
    np.testing.assert_array_equal(start, params["fc1"]["kernel"])


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_no_step_changes_the_kernels_at_the_start(small, optimizer, tmp_path):
    config = replace(
        small, model=MODEL, dropout="fc1/kernel:mixout:0.3", weight_decay=0.1,
        max_norm=0.5, optimizer=optimizer, clip_norm=1.0,
    )  # fmt: skip
    train(config, tmp_path)
    experiment, state = restore(str(tmp_path))
    start = state.params["dropout"]["fc1/kernel"]["start"]
    first = start_state(experiment).params["fc1"]["kernel"]
    np.testing.assert_array_equal(start, first)
    assert (state.params["fc1"]["kernel"] != first).any()
