"""Kills a run at random moments, resumes it, and compares the results bit for bit.

    python scripts/chaos.py --kills=100

A small network trains on the embedded digits, once undisturbed, and then with SIGKILL
at a random time: during the start, a step, a log write, an evaluation, a checkpoint
write or the finish. At the end of a disturbed run, its parameters, optimiser state,
metrics file and masks must equal those of the undisturbed run. Then the next disturbed
run begins, until all kills are done.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from absl import flags

from training.runtime.main import expect_no_arguments, run_main

KILLS = flags.DEFINE_integer("kills", 100, "number of kills", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "seed for the moments of the kills")
OUT = flags.DEFINE_string(
    "out", "", "directory for the workdirs (default: a temporary one)"
)

# A function that says whether the occasion has come, and the seconds to wait from then.
Trigger = tuple[Callable[[], bool], float]
Occasion = Callable[[Path, random.Random], Trigger]
ROOT = Path(__file__).parent.parent
STEPS = 480
COMMAND = (
    sys.executable, str(ROOT / "train.py"), "--model=cnn(widths=(2, 3), dense=8)",
    "--dropout=conv*:bernoulli:0.0..0.3@linear fc:bernoulli:0.5@early",
    "--train_examples=192", "--batch_size=16", "--epochs=40", "--mesh=data:1",
    "--log_every=5", "--save_every=8",
)  # fmt: skip
SECONDS = 300  # A run that takes longer hangs.


def main(arguments: list[str]) -> None:
    """Run once undisturbed, then disturbed until all kills are done, and compare."""
    expect_no_arguments(arguments)
    chosen, left, tally = random.Random(SEED.value), KILLS.value, Counter()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(OUT.value or scratch)
        finish(start(out / "undisturbed"))
        runs = 0
        while left > 0:
            workdir, runs = out / f"disturbed{runs}", runs + 1
            killed = disturb(workdir, chosen, left)
            left, tally = left - sum(killed.values()), tally + killed
            differing = differences(out / "undisturbed", workdir)
            if differing:
                raise ValueError(f"after {dict(killed)}: {'; '.join(differing)}")
            print(f"run {runs}: {sum(killed.values())} kills, identical", flush=True)
    occasions = ", ".join(f"{count} {name}" for name, count in sorted(tally.items()))
    print(f"{sum(tally.values())} kills of {KILLS.value} in {runs} runs ({occasions}): "
          "parameters, optimiser state, metrics and masks are identical")  # fmt: skip


def start(workdir: Path) -> subprocess.Popen:
    """Start the run, always with the same command, in its workdir."""
    command, pipe = [*COMMAND, f"--workdir={workdir}"], subprocess.PIPE
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=pipe, text=True)


def finish(process: subprocess.Popen) -> None:
    """Wait for the end of a run.

    Raises:
        ValueError: the run fails or hangs.
    """
    try:
        _, printed = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise ValueError(f"train.py has not ended after {SECONDS} seconds.") from None
    if process.returncode:
        last = (printed.strip().splitlines() or ["it printed no error"])[-1]
        raise ValueError(f"train.py ended with status {process.returncode}: {last}")


def disturb(workdir: Path, chosen: random.Random, kills: int) -> Counter:
    """Run to the end with at most `kills` kills; return their number by occasion."""
    killed: Counter = Counter()
    while sum(killed.values()) < kills and not (workdir / "summary.json").exists():
        occasion = chosen.choices(list(OCCASIONS), list(OCCASIONS.values()))[0]
        if kill_at(start(workdir), workdir, occasion, chosen):
            killed[occasion.__name__.replace("_", " ")] += 1
    finish(start(workdir))
    return killed


def kill_at(
    process: subprocess.Popen, workdir: Path, occasion: Occasion, chosen: random.Random
) -> bool:
    """Kill a process on one of the occasions; return False if it has ended before."""
    come, delay = occasion(workdir, chosen)
    deadline = time.monotonic() + SECONDS
    while process.poll() is None and not come() and time.monotonic() < deadline:
        time.sleep(2e-4)
    time.sleep(delay)
    if process.poll() is not None:
        finish(process)
        return False
    process.kill()
    process.communicate()
    return True


def while_starting(workdir: Path, chosen: random.Random) -> Trigger:
    """Wait a few seconds, for imports, compilation or restoring."""
    return lambda: True, chosen.uniform(0, 6)


def during_a_step(workdir: Path, chosen: random.Random) -> Trigger:
    """Wait until training has advanced, and some time more."""
    return _grown(workdir), chosen.uniform(0, 0.3)


def while_logging(workdir: Path, chosen: random.Random) -> Trigger:
    """Wait until a line is written to the metrics."""
    return _grown(workdir), chosen.uniform(0, 5e-4)


def while_evaluating(workdir: Path, chosen: random.Random) -> Trigger:
    """Wait for the training line at an epoch's end, before its test line."""
    grown, epoch = _grown(workdir), 12

    def come() -> bool:
        if not grown():
            return False
        lines = (workdir / "metrics.jsonl").read_text().split("\n")
        if len(lines) < 2:  # No line is whole yet.
            return False
        last = json.loads(lines[-2])
        return last["split"] == "train" and last["step"] % epoch >= epoch - 5

    return come, chosen.uniform(0, 0.01)


def while_saving(workdir: Path, chosen: random.Random) -> Trigger:
    """Wait for a checkpoint that has not got its final name yet."""
    return lambda: any(workdir.glob("checkpoints/*tmp*")), chosen.uniform(0, 0.03)


def while_finishing(workdir: Path, chosen: random.Random) -> Trigger:
    """Wait for the last checkpoint, after which come test, picture and summary."""
    last = workdir / "checkpoints" / str(STEPS)
    return last.exists, chosen.uniform(0, 1.5)


# The weights of the choice. Finishing has a small one, because after a wait for it
# little of a run is left to disturb.
OCCASIONS = {
    while_starting: 4, during_a_step: 4, while_logging: 4, while_evaluating: 4,
    while_saving: 4, while_finishing: 1,
}  # fmt: skip


def _grown(workdir: Path) -> Callable[[], bool]:
    """Return a function that says if the metrics have grown since its last call."""
    sizes: list[int] = []

    def grown() -> bool:
        path = workdir / "metrics.jsonl"
        sizes.append(path.stat().st_size if path.exists() else 0)
        return len(sizes) > 1 and sizes[-1] > sizes[-2]

    return grown


def differences(expected: Path, found: Path) -> list[str]:
    """Return the names of what differs between two finished runs, if anything does."""
    differing = []
    texts = [(run / "summary.json").read_text() for run in (expected, found)]
    ours, theirs = map(json.loads, texts)
    for name in ("params_digest", "masks_digest", "steps", "test_loss"):
        if ours[name] != theirs[name]:
            differing.append(f"{name} {theirs[name]}, not {ours[name]}")
    metrics = [(run / "metrics.jsonl").read_bytes() for run in (expected, found)]
    if metrics[0] != metrics[1]:
        differing.append("metrics.jsonl")
    if state_digest(expected) != state_digest(found):
        differing.append("the state in the last checkpoint")
    return differing


def state_digest(workdir: Path) -> str:
    """Return the digest of the last saved state, which includes the optimiser's."""
    record = workdir / "checkpoints" / str(STEPS) / "record" / "metadata"
    return json.loads(record.read_text())["digest"]


if __name__ == "__main__":
    run_main(main)
