"""Profiles of some steps, and what trackers alone are told."""

import json
import subprocess
import sys

import pytest
from paths import ROOT
from test_whole_runs import events_of

from training.canonical import canonical
from training.config import Config
from training.record.profile import Window, parse_profile


def test_a_window_of_steps_is_read():
    assert parse_profile("") is None
    assert parse_profile("3:10") == Window(3, 10)


@pytest.mark.parametrize("text", ["5", "5:5", "7:3", "-1:3", "a:b", "1:2:3"])
def test_another_text_is_refused(text):
    with pytest.raises(ValueError, match="--profile=.*START:STOP"):
        canonical(Config(profile=text))


@pytest.mark.slow
def test_a_run_is_profiled_within_its_window_and_is_the_same(small, finished, tmp_path):
    # In a process of its own: the profiler watches all threads, here also pytest's.
    flags = [f"--{name}={value}" for name, value in vars(small).items() if value != ""]
    own = [f"--workdir={tmp_path}", "--profile=5:7"]
    command = [sys.executable, "train.py", *flags, *own]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["params_digest"] == finished[1]["params_digest"]
    traces = list(tmp_path.rglob("*.trace.json.gz"))
    assert traces and list(tmp_path.rglob("perfetto_trace.json.gz"))


def test_trackers_alone_are_told_of_pace_rate_and_memory(small, finished):
    (path,) = (finished[0] / "tensorboard" / "run").iterdir()
    told = {}
    for event in events_of(path):
        for value in event.summary.value:
            told.setdefault(value.tag, []).append((event.step, value.simple_value))
    assert [step for step, _ in told["images_per_second"]] == [4, 8, 12, 16]
    rates = [value for _, value in told["learning_rate"]]
    assert rates == pytest.approx([0.01] * 4)
    assert all(10 < value < 1e6 for _, value in told["host_memory_mb"])
    for line in (finished[0] / "metrics.jsonl").read_text().splitlines():
        assert not {"images_per_second", "host_memory_mb"} & set(json.loads(line))
