"""Sweeps: spaces, samplers, a search that goes on after a stop, and the script."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import optuna
import pytest
from paths import ROOT

from studies.search import ask, completed, open_search, tell
from studies.space import Choices, Range, fill, parse_space, sample_points

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
         "--validation_examples=24", *words],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": "."},
    )  # fmt: skip


def arms_of(workdir):
    return [
        arm["name"] for arm in json.loads((workdir / "study.json").read_text())["arms"]
    ]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["grid", "random", "sobol"])
def test_the_points_of_a_sweep_share_a_program(small, sampler, tmp_path):
    """Rates and learning rates are traced: one program, and one for the baseline."""
    space = "--space=rate=0.1..0.4/2; learning_rate=0.01, 0.1"
    words = [space, f"--sampler={sampler}", "--samples=4", "--epochs=2"]
    out, log = sweep(tmp_path / "sweep", small.dataset, *words).communicate()
    assert "10 runs to train, in 2 programs" in log and "10/10 members" in log
    assert len(arms_of(tmp_path / "sweep")) == 5 and "test error, %" in out
    out, log = sweep(tmp_path / "sweep", small.dataset, *words).communicate()
    assert "0 runs to train" in log and "test error, %" in out


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
    assert len(arms_of(workdir)) == 7 and len(completed(open_search(workdir))) == 6
