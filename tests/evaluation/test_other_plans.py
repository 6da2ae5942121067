"""Plans that a network was not trained with, put into it at inference."""

import json
import shutil
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from dropout import parse, resolve
from evaluation import inference, measures, other_plans
from evaluation.evaluate import EvaluationRequest
from evaluation.other_plans import (
    fit_rate_factor,
    highest_factor,
    parse_plans,
    rules_that_fit,
    with_plan,
    with_rate_factor,
)
from evaluation.predictions import (
    held_out,
    load_runs,
    predict_part,
    prepare_inference,
)
from studies.other_plans import compare_plans
from training.optimizer import DROPOUT


@pytest.fixture(scope="module")
def run(finished):
    """The finished run, with some of its training examples to fit rates on."""
    (only,) = load_runs(str(finished[0]))
    ids = np.arange(24, dtype=np.int32)
    return only._replace(experiment=only.experiment._replace(validation_ids=ids))


def predicted(run, rule):
    part = held_out(run, "test", 8)
    return predict_part(run, prepare_inference(run, rule, 2, 8), part)


def test_the_own_plan_put_in_again_predicts_the_same(run):
    again = predicted(with_plan(run, parse(run.experiment.config.dropout)), "mc")
    np.testing.assert_array_equal(again, predicted(run, "mc"))
    assert np.abs(again[0] - again[1]).max() > 0.1


@pytest.mark.slow
def test_a_plan_of_rate_0_is_the_plain_network(run):
    without = predicted(with_plan(run, parse("fc:bernoulli:0.0")), "mc")
    plain = predicted(run, "plain")
    np.testing.assert_allclose(without, plain.repeat(2, 0), rtol=1e-5)


def test_learned_rates_stay_where_the_variant_does(run):
    learner = with_plan(run, parse("fc:concrete:0.3 conv2:concrete:0.3"))
    assert learner.state.params[DROPOUT] == {}
    learned = {"fc": {"logit": jnp.float32(1)}, "conv2": {"logit": jnp.float32(2)}}
    params = {**learner.state.params, DROPOUT: learned}
    learner = learner._replace(state=learner.state._replace(params=params))
    both = with_plan(learner, parse("conv2:bernoulli:0.1 fc:concrete:0.1"))
    assert both.state.params[DROPOUT] == {"fc": learned["fc"]}


def test_rules_fit_plans_that_have_sites_for_them(run):
    rules = list(inference.MODES)
    fitting = {
        "none": ["plain", "scaling"],
        "fc:bernoulli:0.1": ["plain", "scaling", "mc", "shared_mc"],
        "pool1/window:max_pool:0.1": rules[:-1],
        "fc/kernel:dropconnect:0.1": ["plain", "scaling", *rules[3:]],
    }
    for text, expected in fitting.items():
        assert rules_that_fit(with_plan(run, parse(text)), rules) == expected


@pytest.mark.parametrize(
    ("plan", "highest"),
    [("fc:bernoulli:0.5 conv1:bernoulli:0.2", 2), ("fc:bernoulli:0.0", 1)],
)
def test_the_highest_factor_leaves_every_rate_in_its_domain(plan, highest):
    assert highest_factor(resolve(parse(plan), ("fc", "conv1"))) == highest


@pytest.mark.parametrize(
    ("loss", "factor"),
    [
        (lambda factor: (factor - 0.37) ** 2, 0.37),
        (lambda factor: abs(factor - 1.0), 1.0),
        (lambda factor: 2.5, 1.0),
    ],
    ids=["parabola", "best as it is", "flat"],
)
def test_the_factor_is_that_of_the_lowest_loss(run, monkeypatch, loss, factor):
    monkeypatch.setattr(other_plans, "_loss_of_factor", lambda *ignored: loss)
    found = fit_rate_factor(with_plan(run, parse("fc:bernoulli:0.2")), "mc", 2, 0)
    assert found == pytest.approx(factor, abs=0.01)


@pytest.mark.slow
def test_the_loss_at_a_factor_is_that_of_the_rates_times_it(run):
    held = held_out(run, "validation", 0)
    loss = other_plans._loss_of_factor(run, "mc", 3, held)
    scaled = with_rate_factor(run, 0.4)
    rates = [row.rate for row in run.experiment.rows]
    np.testing.assert_allclose(
        [row.rate for row in scaled.experiment.rows], 0.4 * np.array(rates)
    )
    predict = prepare_inference(scaled, "mc", 3)
    found = measures.averaged(predict_part(scaled, predict, held))
    by_hand = -found[np.arange(24), held.labels].mean()
    assert loss(0.4) == pytest.approx(by_hand, rel=1e-5)
    assert abs(loss(1.0) - by_hand) > 1e-4


@pytest.mark.slow
def test_all_plans_of_the_seeds_of_a_run_are_compared_in_one_table(
    finished, tmp_path, capsys
):
    """A run at other rates is not one of its seeds."""
    changes = {"first": "", "second": "--seed=5\n", "third": "--rate_factor=0.5\n"}
    workdirs = [tmp_path / name for name in changes]
    for workdir, change in zip(workdirs, changes.values(), strict=True):
        shutil.copytree(finished[0], workdir)
        with (workdir / "run.flags").open("a") as flags:
            flags.write(change)
    request = EvaluationRequest(["scaling", "mc"], 2, 8, "", [], 8)
    plans = ["none", "fc:bernoulli:0.2"]
    compare_plans(list(map(str, workdirs)), plans, request, False, "", "")
    printed = capsys.readouterr().out
    assert printed.count("2: none\n3: fc:bernoulli:0.2\n") == 4
    assert printed.count("2 runs: mean [95 % interval]") == 1
    assert "3 runs" not in printed
    record = json.loads((workdirs[0] / "other-plans.json").read_text())
    columns = ["1 scaling", "1 mc", "2 scaling", "3 scaling", "3 mc"]
    assert list(record["rules"]) == columns
    losses = [record["rules"][name]["negative log-likelihood"] for name in columns]
    # Weight scaling is one network under all plans, and sampling is not.
    assert losses[0] == losses[2] == losses[3] and len(set(losses)) == 3
    assert "3 mc" in (workdirs[1] / "other-plans.md").read_text()


def test_what_does_not_fit_is_refused_in_one_line(run, finished):
    workdir = str(finished[0])
    request = EvaluationRequest(["mc"], 2, 8, "", [], 8)
    compare = partial(compare_plans, [workdir], data_dir="", cache_dir="")
    refused = {
        "--dropout=fc:bernouli:0.5: .*bernoulli": partial(
            parse_plans, ["fc:bernouli:0.5"]
        ),
        "--dropout=fc3:bernoulli:0.5: no site matches 'fc3'; did you mean": partial(
            with_plan, run, parse("fc3:bernoulli:0.5")
        ),
        "no validation data": partial(
            compare, texts=[], request=request, fit_rate=True
        ),
        "--rule=gaussian: no plan has sites": partial(
            compare,
            texts=["fc:bernoulli:0.5"],
            request=request._replace(inferences=["gaussian"]),
            fit_rate=False,
        ),
    }
    for message, call in refused.items():
        with pytest.raises(ValueError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
