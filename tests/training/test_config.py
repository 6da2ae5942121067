"""Configurations: their text, their checks, and when two runs are the same."""

from dataclasses import fields, replace

import pytest

from training.canonical import canonical
from training.config import Config
from training.default_workdir import default_workdir
from training.flag_text import differences, flag_lines, parse_flag_lines


def test_the_record_of_flags_reads_back():
    config = canonical(
        Config(
            dropout="conv*:bernoulli:0.1  fc:bernoulli:.5",
            dropout_schedule="early(until=0.2)",
            deterministic=True,
            optimizer="sgd( momentum=0.5 )",
            learning_rate=0.1,
        )
    )
    assert canonical(parse_flag_lines(flag_lines(config))) == config
    assert canonical(config) == config


def test_the_cache_of_a_machine_is_not_recorded_and_ignored_in_old_records():
    config = Config(cache_dir="/of/this/machine", data_dir="/data", seed=3)
    text = flag_lines(config)
    assert "cache_dir" not in text
    assert "--data_dir=/data\n" in text
    expected = replace(config, cache_dir="")
    assert parse_flag_lines(text) == expected
    assert parse_flag_lines(text + "--cache_dir=/of/another/machine\n") == expected


def test_canonical_text_forgets_how_a_plan_was_written():
    two_ways = (
        Config(dropout="fc:bernoulli:0.5", dropout_schedule="late(start=0.5)"),
        Config(dropout=" fc:bernoulli:.50@late( start=.5 )"),
    )
    first, second = map(canonical, two_ways)
    assert first == second
    assert default_workdir(first) == default_workdir(second)


def test_only_what_makes_a_run_makes_another_workdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("x", "x.py"):  # Two flags name files, which count.
        (tmp_path / name).touch()
    config = canonical(Config())
    for item in fields(Config):
        value = getattr(config, item.name)
        other = {str: f"{value}x", int: 7, float: 0.25, bool: not value}[type(value)]
        changed = replace(config, **{item.name: other})
        same = default_workdir(changed) == default_workdir(config)
        assert same == item.metadata["resumable"], item.name
        assert bool(differences(config, changed)) != item.metadata["resumable"]


def test_differences_name_flag_and_values():
    old, new = Config(), replace(Config(), seed=3, learning_rate=0.1, workdir="x")
    assert differences(old, new) == [
        "--learning_rate is '0.1', was '0.001'",
        "--seed is '3', was '0'",
    ]


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"epochs": 0}, ["--epochs=0", "--steps=0", "positive"]),
        ({"epochs": 3, "steps": 5}, ["--epochs=3", "--steps=5"]),
        ({"epochs": -1}, ["--epochs=-1", "[0, "]),
        ({"batch_size": 0}, ["--batch_size=0", "[1, "]),
        ({"batch_size": 64, "microbatches": 3}, ["--microbatches=3", "64"]),
        ({"learning_rate": float("nan")}, ["--learning_rate=nan"]),
        ({"label_smoothing": 1.5}, ["--label_smoothing=1.5", "[0, 1]"]),
        ({"seed": -1}, ["--seed=-1"]),
        ({"bits": "xor"}, ["--bits=xor", "hash or jax"]),
        ({"model": "resnot"}, ["'resnot'", "cnn"]),
        ({"optimizer": "adm"}, ["'adm'", "'adam'", "sgd"]),
        ({"optimizer": "sgd(momentum='x')"}, ["momentum='x'", "float"]),
        ({"learning_rate_schedule": "cos"}, ["'cos'", "cosine"]),
        ({"dropout": "fc:bernoulli:2"}, ["2.0", "[0, 1]"]),
        ({"dropout_schedule": "erly"}, ["'erly'", "'early'"]),
        ({"workdir": "a\nb"}, ["single line"]),
    ],
)
def test_a_value_that_is_not_allowed_is_named_with_what_is(changes, names):
    with pytest.raises(ValueError) as raised:
        canonical(replace(Config(), **changes))
    message = str(raised.value)
    assert "\n" not in message
    assert all(name in message for name in names), message


def test_a_record_of_another_version_is_refused():
    with pytest.raises(ValueError, match="--brightness"):
        parse_flag_lines("--brightness=3\n")
