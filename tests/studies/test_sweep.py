"""Sweeps: spaces, samplers, a search that goes on after a stop, and the script."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import optuna
import polars as pl
import pytest
from paths import ROOT
from sampling import sampled

from studies.families import arm_of, families, points_of
from studies.search import ask, completed, open_search, record_points, tell
from studies.selection import Point, choice_lines, tuning_table, winners
from studies.space import (
    Choices,
    Range,
    at_border,
    fill,
    parse_space,
    sample_points,
)
from studies.statistics import Estimate
from studies.study import StudyRequest
from studies.sweep import Sweep, check_selection
from training.canonical import canonical
from training.config import Config

SPACE = "sites=fc, conv*; rate=0.1..0.7/4; learning_rate=log(1e-4..1e-2)"


def test_a_space_is_read():
    assert parse_space(SPACE) == {
        "sites": Choices(("fc", "conv*")),
        "rate": Range(0.1, 0.7, False, 4),
        "learning_rate": Range(1e-4, 1e-2, True, 5),
    }


@pytest.mark.parametrize(
    "text", ["rate", "rate=", "rate=1..0", "r=log(0..1)", "r=0..1/1"]
)
def test_a_space_that_cannot_be_read_is_refused(text):
    with pytest.raises(ValueError, match="--space"):
        parse_space(text)


def test_a_grid_is_all_combinations():
    points = sample_points("grid", parse_space(SPACE), 3, 0)
    assert len({tuple(point.values()) for point in points}) == 2 * 4 * 5
    assert {point["rate"] for point in points} == {"0.1", "0.3", "0.5", "0.7"}
    rates = sorted({float(point["learning_rate"]) for point in points})
    np.testing.assert_allclose(np.divide(rates[1:], rates[:-1]), 100**0.25, rtol=1e-3)


@pytest.mark.parametrize("sampler", ["random", "sobol"])
def test_points_lie_in_the_space_and_follow_from_the_seed(sampler):
    space = parse_space(SPACE)
    points = sample_points(sampler, space, 32, 1)
    assert len(points) == 32
    assert (
        points
        == sample_points(sampler, space, 32, 1)
        != sample_points(sampler, space, 32, 2)
    )
    assert points[:10] == sample_points(sampler, space, 10, 1)
    for point in points:
        assert point["sites"] in ("fc", "conv*")
        assert 0.1 <= float(point["rate"]) <= 0.7
        assert 1e-4 <= float(point["learning_rate"]) <= 1e-2


def test_a_sobol_sequence_fills_a_range_evenly():
    """Of 2^k points one lies in each of 2^k equal parts; of random ones never."""
    space = parse_space("rate=0..1")
    parts = {
        name: sorted(
            int(32 * float(p["rate"])) for p in sample_points(name, space, 32, 0)
        )
        for name in ("random", "sobol")
    }
    assert parts["sobol"] == list(range(32)) != parts["random"]


def test_a_sample_fills_the_plan_and_the_rest_are_flags():
    sample = {"sites": "conv*", "rate": "0.3", "learning_rate": "0.01"}
    plan = "{sites}:spatial:{rate} fc:bernoulli:{rate}"
    assert fill(plan, sample) == (
        "conv*:spatial:0.3 fc:bernoulli:0.3",
        {"learning_rate": "0.01"},
    )
    with pytest.raises(ValueError, match="'{dose}' is no name of --space: sites"):
        fill("fc:bernoulli:{dose}", sample)


@pytest.mark.filterwarnings("ignore")
def test_a_search_goes_on_where_it_was_stopped(tmp_path):
    """A sample whose loss was not told is asked again, first, and nothing twice."""
    space = parse_space("rate=0..0.8; sites=fc, conv*")
    asked = ask(open_search(tmp_path), space, 3, 9, 0)
    search = open_search(tmp_path)
    number = min(asked)
    tell(search, number, 0.5)
    again = ask(open_search(tmp_path), space, 3, 9, 0)
    assert completed(open_search(tmp_path)) == [asked.pop(number)]
    assert again == asked and len(again) == 2
    for number in again:
        tell(search, number, 0.5)
    assert list(ask(search, space, 3, 4, 0)) == [3]  # Four are all.


class Killed(Exception):
    """Stands for a signal that cannot be caught."""


def searched(directory, stop=0):
    """Twelve samples of a search, which is killed at the given call of optuna."""
    calls = 0

    def counted(function):
        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            found = function(*arguments, **options)
            if calls == stop:
                raise Killed
            return found

        return call

    space = parse_space("rate=0..0.8; learning_rate=log(1e-4..1e-2)")
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in (
            (optuna.Study, "ask"), (optuna.Study, "tell"),
            (optuna.Study, "add_trial"), (optuna.Trial, "suggest_float"),
        ):  # fmt: skip
            patch.setattr(owner, name, counted(getattr(owner, name)))
        search = open_search(directory)
        while len(completed(search)) < 12:
            for number, sample in ask(search, space, 2, 12, 7).items():
                tell(search, number, (float(sample["rate"]) - 0.3) ** 2)
    return completed(search)


@pytest.mark.parametrize("stop", [1, 4, 5, 17, 54, 56])
def test_a_search_that_is_killed_anywhere_tries_the_same_points(tmp_path, stop):
    """While a sample is drawn, after one of two is added, between two losses ..."""
    (tmp_path / "whole").mkdir()
    expected = searched(tmp_path / "whole")
    with pytest.raises(Killed):
        searched(tmp_path, stop)
    assert searched(tmp_path) == expected
    assert len({tuple(sample.values()) for sample in expected}) == 12


def test_a_damaged_search_is_named(tmp_path):
    (tmp_path / "optuna.db").write_text("junk" * 1000)
    with pytest.raises(ValueError, match="optuna.db is damaged"):
        open_search(tmp_path)


def sweep(workdir, dataset, *words):
    """A sweep of a network that trains in no time, started."""
    return subprocess.Popen(
        [sys.executable, "scripts/sweep.py", f"--dataset={dataset}", "--seeds=0:2",
         "--model=mlp(widths=(4,))", "--plan=*:bernoulli:{rate}", "--batch_size=24",
         f"--workdir={workdir}", f"--cache_dir={workdir.parent}/cache",
         "--validation_examples=24", "--test_seeds=7:10", *words],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": "."},
    )  # fmt: skip


def arms_of(workdir):
    return [
        arm["name"] for arm in json.loads((workdir / "study.json").read_text())["arms"]
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampler", sampled(["grid", "random", "sobol"], ["sobol"], pytest.mark.long)
)
def test_every_arm_is_tuned_alike_and_tested_once(small, sampler, tmp_path):
    """Rates and learning rates are traced: one program for each of two plans."""
    space = "--space=rate=0.1..0.4/2; learning_rate=log(0.01..0.1)/2"
    words = [space, f"--sampler={sampler}", "--samples=4", "--epochs=2"]
    workdir = tmp_path / "sweep"
    out, log = sweep(workdir, small.dataset, *words).communicate()
    grid = sampler == "grid"
    # Of two learning rates, or four; the plan has two rates of each, or four points.
    tuned = (2 if grid else 4) + 4
    assert f"{2 * tuned} runs to train, in 2 programs" in log, log
    assert "6 runs to train, in 2 programs" in log and "6/6 members" in log
    assert "test error, %" in out and "The winner on held-out examples is" in out
    assert "lies on the border of its range" in out or not grid
    chosen = pl.read_csv(workdir / "tuning.csv")
    assert len(chosen) == tuned
    assert chosen.filter(pl.col("chosen"))["arm"].to_list() == arms_of(workdir)
    record = json.loads((workdir / "study.json").read_text())
    assert record["seeds"] == [7, 8, 9] and len(arms_of(workdir)) == 2
    seeds = pl.read_parquet(workdir / "results.parquet")["seed"]
    assert set(seeds) == {7, 8, 9}  # No test error of a seed that chose is shown.
    plans = ("none", "*:bernoulli:{rate}")
    assert sum(len(completed(open_search(workdir, p))) for p in plans) == tuned
    out, log = sweep(workdir, small.dataset, *words).communicate()
    assert log.count("0 runs to train") == 2 and "test error, %" in out
    assert sum(len(completed(open_search(workdir, p))) for p in plans) == tuned


@pytest.mark.long
def test_parts_of_a_sweep_choose_when_all_are_trained(small, tmp_path):
    words = ["--space=rate=0.1..0.4/2", "--epochs=1", "--members=2"]
    found = [
        sweep(tmp_path / "s", small.dataset, *words, f"--shard={part}/2").communicate()
        for part in (0, 1, 0, 1)
    ]
    assert "runs are finished" in found[0][0] and "winner" not in found[0][0]
    assert "The winner on held-out examples is" in found[1][0]
    assert "test error, %" in found[2][0] + found[3][0]


@pytest.mark.slow
def test_a_search_that_is_killed_goes_on(small, tmp_path):
    workdir = tmp_path / "sweep"
    words = ["--sampler=optuna", "--samples=6", "--batch=2", "--epochs=2",
             "--space=rate=0..0.6"]  # fmt: skip
    first = sweep(workdir, small.dataset, *words)
    while len(list(workdir.glob("*/predictions.npz"))) < 4:
        assert first.poll() is None, first.communicate()
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = {p: p.stat().st_mtime_ns for p in workdir.glob("*/predictions.npz")}
    out, log = sweep(workdir, small.dataset, *words).communicate()
    assert "test error, %" in out, log
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())
    search = open_search(workdir, "*:bernoulli:{rate}")
    assert len(arms_of(workdir)) == 2 and len(completed(search)) == 6


def test_the_baseline_is_tuned_over_the_flags_and_texts_are_families():
    space = parse_space(
        "sites=fc, conv*; variant=bernoulli, gaussian; rate=0.1, 0.3; "
        "learning_rate=log(1e-4..1e-2)"
    )
    found = families("{sites}:{variant}:{rate}", space, "none")
    assert [(family.plan, list(family.space)) for family in found] == [
        ("none", ["learning_rate"]),
        ("fc:bernoulli:{rate}", ["rate", "learning_rate"]),
        ("fc:gaussian:{rate}", ["rate", "learning_rate"]),
        ("conv*:bernoulli:{rate}", ["rate", "learning_rate"]),
        ("conv*:gaussian:{rate}", ["rate", "learning_rate"]),
    ]
    counts = [len(points_of(family, "sobol", 16, 0)) for family in found]
    assert counts == [16] * 5
    with pytest.raises(ValueError, match="'{dose}' is no name of --space"):
        families("fc:bernoulli:{dose}", space, "none")


def test_a_baseline_without_flags_to_tune_is_one_point():
    none, _ = families("fc:bernoulli:{rate}", parse_space("rate=0..0.8"), "none")
    assert points_of(none, "sobol", 16, 0) == [{}]


@pytest.mark.parametrize(
    ("dimension", "values", "expected"),
    [
        (Range(0.1, 0.7, False, 5), ("0.1", "0.12", "0.4", "0.69"), (1, 1, 0, 1)),
        (Range(1e-4, 1e-2, True, 5), ("1e-4", "1e-3", "9e-3", "5e-3"), (1, 0, 1, 0)),
        (Choices(("0.1", "0.5", "0.3")), ("0.1", "0.3", "0.5"), (1, 0, 1)),
        (Choices(("fc", "conv*")), ("fc", "conv*"), (0, 0)),
    ],
)
def test_a_value_at_the_border_is_told(dimension, values, expected):
    assert tuple(at_border(dimension, value) for value in values) == expected


def point(family, rate, loss):
    sample = {"rate": rate}
    arm = arm_of(family, canonical(Config()), sample)
    return Point(family, sample, arm, Estimate(loss, loss - 1, loss + 1))


def test_the_best_point_of_each_family_is_chosen_and_named():
    space = parse_space("sites=fc, conv*; rate=0.1..0.9")
    _, dense, conv = families("{sites}:bernoulli:{rate}", space, "none")
    points = [point(dense, "0.1", 0.5), point(dense, "0.5", 0.3),
              point(conv, "0.9", 0.2), point(conv, "0.3", 0.4)]  # fmt: skip
    assert [found.arm.name for found in winners(points)] == [
        "fc:bernoulli:0.5", "conv*:bernoulli:0.9",
    ]  # fmt: skip
    said = choice_lines(points, 2)
    assert "fc:bernoulli:0.5: 0.3000 ± 1.0000, the best of 2 points" in said
    (warning,) = [line for line in said if line.startswith("Warning")]
    assert "rate=0.9" in warning
    assert said[-1] == "The winner on held-out examples is conv*:bernoulli:0.9."
    chosen = tuning_table(points).filter(pl.col("chosen"))["arm"]
    assert chosen.to_list() == ["fc:bernoulli:0.5", "conv*:bernoulli:0.9"]


def test_points_of_a_grid_are_in_the_storage_once(tmp_path):
    """A value that rounding moves out of its range is put at the border."""
    space = parse_space("rate=0.123456..0.654321/3; sites=fc, conv*")
    samples = sample_points("grid", space, 0, 0)
    search = open_search(tmp_path, "grid")
    losses = [(sample, float(index)) for index, sample in enumerate(samples)]
    record_points(search, space, losses[:4])
    record_points(search, space, losses)
    found = open_search(tmp_path, "grid").get_trials()
    assert [trial.value for trial in found] == [0, 1, 2, 3, 4, 5]
    assert {trial.params["sites"] for trial in found} == {"fc", "conv*"}
    assert all(0.123456 <= trial.params["rate"] <= 0.654321 for trial in found)


def request_of(seeds, validation):
    base = canonical(Config(validation_examples=validation))
    return StudyRequest(base, "?", seeds, "", 0.0, 0.2, 8, "local", "auto", "command")


@pytest.mark.parametrize(
    ("validation", "sampler", "test_seeds", "shard", "message"),
    [
        (0, "grid", (9,), "0/1", "--validation_examples=0: expected a number above 0"),
        (0, "optuna", (), "0/1", "--validation_examples=0"),
        (10, "grid", (9, 1), "0/1", "--test_seeds: 1 is one of --seeds"),
        (10, "optuna", (9,), "0/2", "--shard=0/2: expected 0/1"),
    ],
)
def test_a_choice_that_would_see_the_test_is_refused(
    validation, sampler, test_seeds, shard, message
):
    sweep = Sweep("", "rate=0..1", sampler, 4, 2, "none", test_seeds, shard)
    with pytest.raises(ValueError, match=message):
        check_selection(sweep, request_of((0, 1), validation))
