"""The evaluation of finished runs: its record, its table, its usage errors."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest
from paths import ROOT
from small_run import train

from evaluation import measures
from evaluation.curves import curves
from evaluation.evaluate import run_identity
from evaluation.predictions import (
    Predictions,
    held_out,
    load_runs,
    predict_part,
    prepare_inference,
    resized,
)
from evaluation.recalibration import recalibrate
from evaluation.scores import errors_by_samples, score, score_divergence
from evaluation.tables import table
from studies.evaluated_runs import by_configuration, over_runs, over_seeds
from studies.report import write_report


def test_weight_scaling_gives_the_scores_of_training(run, finished):
    test = held_out(run, "test", 0)
    predict = prepare_inference(run, "scaling", 5)
    scores = score(predict_part(run, predict, test), test.labels)
    assert scores["accuracy"] == pytest.approx(finished[1]["test_accuracy"])
    loss = scores["negative log-likelihood"]
    assert loss == pytest.approx(finished[1]["test_loss"], rel=1e-4)
    assert scores["mutual information"] < 1e-6


def test_errors_by_samples_begin_with_one_and_end_with_all():
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (6, 50, 3)).astype(np.float32)
    samples = np.asarray(jax.nn.log_softmax(logits))
    labels = random.integers(0, 3, 50)
    found = errors_by_samples(samples, labels, [1, 3, 6], 4)
    whole = measures.averaged(samples)
    np.testing.assert_allclose(
        found[:, -1, 1], measures.negative_log_likelihood(whole, labels), rtol=1e-5
    )
    single = [measures.negative_log_likelihood(one, labels) for one in samples]
    for value in found[:, 0, 1]:
        assert np.isclose(single, value, rtol=1e-5).any()


def test_images_of_another_form(run):
    images = np.full((2, 6, 8, 3), 90, np.uint8)
    assert (resized(images, (10, 10, 1)) == 90).all()
    assert resized(images, (10, 10, 1)).shape == (2, 10, 10, 1)
    grey = np.full((2, 4, 4, 1), 7, np.uint8)
    assert (resized(grey, (4, 4, 3)) == 7).all()


@pytest.mark.slow
def test_the_script_writes_its_record_and_pictures(finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    command = [
        sys.executable, "scripts/evaluate.py", str(workdir), str(workdir),
        "--rule=scaling,mc", "--samples=4", "--corruptions=rotation,blur",
        f"--out_of_distribution={json_dataset(workdir)}",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 runs" not in done.stdout  # The same run twice is one.
    record = json.loads((workdir / "evaluation.json").read_text())
    assert list(record["rules"]) == ["scaling", "mc"]
    assert record["rules"]["mc"]["mutual information"] > 0
    assert record["rules"]["mc"]["AUROC by predictive entropy"] > 0
    assert len(record["corruptions"]["mc"]["rotation"]["accuracy"]) == 6
    assert record["seed"] == 0 and record["member"] is None and record["step"] == 16
    assert {path.stem for path in workdir.glob("evaluation-*.csv")} == {
        f"evaluation-{n}"
        for n in ("reliability", "risk-coverage", "samples", "entropy")
    }
    pictures = {path.name for path in workdir.glob("evaluation-*.png")}
    assert len(pictures) == 7
    page = (workdir / "evaluation.md").read_text()
    assert all(name in page for name in pictures)


def json_dataset(workdir):
    """The run's own data set, as a stand-in for another."""
    lines = (workdir / "run.flags").read_text().splitlines()
    return next(line for line in lines if line.startswith("--dataset="))[10:]


