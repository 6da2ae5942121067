"""One run as two processes of two devices each, on loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from paths import ROOT
from small_run import train

from training.record.metrics_log import read_metrics
from training.runtime.lost_process import FATAL, LOST, clear
from training.runtime.processes import Launch, join, launched_processes, leave

TIMEOUT = 20


@pytest.fixture
def shared(small):
    """A run whose rounding grows slowly."""
    return replace(small, optimizer="sgd", mesh="data:4", log_every=1)


def start_pair(config, workdir, second=None):
    """`train.py` in two processes, the second with a configuration of its own."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    hosts = [f"--coordinator=127.0.0.1:{port}", "--processes=2"]
    return [
        subprocess.Popen(
            [sys.executable, "train.py", *flags(each), *hosts, f"--process_id={index}",
             f"--workdir={workdir}", f"--host_timeout={TIMEOUT}"],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for index, each in enumerate((config, second or config))
    ]  # fmt: skip


def flags(config):
    return [f"--{name}={value}" for name, value in vars(config).items() if value != ""]


def finish(pair, seconds=240):
    """The exit statuses of both, and what each said on stderr."""
    said = [process.communicate(timeout=seconds)[1] for process in pair]
    return [process.returncode for process in pair], said


def train_pair(config, workdir):
    statuses, said = finish(start_pair(config, workdir))
    assert statuses == [0, 0], said
    return json.loads((workdir / "summary.json").read_text())


def losses(workdir):
    return [line["loss"] for line in read_metrics(workdir)]


def wait_for_checkpoint(workdir, pair, later_than=0):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert [process.poll() for process in pair] == [None, None]
        saved = [int(path.name) for path in workdir.glob("checkpoints/[0-9]*[0-9]")]
        if max(saved, default=0) > later_than:
            return max(saved)
        time.sleep(0.02)
    raise AssertionError("no checkpoint appeared")


def assert_ends_clearly(process):
    """It ends, and says in one line what to do."""
    said = process.communicate(timeout=3 * TIMEOUT)[1]
    assert process.returncode not in (0, None)
    lines = said.splitlines()
    assert len(lines) == 1, said
    assert lines[0].startswith("train.py: ") and "the same commands" in lines[0]


@pytest.mark.slow
def test_two_processes_are_one_run_and_their_checkpoint_resumes_on_one(
    shared, tmp_path
):
    alone = train(shared, tmp_path / "alone")
    pair = train_pair(shared, tmp_path / "pair")
    assert pair["masks_digest"] == alone["masks_digest"]
    expected = losses(tmp_path / "alone")
    np.testing.assert_allclose(losses(tmp_path / "pair"), expected, rtol=1e-5)
    (tmp_path / "pair" / "summary.json").unlink()
    (tmp_path / "pair" / "checkpoints" / "16").rename(tmp_path / "16")
    resumed = train(shared, tmp_path / "pair")
    assert resumed["steps"] == 16
    np.testing.assert_allclose(losses(tmp_path / "pair"), expected, rtol=1e-5)


@pytest.mark.slow
def test_a_population_over_two_processes_is_that_of_one(shared, tmp_path):
    """Averages, a test in the middle and a stop's checkpoint included."""
    config = replace(
        shared, model="mlp(widths=(4,))", dropout="*:bernoulli:0.2", seeds="0:4",
        mesh="members:4", ema=0.9, augment="flip",
    )  # fmt: skip
    alone, pair = train(config, tmp_path / "one"), train_pair(config, tmp_path / "two")
    for mine, its in zip(pair["members"], alone["members"], strict=True):
        assert mine["masks_digest"] == its["masks_digest"]
        for name in ("test_loss", "train_loss", "test_ema_loss"):
            assert mine[name] == pytest.approx(its[name], rel=1e-5)
    expected = losses(tmp_path / "one")
    assert len(expected) == 4 * (16 + 4)  # Each step and each epoch's test.
    np.testing.assert_allclose(losses(tmp_path / "two"), expected, rtol=1e-5)
    (tmp_path / "two" / "summary.json").unlink()
    (tmp_path / "two" / "checkpoints" / "16").rename(tmp_path / "16")
    assert train(config, tmp_path / "two")["steps"] == 16
    np.testing.assert_allclose(losses(tmp_path / "two"), expected, rtol=1e-5)


@pytest.mark.long
def test_two_processes_agree_with_one_over_a_hundred_steps(shared, tmp_path):
    config = replace(shared, epochs=25)
    train(config, tmp_path / "alone")
    train_pair(config, tmp_path / "pair")
    expected = losses(tmp_path / "alone")
    assert len(expected) == 100 + 25
    np.testing.assert_allclose(losses(tmp_path / "pair"), expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.long
def test_a_pair_that_loses_a_process_ends_and_resumes_exactly(shared, tmp_path):
    config = replace(shared, epochs=100, save_every=20)
    undisturbed = train_pair(config, tmp_path / "whole")
    workdir, saved = tmp_path / "disturbed", 0
    for victim in (1, 0):
        pair = start_pair(config, workdir)
        saved = wait_for_checkpoint(workdir, pair, saved)
        begin = time.monotonic()
        pair[victim].kill()
        assert_ends_clearly(pair[1 - victim])
        assert time.monotonic() - begin < 2 * TIMEOUT
        pair[victim].communicate()
    pair = start_pair(config, workdir)
    wait_for_checkpoint(workdir, pair, saved)
    pair[1].send_signal(signal.SIGTERM)
    statuses, said = finish(pair)
    assert statuses == [75, 75] and all("stopped by SIGTERM" in text for text in said)
    summary = train_pair(config, workdir)
    assert summary["params_digest"] == undisturbed["params_digest"]
    texts = [(w / "metrics.jsonl").read_text() for w in (workdir, tmp_path / "whole")]
    assert texts[0] == texts[1]


@pytest.mark.slow
@pytest.mark.parametrize("present", [0, 1])
def test_a_process_that_nobody_joins_ends_clearly(shared, tmp_path, present):
    pair = start_pair(shared, tmp_path / "run")
    pair[1 - present].kill()
    assert_ends_clearly(pair[present])
    pair[1 - present].communicate()


@pytest.mark.parametrize("fatal", FATAL)
def test_of_what_the_runtime_says_of_a_loss_one_line_remains(fatal):
    before = [
        "a warning of XLA\n",
        "E1125 coordination_service.cc:1] unhealthy\n",
        "1\n",
    ]
    end = [f"F1125 client.h:80] Terminating process because {fatal}\n", "@ 0x7f\n"]
    ours = "train.py: a reason (process 0)\n"
    assert list(clear([*before, *end])) == [before[0], LOST]
    assert list(clear([*before, ours, *end])) == [before[0], ours]
    # A process that is not ended so loses no line.
    assert list(clear(before)) == before


@pytest.mark.slow
def test_processes_with_different_flags_are_refused(shared, tmp_path):
    other = replace(shared, seed=7)
    statuses, said = finish(start_pair(shared, tmp_path / "run", other))
    assert 0 not in statuses
    assert any("[1] were started with other flags" in text for text in said), said


@pytest.mark.parametrize(
    ("launch", "words"),
    [
        (Launch(processes=2), "need --coordinator"),
        (Launch(process_id=0), "need --coordinator"),
        (Launch("localhost:1", 2, 2), "which of them"),
        (Launch("localhost:1", 0, 0), "which of them"),
        (Launch("localhost:1"), "which of them"),
    ],
)
def test_flags_that_do_not_fit_together_are_refused(launch, words):
    with pytest.raises(ValueError, match=words):
        join(launch, {})


def test_a_process_alone_leaves_with_the_first_line_of_a_message():
    with pytest.raises(SystemExit) as ended:
        leave("what  is\twrong\nand where")
    assert ended.value.code == "what is wrong"


def test_a_process_alone_joins_nobody():
    assert join(Launch(), {}) == 1
    assert join(Launch(), {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}) == 1


def test_launchers_say_how_many_processes_they_started():
    slurm = {"SLURM_PROCID": "1", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_NTASKS": "8"}
    assert launched_processes(slurm) == 8
    mpi = {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "3"}
    assert launched_processes(mpi) == 3
    assert launched_processes(dict(os.environ)) == 1
