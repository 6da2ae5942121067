"""Runs that are stopped, killed or damaged end as if nothing had happened."""

import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import jax
import numpy as np
import pytest
from paths import ROOT
from small_run import train

from training.record.tensorboard import open_tensorboard
from training.restore import restore
from training.runtime.checkpoints import locked
from training.runtime.signals import Stopped


def start(config, workdir):
    """`train.py` in a process of its own."""
    flags = [f"--{name}={value}" for name, value in vars(config).items() if value != ""]
    return subprocess.Popen(
        [sys.executable, "train.py", *flags, f"--workdir={workdir}"],
        cwd=ROOT,
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def newest(workdir):
    """The step of the newest checkpoint, 0 where there is none."""
    saved = workdir.glob("checkpoints/[0-9]*[0-9]")
    return max((int(path.name) for path in saved), default=0)


def wait_for_checkpoint(workdir, process):
    """Waits until a first checkpoint has been saved."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if newest(workdir):
            return
        time.sleep(0.01)
    raise AssertionError(f"no checkpoint appeared: {process.communicate()[1]}")


def assert_same_end(workdir, summary, expected_workdir, expected):
    """Bit for bit: parameters, optimiser state, metrics and masks."""
    assert summary["params_digest"] == expected["params_digest"]
    assert summary["masks_digest"] == expected["masks_digest"]
    texts = [(w / "metrics.jsonl").read_text() for w in (workdir, expected_workdir)]
    assert texts[0] == texts[1]
    states = [restore(str(w))[1] for w in (workdir, expected_workdir)]
    for first, second in zip(*map(jax.tree.leaves, states)):
        np.testing.assert_array_equal(first, second)


@pytest.fixture
def stray_signals_ignored():
    """A SIGTERM that comes when no run is listening ends nothing."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGTERM, before)


def stop_after_a_checkpoint(workdir, later_than):
    """Sends this process SIGTERM as soon as a checkpoint after a step is saved."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and newest(workdir) <= later_than:
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
def test_a_run_that_is_killed_and_stopped_ends_bit_for_bit_the_same(
    small, tmp_path, stray_signals_ignored
):
    config = replace(small, epochs=40, save_every=10, log_every=7)
    undisturbed = train(config, tmp_path / "whole")
    workdir = tmp_path / "disturbed"
    process = start(config, workdir)
    wait_for_checkpoint(workdir, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()
    saved = newest(workdir)
    stopper = threading.Thread(target=stop_after_a_checkpoint, args=(workdir, saved))
    stopper.start()
    with pytest.raises(Stopped, match="by SIGTERM after step .*the same command"):
        train(config, workdir)
    stopper.join()
    assert saved < newest(workdir) < 160
    assert not (workdir / "summary.json").exists()
    summary = train(config, workdir)
    assert_same_end(workdir, summary, tmp_path / "whole", undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_program_says_how_to_go_on(small, tmp_path, number):
    process = start(replace(small, epochs=400, save_every=10), tmp_path / "run")
    wait_for_checkpoint(tmp_path / "run", process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75  # EX_TEMPFAIL: the same command goes on
    (line,) = filter(None, said.splitlines())
    assert line.startswith(f"train.py: stopped by {number.name} after step ")
    assert "rerun the same command" in line


def unfinished(finished, tmp_path):
    """A copy of the finished run as if it had died before its summary."""
    workdir = tmp_path / "unfinished"
    shutil.copytree(finished[0], workdir)
    (workdir / "summary.json").unlink()
    return workdir


def largest_file(directory):
    files = [path for path in directory.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def truncate(directory):
    path = largest_file(directory)
    os.truncate(path, path.stat().st_size // 2)


def flip_bits(directory):
    path = largest_file(directory)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(
        b ^ 0x10 for b in content[middle : middle + 64]
    )
    path.write_bytes(content)


def delete_half(directory):
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    for path in files[::2]:
        path.unlink()


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        pytest.param(flip_bits, marks=pytest.mark.slow),
        pytest.param(delete_half, marks=pytest.mark.slow),
    ],
)
def test_a_damaged_checkpoint_is_reported_and_the_one_before_taken(
    finished, tmp_path, small, damage, capfd
):
    workdir = unfinished(finished, tmp_path)
    damage(workdir / "checkpoints" / "16")
    summary = train(small, workdir)
    assert_same_end(workdir, summary, *finished)
    assert "checkpoint 16 is damaged" in capfd.readouterr().err
    (aside,) = (workdir / "damaged").iterdir()  # The one before stays.
    assert aside.name.startswith("16-")


def test_when_all_checkpoints_are_damaged_nothing_is_changed(finished, tmp_path, small):
    workdir = unfinished(finished, tmp_path)
    for directory in (workdir / "checkpoints").glob("[0-9]*"):
        truncate(directory)
    contents = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match="all checkpoints .* are damaged"):
        train(small, workdir)
    for path, content in contents.items():
        assert path.read_bytes() == content, path


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount a small file system: {error}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.slow
# Orbax's threads outlive the loop of events that fails with them.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_ends_in_one_line_and_leaves_what_was_saved(
    finished, small_disk, small
):
    workdir = small_disk / "run"
    shutil.copytree(finished[0], workdir)
    (workdir / "summary.json").unlink()
    for step in ("12", "16"):
        shutil.rmtree(workdir / "checkpoints" / step)
    saved = workdir / "checkpoints" / "8"
    before = {p: p.read_bytes() for p in saved.rglob("*") if p.is_file()}
    free = shutil.disk_usage(small_disk).free
    (small_disk / "ballast").write_bytes(bytes(free - 8192))
    with pytest.raises(ValueError, match="no space is left.*same command") as raised:
        train(small, workdir)
    assert len(str(raised.value).splitlines()) == 1
    assert all(path.read_bytes() == content for path, content in before.items())
    gc.collect()
    (small_disk / "ballast").unlink()
    assert_same_end(workdir, train(small, workdir), *finished)


@pytest.mark.slow
def test_events_that_find_no_space_do_not_wait_for_ever(small_disk):
    (small_disk / "ballast").write_bytes(bytes(2**21 - 2**14))
    full = pytest.raises(OSError, match="No space left")
    with full, open_tensorboard(small_disk, 0, {}) as tracker:
        for step in range(10**4):
            tracker.add_scalars("train", {"loss": 0.0}, step)
            tracker.add_scalars("test", {"loss": 0.0}, step)
    gc.collect()  # A file that was not closed is a warning, and so an error.


def test_checkpoints_and_records_hold_no_pickles(finished):
    """Every pickle of protocol 2 or later starts with 0x80 and ends with a dot."""
    files = [path for path in finished[0].rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        content = path.read_bytes()
        assert path.suffix not in (".pkl", ".pickle", ".npy"), path
        assert not (content[:1] == b"\x80" and content[-1:] == b"."), path


def test_what_a_killed_process_had_begun_to_write_goes(finished, tmp_path, small):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    (workdir / ".curves-0123456789abcdef.partial.png").write_bytes(b"cut short")
    train(small, workdir)
    assert not list(workdir.glob(".*"))
    assert (workdir / "curves.png").read_bytes() == (
        finished[0] / "curves.png"
    ).read_bytes()


def test_a_second_process_is_refused(finished, small):
    with locked(finished[0]), pytest.raises(ValueError, match="another process"):
        train(small, finished[0])


@pytest.mark.slow
def test_a_run_without_a_checkpoint_starts_anew(finished, tmp_path, small):
    workdir = unfinished(finished, tmp_path)
    shutil.rmtree(workdir / "checkpoints")
    assert_same_end(workdir, train(small, workdir), *finished)
