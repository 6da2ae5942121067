"""The report of a study: from a made-up table of results, without any training."""

import json
import re

import numpy as np
import polars as pl
import pytest

from studies.pictures import rate_by_layer, rate_response, save
from studies.report import read_study, write_report

ERRORS = {
    "none": (0.05, 0.07),
    "fc:bernoulli:0.2": (0.0, 0.04),
    "fc:bernoulli:0.5@early(until=0.5)": (0.02, 0.03),
    "conv*:bernoulli:0.2": (0.06, 0.061),
    "conv*:bernoulli:0.5": (0.01, 0.09),
    "fc:bernoulli:0.5": (0.001, 0.09),
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A directory as compare.py leaves it: six plans, two seeds, two epochs."""
    directory = tmp_path_factory.mktemp("study")
    rows = [
        written_run(directory, plan, seed, error)
        for plan, errors in ERRORS.items()
        for seed, error in enumerate(errors)
    ]
    pl.DataFrame(rows).write_parquet(directory / "results.parquet")
    record = {
        "question": "Where & how much?",
        "arms": [{"name": plan, "stop": "last", "flags": ""} for plan in ERRORS],
        "seeds": [0, 1],
        "target": 0.9,
        "command": "python scripts/compare.py --plans='none; fc:bernoulli:0.2'",
        "versions": {"jax": "0.0.1"},
    }
    (directory / "study.json").write_text(json.dumps(record))
    return directory


def written_run(directory, plan, seed, error):
    """The row of a run, whose record is written."""
    path = directory / f"run-{len(list(directory.iterdir()))}"
    path.mkdir()
    right = np.arange(1000) >= 1000 * error
    np.savez(
        path / "predictions.npz",
        log_probabilities=np.stack([right, ~right], axis=1).astype(np.float32),
        labels=np.zeros(1000, int),
    )
    (path / "plan.txt").write_text(f"site  variant\nfc    {plan}\nout   -  -\n")
    lines = [
        {"step": 9 * epoch, "epoch": epoch, "split": split, "loss": 1 / epoch,
         "accuracy": 1 - error, "rate/fc": 0.5 * (split == "train")}
        for epoch in (1, 2) for split in ("train", "test")
    ]  # fmt: skip
    (path / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return {
        "arm": plan, "run": path.name, "stop": "last", "dropout": plan, "seed": seed,
        "validation_examples": 0, "test_error": error, "gap": 0.0, "nll": 1.0,
        "ece": 0.01, "epochs_to_target": 1.0, "seconds_to_target": 2.5,
    }  # fmt: skip


def test_the_page_has_all_parts_and_needs_no_other_file(study, tmp_path):
    page = write_report([study], tmp_path).read_text()
    assert re.findall("<h[12]>(.*?)</h[12]>", page) == [
        "Where &amp; how much?", "What was found", "Learning curves", "Rate response",
        "Rate by layer", "Rates over the run", "Resolved plans", "How to repeat it",
    ]  # fmt: skip
    for quantity in ("test error, %", "NLL", "ECE, %", "epochs to target"):
        assert f"<strong>{quantity}</strong>" in page
    assert "<strong>conv*:bernoulli:0.2</strong>" in page
    assert "<td>conv*:bernoulli:0.2</td>" in page and "<em>:" not in page
    assert "--plans='none; fc:bernoulli:0.2'" in page and "jax 0.0.1" in page
    references = re.findall(r'(?:src|href)\s*=\s*"?([^">]*)|url\(([^)]*)\)', page)
    assert references
    assert all(a.startswith("data:image/svg+xml;base64,") for a, _ in references)
    markdown = (tmp_path / "report.md").read_text()
    links = re.findall(r"!\[.*?\]\((.*?)\)", markdown)
    assert len(links) == len(references)
    assert all((tmp_path / link).is_file() for link in links)


def test_bars_of_an_error_end_at_0_percent(study):
    """Two seeds' intervals are wide: that of 0 and 4 % reaches to -23 %."""
    (figure,) = rate_response(read_study(study)[1]).figures
    axes = figure.axes[0]
    ends = [path for bars in axes.collections for path in bars.get_segments()]
    assert len(ends) == 6  # Of two rules, each with two rates and none.
    lowest = min(end[:, 1].min() for end in ends)
    assert lowest == 0 and max(end[:, 1].max() for end in ends) <= 100


def test_the_heat_map_has_the_mean_of_each_layer_and_rate(study):
    (figure,) = rate_by_layer(read_study(study)[1]).figures
    axes = figure.axes[0]
    layers, rates = (
        [text.get_text() for text in labels]
        for labels in (axes.get_yticklabels(), axes.get_xticklabels())
    )
    found = axes.images[0].get_array()
    for layer, row in zip(layers, found):
        for rate, error in zip(rates, row):
            rule, _, schedule = layer.partition("@")
            plan = f"{rule}:{rate}" + (f"@{schedule}" if schedule else "")
            if plan in ERRORS:
                assert error == pytest.approx(100 * np.mean(ERRORS[plan]))
            else:
                assert np.ma.is_masked(error)
    assert found.count() == 5


def test_equal_pictures_are_equal_files(study, tmp_path):
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        picture = rate_response(read_study(study)[1])
        (file,) = save(picture._replace(name="p"), tmp_path / name)
        written.append((tmp_path / name / file).read_bytes())
    assert written[0] == written[1]
