"""Studies: arms, tasks, what is trained and what is only read, and the table."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import jax
import numpy as np
import polars as pl
import pytest
from paths import ROOT

from dropout import parse, resolve
from dropout.grammar import parse_call
from studies.arms import Trial, changed, parse_arms, parse_versus, trials
from studies.comparison import compare
from studies.engines import run_tasks
from studies.outcomes import append, outcome
from studies.populations import population
from studies.study import Study, collect, open_study, pending
from studies.tables import markdown
from studies.tasks import UNIT_RATE, group, program, shard, unit_plan
from studies.verdicts import cells
from training.canonical import canonical
from training.config import Config
from training.members import parse_seeds
from training.network import build
from training.record.metrics_log import text_digest

BASE = canonical(Config())
STUDIES = [  # Those with gates beside them are in `test_claims.py`.
    path
    for path in sorted((ROOT / "configs" / "studies").glob("*.flags"))
    if not path.with_suffix(".gates.toml").exists()
]


def small_study(small, directory, plans, seeds, arms=""):
    quick = replace(small, model="mlp(widths=(4,))", dropout="none", optimizer="sgd")
    base = canonical(replace(quick, epochs=2, bits="hash"))
    found = parse_arms(base, plans, arms)
    versus = parse_versus("", found)
    return Study("?", found, seeds, directory, 0.3, "command", versus)


def finish(study):
    open_study(study)
    run_tasks(pending(study, 8), study.directory)
    return collect(study)


@pytest.fixture(scope="module")
def finished_study(small, tmp_path_factory):
    """Two equal arms under different names, and a third, at two seeds; one program."""
    plans = ("*:bernoulli:0.2", "*:bernoulli:0.2", "*:bernoulli:0.5")
    arms = "; ".join(f"{name} --dropout={plan}" for name, plan in zip("abc", plans))
    directory = tmp_path_factory.mktemp("study")
    study = small_study(small, directory, "", (3, 5), arms)
    return study, finish(study)


def test_arms_are_all_combinations_of_plans_and_flags():
    plans = "none; fc:bernoulli:0.5@early(until=0.2)"
    flags = "plain --weight_decay=0; --weight_decay=0.1 --model='mlp(widths=(8, 8))'"
    found = parse_arms(BASE, plans, flags)
    assert [arm.name for arm in found] == [
        "none | plain",
        "none | --weight_decay=0.1 --model=mlp(widths=(8, 8))",
        "fc:bernoulli:0.5@early(until=0.2) | plain",
        "fc:bernoulli:0.5@early(until=0.2) | --weight_decay=0.1 "
        "--model=mlp(widths=(8, 8))",
    ]
    assert found[3].config == replace(
        BASE, weight_decay=0.1, model="mlp(widths=(8, 8))", workdir="",
        dropout="fc:bernoulli:0.5@early(until=0.2)",
    )  # fmt: skip


def test_an_arm_keeps_what_it_does_not_change():
    base = replace(BASE, cache_dir="/of/this/machine", data_dir="/data")
    assert changed(base, {"seed": "3"}) == replace(base, seed=3)


@pytest.mark.parametrize(
    ("plans", "arms", "message"),
    [
        ("none; fc:bernuli:0.5", "", "bernuli.*did you mean 'bernoulli'"),
        ("none; none", "", "two arms are called 'none'"),
        ("", "a --epoch=3", "--epoch"),
        ("", "a --epochs=three", "--epochs=three"),
        ("", "a --epochs", "expected --epochs=VALUE"),
        ("", "a --stop=first", "unknown stop 'first'"),
        ("", "a --stop=best_validation", "--validation_examples"),
    ],
)
def test_arms_that_cannot_be_read_are_named(plans, arms, message):
    with pytest.raises(ValueError, match=message):
        parse_arms(BASE, plans, arms)


def test_runs_of_one_program_differ_in_traced_values_only():
    plans = "fc:bernoulli:0.3; fc:bernoulli:0.7; fc:gaussian:0.3; none"
    arms = parse_arms(BASE, plans, "--weight_decay=0; --weight_decay=1; --epochs=3")
    found = trials(arms, (0, 1))
    tasks = group(found, 100)
    assert sum(len(task.trials) for task in tasks) == len(found) == 24
    assert len(tasks) == 3 * 2  # Two rates share; three plans by two lengths.
    for task in tasks:
        assert len({program(trial.config) for trial in task.trials}) == 1
    assert max(len(task.trials) for task in group(found, 5)) == 5


def test_equal_runs_are_trained_once(finished_study):
    study, table = finished_study
    tasks = group(study.trials, 100)
    assert sum(len(task.trials) for task in tasks) == 4
    assert len(table) == 6 and table["run"].n_unique() == 4


@pytest.mark.parametrize("rate", [0.1, 0.3, 1 / 3, 0.999, 0.0])
def test_the_rate_comes_back_exactly(rate):
    plan, factor = unit_plan(f"fc:bernoulli:{rate!r} conv*:spatial:{rate!r}@late")
    assert np.float32(UNIT_RATE) * np.float32(factor) == np.float32(rate)
    assert plan == "fc:bernoulli:0.5 conv*:spatial:0.5@late"


@pytest.mark.parametrize(
    "plan", ["none", "fc:bernoulli:0.5 input:bernoulli:0.1", "conv*:spatial:0.0..0.1"]
)
def test_a_plan_of_several_rates_is_its_own_program(plan):
    assert unit_plan(plan) == (plan, 1.0)


def test_shards_are_a_partition():
    tasks = group(trials(parse_arms(BASE, "none", ""), tuple(range(11))), 2)
    parts = [shard(tasks, f"{i}/4") for i in range(4)]
    assert sorted(map(str, sum(parts, []))) == sorted(map(str, tasks))
    for text in ("4/4", "1", "a/b", "-1/2"):
        with pytest.raises(ValueError, match="--shard"):
            shard(tasks, text)


def test_shards_one_after_another_leave_nothing_and_do_nothing_twice(
    tmp_path, monkeypatch
):
    study = Study("?", parse_arms(BASE, "none; fc:bernoulli:0.5", ""), tuple(range(9)),
                  tmp_path, 0.0, "command", {})  # fmt: skip
    trained = []
    monkeypatch.setattr(
        "studies.tasks.whole", lambda path: (path / "predictions.npz").exists()
    )
    for part in ("2/3", "0/3", "0/3", "1/3"):
        for trial in (
            trial for task in pending(study, 2, part) for trial in task.trials
        ):
            (tmp_path / trial.run).mkdir()
            (tmp_path / trial.run / "predictions.npz").touch()
            trained.append(trial)
    assert len(trained) == 18 and pending(study, 2) == []


def test_equal_arms_differ_by_0_with_p_1(finished_study):
    study, table = finished_study
    lines = compare(table, study.directory, study.versus)
    equal = [line for line in lines if line.arm == "b"]
    assert len(equal) >= 4
    for line in equal:
        if line.test:
            assert line.test.difference == (0, 0, 0)
            assert line.test.p == line.corrected == 1
    assert equal[0].examples == 1
    assert "nan" not in markdown(lines)
    assert (
        "b: no difference in test error found (+0.00 ± 0.00 points, Holm's p = 1) to a"
        in markdown(lines)
    )


def test_measures_are_those_of_the_record(finished_study):
    study, table = finished_study
    for row in table.iter_rows(named=True):
        workdir = study.directory / row["run"]
        summary = json.loads((workdir / "summary.json").read_text())
        assert row["test_error"] == 1 - summary["test_accuracy"]
        assert row["nll"] == pytest.approx(summary["test_loss"], rel=1e-5)
        assert row["gap"] == summary["train_accuracy"] - summary["test_accuracy"]
        assert row["seed"] in (3, 5) and row["epochs"] == 2


@pytest.mark.slow
def test_more_seeds_train_only_what_is_new_and_no_row_twice(finished_study):
    study, table = finished_study
    before = {path: os.stat(path).st_mtime_ns for path in study.directory.glob("*/*")}
    assert pending(study, 8) == []
    more = study._replace(seeds=(3, 5, 6), arms=study.arms[:2])
    assert [len(task.trials) for task in pending(more, 8)] == [1]
    finish(more)
    assert all(os.stat(path).st_mtime_ns == time for path, time in before.items())
    rows = pl.read_parquet(study.directory / "results.parquet")
    assert len(rows) == len(rows.unique(["run", "arm", "stop"])) == 8
    assert append(study.directory / "results.parquet", table.to_dicts()).equals(
        append(study.directory / "results.parquet", table.to_dicts())
    )


@pytest.mark.slow
def test_early_stopping_takes_the_step_of_lowest_validation_loss(small, tmp_path):
    config = canonical(replace(small, validation_examples=24, epochs=3, seed=1))
    trial = Trial("arm", replace(config, workdir=""), "last")
    run_tasks(group([trial], 1), tmp_path)
    path = tmp_path / trial.run / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:  # The second of three epochs is best.
        if line["split"] == "validation":
            line["loss"] = abs(line["epoch"] - 2)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    path.write_text(text)
    summary = json.loads(path.with_name("summary.json").read_text())
    summary["metrics_digest"] = text_digest(text)
    path.with_name("summary.json").write_text(json.dumps(summary))
    row = outcome(trial._replace(stop="best_validation"), tmp_path, 0.0)
    (test,) = [x for x in lines if x["split"] == "test" and x["epoch"] == 2]
    assert row["step"] == test["step"] and row["test_error"] == 1 - test["accuracy"]
    assert row["nll"] == test["loss"] and row["ece"] is None


def test_the_time_to_a_target_is_the_first_epoch_that_reaches_it(finished_study):
    study, _ = finished_study
    path = study.directory / study.trials[0].run / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    accuracies = [line["accuracy"] for line in lines if line["split"] == "test"]
    for target in (min(accuracies), max(accuracies), max(accuracies) + 0.01):
        row = outcome(study.trials[0], study.directory, target)
        reached = [e for e, value in enumerate(accuracies, 1) if value >= target]
        assert row["epochs_to_target"] == (reached[0] if reached else None)
        assert (row["seconds_to_target"] is None) == (not reached)


def test_the_table_says_how_many_reached_the_target(finished_study):
    study, table = finished_study
    some = table.with_columns(
        epochs_to_target=pl.when(seed=3).then(pl.lit(2.0)),
        epochs_followed=9.0,
        seconds_to_target=pl.when(seed=3).then(pl.lit(4.0)),
    )
    found = cells(compare(some, study.directory, study.versus))
    (epochs, *_) = found["epochs to target, at most 9"]
    assert epochs[0] == "a" and epochs[1].startswith("5.50 ±")
    assert epochs[1].endswith("(1/2)")
    (seconds, *_) = found["seconds to target"]
    assert seconds == ("a", "4.00 (1/2)", "-", "-", "-", "-")


def sites(model):
    found = []

    def record():
        network = build(model, (28, 28, 1), 10, jax.random.key(0))
        found.extend(site.name for site in network.sites)

    jax.eval_shape(record)
    return tuple(found)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_of_configs_has_arms_that_fit(path):
    lines = path.read_text().splitlines()
    values = dict(x[2:].split("=", 1) for x in lines if x.startswith("--"))
    assert values.pop("question").endswith("?")
    seeds = parse_seeds(values.pop("seeds"))
    assert 0 <= float(values.pop("target", "0")) <= 1
    texts = [values.pop(name, "") for name in ("plans", "arms")]
    arms = parse_arms(canonical(changed(Config(), values)), *texts)
    assert len(arms) >= 2 and len(seeds) >= 3
    for arm in arms:
        resolve(parse(arm.config.dropout), sites(parse_call(arm.config.model)))
    for word in ("# Source:", "# Command:", "# Expected:", "# Time:"):
        assert any(line.startswith(word) for line in lines), word


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("1", True), ("false", False), ("0", False)]
)
def test_booleans_of_arms_are_read_as_flags_are(text, value):
    (arm,) = parse_arms(BASE, "", f"on --telemetry={text}")
    assert arm.config.telemetry is value
    with pytest.raises(ValueError, match="--telemetry=maybe"):
        changed(BASE, {"telemetry": "maybe"})


@pytest.mark.parametrize(
    ("mesh", "resolved"),
    [
        ("members:1", "members:1"),
        ("members:4", "members:2"),
        ("data:2", "data:2"),
        ("", "members:2"),
    ],
)
def test_a_population_has_the_mesh_of_its_runs(mesh, resolved, tmp_path):
    """Six members, and the eight devices that all tests see."""
    base = replace(BASE, mesh=mesh)
    (task,) = group(trials(parse_arms(base, "none", ""), tuple(range(6))), 6)
    assert population(task, tmp_path).mesh == resolved


@pytest.mark.slow
def test_the_mesh_that_compare_is_given_holds(small, tmp_path):
    command = [
        sys.executable, "scripts/compare.py", f"--dataset={small.dataset}",
        "--plans=none; fc:bernoulli:0.5", "--seeds=0:2", "--epochs=1",
        f"--model={small.model}", f"--workdir={tmp_path / 'study'}",
        f"--cache_dir={tmp_path / 'cache'}", "--batch_size=24", "--mesh=members:1",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "2"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    records = list((tmp_path / "study").glob("population-*/run.flags"))
    assert records
    for record in records:
        assert "--mesh=members:1" in record.read_text().splitlines()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("compare.py --plans=none;none", "two arms are called 'none'"),
        pytest.param(
            *("compare.py --seeds=5:5", "expected START:STOP with START < STOP"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *("sweep.py --plan=fc:bernoulli:{dose}", "'{dose}' is no name of --space"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *("sweep.py --sampler=optuna", "--validation_examples=0: expected"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *("suggest.py --model=cnnn", "did you mean 'cnn'"), marks=pytest.mark.slow
        ),
        pytest.param(
            "report.py /nowhere", "/nowhere holds no results", marks=pytest.mark.slow
        ),
    ],
)
def test_a_script_says_in_one_line_what_is_wrong(command, message):
    script, *words = command.split()
    done = subprocess.run(
        [sys.executable, f"scripts/{script}", *words],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(f"{script}: ") and message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("runs", "most", "workers", "sizes"),
    [
        (80, 64, 1, [64, 16]),
        (80, 64, 8, [10] * 8),
        (80, 8, 2, [8] * 10),
        (81, 8, 4, [7] * 11 + [4]),
        (3, 64, 8, [1] * 3),
    ],
)
def test_every_worker_has_as_many_tasks_of_one_size(runs, most, workers, sizes):
    found = trials(parse_arms(BASE, "none", ""), tuple(range(runs)))
    tasks = group(found, most, workers)
    assert [len(task.trials) for task in tasks] == sizes
    assert [trial for task in tasks for trial in task.trials] == found
