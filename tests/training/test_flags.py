"""The text of flags: what it means, what is refused, and that it is read back."""

import subprocess
import sys
from dataclasses import fields, replace

import pytest
from paths import ROOT
from small_run import train

from dropout import Timeline
from training.config import Config
from training.flag_text import flag_lines, parse_flag_lines, parse_value
from training.periods import period_of
from training.record import curves, recorder
from training.record.metrics_log import read_metrics

GROUPS = {"data", "model", "dropout", "optimisation", "devices", "record"}


@pytest.mark.parametrize("text", ["true", "True", "1", "t"])
def test_what_absl_reads_as_true_is_true(text):
    assert parse_value("telemetry", text) is True


@pytest.mark.parametrize("text", ["false", "False", "0", "f"])
def test_what_absl_reads_as_false_is_false(text):
    assert parse_value("telemetry", text) is False


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("telemetry", "yes"),
        ("telemetry", ""),
        ("epochs", "3.5"),
        ("learning_rate", "fast"),
        ("test_every", "seldom"),
        ("epochs", "never"),
    ],
)
def test_text_of_another_type_is_refused_with_the_flag_named(name, text):
    with pytest.raises(ValueError, match=f"--{name}={text}: expected"):
        parse_value(name, text)


def test_never_has_a_name_in_the_flagfile_and_is_read_back():
    config = Config(test_every=parse_value("test_every", "never"), telemetry=True)
    text = flag_lines(config)
    assert "--test_every=never\n" in text
    assert parse_flag_lines(text) == config


@pytest.mark.parametrize(("every", "steps"), [(0, 7), (3, 3), (-1, 70)])
def test_never_is_the_whole_run_and_0_an_epoch(every, steps):
    assert period_of(every, Timeline(total=70, steps_per_epoch=7)) == steps


@pytest.mark.slow
def test_a_run_that_never_tests_does_so_after_its_last_step(small, tmp_path):
    never = parse_value("test_every", "never")
    train(replace(small, test_every=never), tmp_path)
    tests = [line for line in read_metrics(tmp_path) if line["split"] == "test"]
    assert [line["step"] for line in tests] == [16]


def test_every_flag_has_a_group_and_a_help():
    assert {item.metadata["group"] for item in fields(Config)} == GROUPS
    assert all(len(item.metadata["help"]) > 10 for item in fields(Config))


@pytest.mark.parametrize(
    ("script", "groups"),
    [
        ("train.py", GROUPS),
        pytest.param("scripts/compare.py", GROUPS | {"study"}, marks=pytest.mark.slow),
        pytest.param("scripts/rerun.py", {"data"}, marks=pytest.mark.slow),
        pytest.param("scripts/bench.py", {"data"}, marks=pytest.mark.slow),
    ],
)
def test_help_ends_well_and_shows_the_groups(script, groups):
    command = [sys.executable, str(ROOT / script), "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {f"{group}:" for group in groups} <= set(done.stdout.splitlines())


@pytest.mark.slow
def test_the_curves_follow_the_run(small, tmp_path, monkeypatch):
    plots = []
    monkeypatch.setattr(recorder, "SECONDS_BETWEEN_PLOTS", -1.0)
    monkeypatch.setattr(curves, "plot_run", lambda *given: plots.append(given))
    train(small, tmp_path)
    assert len(plots) == 4 + 1  # one per epoch, and one at the end
