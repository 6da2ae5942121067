"""The report of a study: from a made-up table of results, without any training."""

import json
import re
import shutil
from html import escape

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from studies.arms import Trial, parse_arms
from studies.comparison import compare, first_arm
from studies.engines import progress_line
from studies.pictures import rate_by_layer, rate_response, save, schedules
from studies.report import read_study, write_report
from studies.tables import show
from studies.tasks import Task
from studies.verdicts import conclusion
from training.config import Config

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
        "versus": first_arm(list(ERRORS)),
        "margin": 0.2,
        "remarks": ["Chosen <b>by chance</b>."],
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
        step=18,
        log_probabilities=np.stack([right, ~right], axis=1).astype(np.float32),
        labels=np.zeros(1000, int),
    )
    (path / "plan.txt").write_text(f"site  variant\nfc    {plan}\nout   -  -\n")
    site = "conv1" if plan.startswith("conv") else "fc"
    lines = [
        {"step": 9 * epoch, "epoch": epoch, "split": split, "loss": 1 / epoch,
         "accuracy": 1 - error, f"rate/{site}": 0.5 * (split == "train")}
        for epoch in (1, 2) for split in ("train", "test")
    ]  # fmt: skip
    (path / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return {
        "arm": plan, "run": path.name, "stop": "last", "dropout": plan, "seed": seed,
        "rate_factor": 1.0, "validation_examples": 0, "test_error": error, "gap": 0.0,
        "nll": 1.0, "ece": 0.01, "ece_floor": 0.002, "epochs_to_target": 1.0,
        "epochs_followed": 2.0, "seconds_to_target": 2.5,
    }  # fmt: skip


@pytest.mark.slow
def test_the_page_has_all_parts_and_needs_no_other_file(study, tmp_path):
    page = write_report([study], tmp_path).read_text()
    assert re.findall("<h[12]>(.*?)</h[12]>", page) == [
        "Where &amp; how much?", "What was found", "Differences in test error",
        "Learning curves", "Rate response", "Rate by layer",
        "Rates over the run", "Resolved plans", "How to repeat it",
    ]  # fmt: skip
    for quantity in ("test error, %", "NLL", "ECE, %", "epochs to target, at most 2"):
        assert f"<strong>{quantity}</strong>" in page
    assert "<strong>conv*:bernoulli:0.2</strong>" in page
    assert "<td>conv*:bernoulli:0.2</td>" in page and "<em>:" not in page
    assert "Chosen &lt;b&gt;by chance&lt;/b&gt;." in page
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


def test_the_schedule_is_drawn_and_not_the_logged_rate(study):
    """`early(until=0.5)` is 0.5 until epoch 1; the log of both epochs has 0.5."""
    figures = schedules(read_study(study)[1], study).figures
    titles = [figure.axes[0].get_title() for figure in figures]
    axes = figures[titles.index("fc:bernoulli:0.5@early(until=0.5)")].axes[0]
    (line,) = axes.lines
    assert line.get_xdata()[[0, 9, -1]].tolist() == [0, 1, 2]
    assert line.get_ydata().tolist() == [0.5] * 9 + [0.0] * 10


HOSTILE = "<script>alert(1)</script> $\\frac$ `*` <img src=x onerror=alert(2)> _x ```"


@pytest.mark.slow
def test_names_and_questions_are_shown_and_never_run(study, tmp_path):
    directory = tmp_path / "study"
    shutil.copytree(study, directory)
    record = json.loads((directory / "study.json").read_text())
    record = {**record, "question": HOSTILE, "command": f"{HOSTILE}\n```\n<b>"}
    record["arms"][0]["name"] = HOSTILE
    record["versus"] = dict.fromkeys(record["versus"], HOSTILE)
    (directory / "study.json").write_text(json.dumps(record))
    table = pl.read_parquet(directory / "results.parquet")
    table = table.with_columns(pl.col("arm").replace("none", HOSTILE))
    table.write_parquet(directory / "results.parquet")
    page = write_report([directory], tmp_path / "out").read_text()
    assert not re.search("<(script|img src=x|b>)", page)
    assert f"<h1>{escape(HOSTILE)}</h1>" in page
    assert f"<td>{escape(HOSTILE)}</td>" in page
    assert f"<title>{escape(HOSTILE)}</title>" in page
    assert page.count("<pre>") == len(record["arms"]) + 1
    assert "Content-Security-Policy" in page


def test_a_long_name_keeps_its_rate_at_80_columns(study, capsys):
    directory = study
    plan = "block1/branch:drop_path:0.1 " * 4 + "fc:bernoulli:0.123456"
    table = read_study(directory)[1].with_columns(
        pl.col("arm").cast(str).replace("conv*:bernoulli:0.5", plan)
    )
    show(compare(table, directory, {plan: "none"}), Console(width=80))
    shown = "".join(capsys.readouterr().out.split())
    assert "".join(plan.split()) in shown


def test_the_verdict_names_its_measure_and_its_p(study):
    lines = compare(read_study(study)[1], study, first_arm(list(ERRORS)))
    (text,) = [s for s in conclusion(lines) if s.startswith("conv*:bernoulli:0.2")]
    assert re.fullmatch(
        r"conv\*:bernoulli:0.2: no difference in test error found "
        r"\(\+0\.05 ± [\d.]+ points, Holm's p = 1\) to none; undecided: with this "
        r"spread \(paired deviation 1\.34 points\) \d+ seeds find a difference of "
        r"0\.2 points 4 times in 5",
        text,
    )


def test_the_time_left_counts_programs():
    """One of three programs, with 8 of 10 members, took a minute: two minutes left."""
    trial = Trial("a", Config(), "last")
    tasks = [Task((trial,) * 8), Task((trial,)), Task((trial,))]
    line = progress_line(tasks[:1], tasks, 60.0)
    assert line == "8/10 members, 1/3 programs  a  2.0 min left"


@pytest.mark.parametrize("name", ["a\x1b[31m", "a\tb", "a\u2028b", "a\rb"])
def test_a_name_that_moves_the_cursor_is_refused(name):
    with pytest.raises(ValueError, match="expected printable characters"):
        parse_arms(Config(), "", f"'{name}' --dropout=none")