@pytest.mark.slow
def test_a_population_has_a_page_and_a_table_over_its_seeds(small, tmp_path):
    workdir = tmp_path / "population"
    train(replace(small, seeds="0:3", mesh="members:1"), workdir)
    command = [
        sys.executable, "scripts/evaluate.py", str(workdir), "--samples=3",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (workdir / "evaluation.md").read_text()
    assert "3 runs: mean [95 % interval]" in page
    scores = [
        json.loads((workdir / f"member-{number}/evaluation.json").read_text())
        for number in range(3)
    ]
    losses = [score["rules"]["mc"]["negative log-likelihood"] for score in scores]
    assert len(set(losses)) == 3
    assert f"{np.mean(losses):.5f} [" in page


def test_the_report_holds_the_pictures_of_an_evaluated_run(tmp_path):
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / "evaluation.md").write_text("# Run\n\n![a](evaluation-a.png)\n")
    (workdir / "evaluation-a.png").write_bytes(b"picture")
    page = write_report([workdir, workdir], tmp_path / "report").read_text()
    assert page.count("data:image/png;base64,cGljdHVyZQ==") == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "no workdir"),
        (["nowhere"], "holds no run"),
        (["nowhere", "--corruptions=fog"], "expected all, or some of"),
    ],
)
def test_usage_errors_are_one_line(arguments, message):
    command = [sys.executable, "scripts/evaluate.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert message in done.stderr and len(done.stderr.splitlines()) == 1


def test_tables_hold_means_differences_and_gaps():
    first = {"scaling": {"loss": 0.5}, "mc": {"loss": 0.25, "ratio": 0.125}}
    second = {"scaling": {"loss": 0.7}, "mc": {"loss": 0.35, "ratio": 0.375}}
    lines = [line.split() for line in table(first)]
    assert lines[1:] == [["loss", "0.50000", "0.25000"], ["ratio", "-", "0.12500"]]
    loss, ratio = over_runs([first, second])[2:]
    # Two values: the mean, and the half range times the quantile 12.706 of t_1.
    assert "0.60000 [-0.67062, 1.87062]" in loss and loss.endswith("2/2")
    assert "-0.30000 [-0.93531, 0.33531]" in loss
    assert ratio.split()[1] == "-" and "0.25000 [" in ratio


def move(config, directory):
    """A run whose data set, and the directory of decoded data, have moved since."""
    (directory / "old").mkdir()
    shutil.copy(config.dataset, directory / "old" / "stripes.npz")
    config = replace(
        config,
        dataset=str(directory / "old" / "stripes.npz"),
        cache_dir=str(directory / "old" / "cache"),
    )
    train(config, directory / "run")
    (directory / "old").rename(directory / "new")
    return directory / "run", str(directory / "new"), str(directory / "new" / "cache")


@pytest.fixture(scope="module")
def moved(small, tmp_path_factory):
    return move(small, tmp_path_factory.mktemp("moved"))


@pytest.fixture(scope="module")
def moved_with_norms(small, tmp_path_factory):
    config = replace(
        small,
        model="resnet(depth=8, width=4)",
        dropout="features:bernoulli:0.5",
        epochs=1,
    )
    return move(config, tmp_path_factory.mktemp("norms"))


@pytest.mark.slow
def test_a_run_whose_data_have_moved_is_evaluated(moved):
    workdir, data_dir, cache_dir = moved
    with pytest.raises(ValueError, match=r"stripes\.npz"):
        load_runs(str(workdir))
    (run,) = load_runs(str(workdir), data_dir, cache_dir)
    assert run.experiment.config.cache_dir == cache_dir
    test = held_out(run, "test", 0)
    assert predict_part(run, prepare_inference(run, "plain", 1), test).shape == (
        1,
        30,
        3,
    )


@pytest.mark.slow
def test_a_run_whose_data_have_moved_is_recalibrated(moved_with_norms, capsys):
    workdir, data_dir, cache_dir = moved_with_norms
    recalibrate(str(workdir), data_dir, cache_dir)
    found = json.loads((workdir / "recalibrated.json").read_text())
    assert set(found) == {"step", "variance_shift", "before", "after"}
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(found["variance_shift"]) + 2


@pytest.mark.slow
@pytest.mark.parametrize("script", ["evaluate", "recalibrate", "rerun"])
def test_scripts_take_the_directories_of_a_moved_run(
    moved_with_norms, script, tmp_path
):
    workdir, (moved, data_dir, cache_dir) = tmp_path / "run", moved_with_norms
    shutil.copytree(moved, workdir)
    command = [
        sys.executable, f"scripts/{script}.py", str(workdir),
        f"--data_dir={data_dir}", f"--cache_dir={cache_dir}",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


USUAL = {"dropout": "fc:bernoulli:0.5", "model": "mlp", "rate_factor": 1.0}
OWN = {"subset_seed": -1, "init_seed": -1, "data_seed": -1, "mask_seed": -1}


def record(seed, accuracy, **flags):
    return {
        "rules": {"scaling": {"accuracy": accuracy}},
        "step": 10,
        "configuration": {**USUAL, **OWN, "seed": seed, **flags},
    }


def test_runs_are_pooled_over_seeds_and_over_nothing_else():
    """Two factors of the rate are two experiments; so are two networks, two steps."""
    records = [
        record(0, 0.9), record(1, 0.8), record(0, 0.7, rate_factor=0.6),
        record(1, 0.6, rate_factor=0.6), record(0, 0.2, model="cnn"),
        {**record(1, 0.1, model="cnn"), "step": 5},
    ]  # fmt: skip
    groups = by_configuration(records)
    assert [len(group) for group in groups.values()] == [2, 2, 1, 1]
    assert list(groups)[1] == (
        "fc:bernoulli:0.5 --model=mlp --rate_factor=0.6 --step=10"
    )
    lines = over_seeds(groups)
    assert [line for line in lines if "runs: mean" in line] == [
        "2 runs: mean [95 % interval]"
    ] * 2
    means = [line.split()[1] for line in lines if line.startswith("accuracy")]
    assert means == ["0.85000", "0.65000"]


def test_a_run_given_twice_counts_once_and_a_seed_of_the_masks_is_another():
    groups = by_configuration([record(0, 0.9), record(0, 0.9)])
    assert [len(group) for group in groups.values()] == [1] and not over_seeds(groups)
    masks = [record(0, 0.9, mask_seed=seed) for seed in range(3)]
    assert [len(group) for group in by_configuration(masks).values()] == [3]


def test_the_record_says_which_run_it_is(run):
    found = run_identity(run, 3)
    config = run.experiment.config
    assert (found["seed"], found["member"], found["step"]) == (config.seed, 3, 16)
    assert found["model"] == config.model and found["dropout"] == config.dropout
    assert found["configuration"]["learning_rate"] == config.learning_rate
    assert not {"workdir", "cache_dir", "mesh"} & found["configuration"].keys()


def test_the_numbers_of_the_curves_are_those_of_the_measures():
    random = np.random.default_rng(1)
    logits = random.normal(0, 2, (4, 60, 3)).astype(np.float32)
    samples = np.asarray(jax.nn.log_softmax(logits))
    labels = random.integers(0, 3, 60)
    by_inference = {"scaling": samples[:1], "mc": samples}
    predictions = Predictions(np.zeros((60, 2, 2, 1)), labels, by_inference)
    found = dict(curves(predictions, {"mc": samples[:, :20]}))
    assert list(found) == ["reliability", "risk-coverage", "samples", "entropy"]
    bins = found["reliability"].filter(inference="mc")
    gaps = (bins["confidence"] - bins["accuracy"]).abs() * bins["examples"] / 60
    error = measures.expected_calibration_error(measures.averaged(samples), labels)
    assert gaps.sum() == pytest.approx(error)
    risk = found["risk-coverage"].filter(inference="mc")["risk"]
    correct = measures.averaged(samples).argmax(-1) == labels
    assert len(risk) == 60 and risk[-1] == pytest.approx(1 - correct.mean())
    last = found["samples"].filter(inference="mc").row(-1, named=True)
    assert last["samples"] == 4 and last["error"] == pytest.approx(1 - correct.mean())
    assert len(found["entropy"]) == 2 * 60 + 20


def test_the_divergence_of_a_rule_from_itself_is_0():
    samples = np.log(np.random.default_rng(0).dirichlet([1, 1, 1], (3, 20)))
    found = score_divergence({"mc": samples, "scaling": samples[:1]})
    assert found["mc"]["divergence from mc"] == pytest.approx(0, abs=1e-12)
    assert found["scaling"]["divergence from mc"] > 0
    assert score_divergence({"scaling": samples}) == {"scaling": {}}
