"""A plan for a network, from a small study within a given time."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl

from dropout import parse, resolve
from studies.arms import Arm, trials
from studies.comparison import Line, compare
from studies.engines import run_tasks
from studies.outcomes import outcome
from studies.tasks import group
from training.config import Config, canonical

CANDIDATES = (
    "fc*:bernoulli:0.25",
    "fc*:bernoulli:0.5",
    "pool*:bernoulli:0.25 fc*:bernoulli:0.5",
    "pool*:bernoulli:0.25",
    "conv*:bernoulli:0.1",
    "conv*:spatial:0.1",
    "input:bernoulli:0.2",
    "features:bernoulli:0.5",
    "block*/branch:drop_path:0.0..0.1",
)
CHOICE_SHARE = 0.5  # Of the time, to choose a plan; the rest compares it with none.
FRESH_SEED = 1000  # The first of the seeds that chose nothing.
FEWEST_SEEDS = 3

Elapsed = Callable[[], float]


def candidates(sites: tuple[str, ...]) -> list[str]:
    """The common plans that a network has the sites for."""
    return [plan for plan in CANDIDATES if _fits(plan, sites)]


def suggest(
    base: Config, plans: list[str], seconds: float, directory: Path
) -> tuple[str, list[Line]]:
    """The plan that validation chooses, and its comparison with none on the test split.

    A round trains what is left of the plans at one more seed, and halves them by mean
    validation loss. The last one is compared with none at seeds that chose nothing, as
    many as there is time for, and never fewer than `FEWEST_SEEDS`.
    """
    begin = time.monotonic()

    def elapsed() -> float:
        return (time.monotonic() - begin) / seconds

    plan = choose(base, plans, directory, elapsed)
    arms = [arm_of(base, "none"), arm_of(base, plan)]
    seeds, round_begin, longest = 0, elapsed(), 0.0
    while seeds < FEWEST_SEEDS or elapsed() + longest < 1:
        rows = train(arms, FRESH_SEED + seeds, directory)
        table = rows if not seeds else pl.concat([table, rows])
        seeds, longest = seeds + 1, max(longest, elapsed() - round_begin)
        round_begin = elapsed()
    return plan, compare(table, directory)


def choose(base: Config, plans: list[str], directory: Path, elapsed: Elapsed) -> str:
    """The plan that is left when half of them go after each seed, or time is up."""
    left, seed = [arm_of(base, plan) for plan in plans], 0
    tables = []
    while len(left) > 1 and elapsed() < CHOICE_SHARE:
        tables.append(train(left, seed, directory))
        losses = pl.concat(tables).group_by("arm").agg(pl.col("validation_loss").mean())
        mean = dict(losses.iter_rows())
        left = sorted(left, key=lambda arm: mean[arm.name])[: (len(left) + 1) // 2]
        seed += 1
    return left[0].name


def train(arms: list[Arm], seed: int, directory: Path) -> pl.DataFrame:
    """Trains arms at one seed; their rows."""
    found = trials(arms, (seed,))
    run_tasks(group(found, len(found)), directory)
    rows = [outcome(trial, directory, 0.0) for trial in found]
    return pl.DataFrame(rows, infer_schema_length=None)


def arm_of(base: Config, plan: str) -> Arm:
    """The arm of a plan, other flags as in `base`."""
    return Arm(plan, replace(canonical(replace(base, dropout=plan)), workdir=""))


def answer(plan: str, lines: list[Line]) -> str:
    """What the comparison says of the plan, in one sentence."""
    (line,) = [x for x in lines if x.test and x.quantity.column == "test_error"]
    assert line.test
    mean, low, high = line.test.difference
    text = (
        f"test error {mean:+.2f} points against none, 95 % [{low:+.2f}, {high:+.2f}], "
        f"{line.seeds} seeds"
    )
    if line.test.p >= 0.05:
        return f"no difference found between {plan!r} and none: {text}"
    return f"{'use' if mean < 0 else 'no dropout is better than'} {plan!r}: {text}"


def _fits(plan: str, sites: tuple[str, ...]) -> bool:
    try:
        return bool(resolve(parse(plan), sites))
    except ValueError:
        return False
