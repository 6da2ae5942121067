"""Kills a run at random moments, starts it again, and compares its end bit for bit.

    python scripts/chaos.py --kills=100

A small network trains on the embedded digits, once undisturbed, and then with SIGKILL
during start, step, log write, evaluation, checkpoint write and finish, chosen at
random. When a disturbed run has ended it has to have the same parameters, optimiser
state, metrics file and masks; then another is begun, until all kills are done.
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

from absl import app, flags

KILLS = flags.DEFINE_integer("kills", 100, "how often to kill", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "of the moments")
OUT = flags.DEFINE_string("out", "", "the runs' records (default: a temporary place)")

# Whether the moment has come, and the seconds to wait from then on.
When = tuple[Callable[[], bool], float]
Moment = Callable[[Path, random.Random], When]
ROOT = Path(__file__).parent.parent
STEPS = 480
COMMAND = (
    sys.executable, str(ROOT / "train.py"), "--model=cnn(widths=(2, 3), dense=8)",
    "--dropout=conv*:bernoulli:0.0..0.3@linear fc:bernoulli:0.5@early",
    "--train_examples=192", "--batch_size=16", "--epochs=40", "--mesh=data:1",
    "--log_every=5", "--save_every=8",
)  # fmt: skip
SECONDS = 300  # A run that takes longer is stuck.


def main(argv: list[str]) -> None:
    """Runs undisturbed, then disturbed until all kills are done; says what differs."""
    if len(argv) > 1:
        sys.exit(f"chaos.py: unexpected argument {argv[1]!r}; flags start with --.")
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
                sys.exit(f"chaos.py: after {dict(killed)}: {'; '.join(differing)}")
            print(f"run {runs}: {sum(killed.values())} kills, identical", flush=True)
    moments = ", ".join(f"{count} {name}" for name, count in sorted(tally.items()))
    print(f"{sum(tally.values())} kills of {KILLS.value} in {runs} runs ({moments}): "
          "parameters, optimiser state, metrics and masks are identical")  # fmt: skip


def start(workdir: Path) -> subprocess.Popen:
    """The run's command, always the same."""
    return subprocess.Popen(
        [*COMMAND, f"--workdir={workdir}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> None:
    """Waits for the end, which has to be a good one."""
    _, said = process.communicate(timeout=SECONDS)
    if process.returncode:
        sys.exit(f"chaos.py: train.py ended with {process.returncode}: {said}")


def disturb(workdir: Path, chosen: random.Random, kills: int) -> Counter:
    """Runs in `workdir` to the end, killed up to `kills` times; the moments of them."""
    killed: Counter = Counter()
    while sum(killed.values()) < kills and not (workdir / "summary.json").exists():
        moment = chosen.choices(list(MOMENTS), list(MOMENTS.values()))[0]
        if kill_at(start(workdir), workdir, moment, chosen):
            killed[moment.__name__.replace("_", " ")] += 1
    finish(start(workdir))
    return killed


def kill_at(
    process: subprocess.Popen,
    workdir: Path,
    moment: Moment,
    chosen: random.Random,
) -> bool:
    """Kills a process at a moment; False where it ended before."""
    come, delay = moment(workdir, chosen)
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


def while_starting(workdir: Path, chosen: random.Random) -> When:
    """Within the first seconds: imports, compilation, restoring."""
    return lambda: True, chosen.uniform(0, 6)


def during_a_step(workdir: Path, chosen: random.Random) -> When:
    """Some time after training has gone on."""
    return _grown(workdir), chosen.uniform(0, 0.3)


def while_logging(workdir: Path, chosen: random.Random) -> When:
    """As a line is written to the metrics."""
    return _grown(workdir), chosen.uniform(0, 5e-4)


def while_evaluating(workdir: Path, chosen: random.Random) -> When:
    """After the training line of an epoch's end, before the test line."""
    grown, epoch = _grown(workdir), 12

    def come() -> bool:
        if not grown():
            return False
        whole = (workdir / "metrics.jsonl").read_text().rpartition("\n")[0]
        if not whole:
            return False
        last = json.loads(whole.splitlines()[-1])
        return last["split"] == "train" and last["step"] % epoch >= epoch - 5

    return come, chosen.uniform(0, 0.01)


def while_saving(workdir: Path, chosen: random.Random) -> When:
    """While a checkpoint has not got its final name."""
    return (
        lambda: any(workdir.glob("checkpoints/*tmp*")),
        chosen.uniform(0, 0.03),
    )


def while_finishing(workdir: Path, chosen: random.Random) -> When:
    """After the last checkpoint: last evaluation, picture and summary."""
    last = workdir / "checkpoints" / str(STEPS)
    return last.exists, chosen.uniform(0, 1.5)


# How often each is chosen. Waiting for the finish leaves little of a run to disturb.
MOMENTS = {
    while_starting: 4,
    during_a_step: 4,
    while_logging: 4,
    while_evaluating: 4,
    while_saving: 4,
    while_finishing: 1,
}


def _grown(workdir: Path) -> Callable[[], bool]:
    """Whether the metrics have grown since the first call that found training going."""
    sizes: list[int] = []

    def grown() -> bool:
        path = workdir / "metrics.jsonl"
        sizes.append(path.stat().st_size if path.exists() else 0)
        return len(sizes) > 1 and sizes[-1] > sizes[-2]

    return grown


def differences(expected: Path, found: Path) -> list[str]:
    """In what two finished runs differ."""
    differing = []
    summaries = [
        json.loads((w / "summary.json").read_text()) for w in (expected, found)
    ]
    for name in ("params_digest", "masks_digest", "steps", "test_loss"):
        if summaries[0][name] != summaries[1][name]:
            differing.append(f"{name} {summaries[1][name]}, not {summaries[0][name]}")
    metrics = [(w / "metrics.jsonl").read_bytes() for w in (expected, found)]
    if metrics[0] != metrics[1]:
        differing.append("metrics.jsonl")
    if state_digest(expected) != state_digest(found):
        differing.append("the state in the last checkpoint")
    return differing


def state_digest(workdir: Path) -> str:
    """The digest that was saved with the last state, optimiser's included."""
    record = workdir / "checkpoints" / str(STEPS) / "record" / "metadata"
    return json.loads(record.read_text())["digest"]


if __name__ == "__main__":
    app.run(main)
