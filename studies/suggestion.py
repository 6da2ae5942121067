"""A suggested plan for a network, from a small study within a given time."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl

from dropout import parse, resolve
from dropout.grammar import parse_call
from studies.arms import Arm, trials
from studies.comparison import TableLine, compare
from studies.engines import run_tasks
from studies.outcomes import outcome
from studies.tasks import group
from studies.verdicts import p_text
from training.canonical import canonical
from training.config import Config
from training.experiment import prepare

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
CHOICE_SHARE = 0.5  # The share of the time in which to choose a plan to compare.
FRESH_SEED = 1000  # The first seed of the comparison; the choice does not use it.
SEEDS = 3  # The seeds in a round of the comparison, which has at least one round.
HELD_OUT = 5  # One in five examples is held out, unless --validation_examples is set.

Elapsed = Callable[[], float]


def starting_point(config: Config, mesh: str) -> tuple[Config, list[str]]:
    """Return the base of the study, with examples held out, and the plans that fit.

    Args:
        config: a configuration without dropout, its mesh resolved.
        mesh: the mesh as the user gave it, which each population resolves.

    Raises:
        ValueError: none of the common plans has its sites in the network.
    """
    experiment = prepare(config)
    plans = candidates(tuple(site.name for site in experiment.network.sites))
    if not plans:
        raise ValueError(f"--model={config.model}: no common plan has its sites.")
    base = replace(config, mesh=mesh, workdir="")
    if config.validation_examples:
        return base, plans
    examples = len(experiment.train_ids)
    held_out = examples // HELD_OUT
    base = replace(
        base, validation_examples=held_out, train_examples=examples - held_out
    )
    return base, plans


def candidates(sites: tuple[str, ...]) -> list[str]:
    """Return the common plans whose sites a network has."""
    return [plan for plan in CANDIDATES if _fits(plan, sites)]


def suggestion_directory(config: Config) -> str:
    """Return the default directory of the study, by data and model."""
    model = parse_call(config.model).name.replace(":", "-")
    return f"runs/suggest-{Path(config.dataset).stem}-{model}"


def suggest(
    base: Config, plans: list[str], seconds: float, directory: Path
) -> tuple[str, list[TableLine]]:
    """Return the plan with the best validation loss, compared with none on the test.

    Each round trains the plans that are left at one more seed, and keeps the half with
    the lower mean validation loss. The last plan is compared with no dropout at seeds
    that were not used to choose it: as many as there is time for, but at least `SEEDS`.
    """
    begin = time.monotonic()

    def elapsed() -> float:
        return (time.monotonic() - begin) / seconds

    plan = choose(base, plans, directory, elapsed)
    arms = [arm_of(base, "none"), arm_of(base, plan)]
    tables: list[pl.DataFrame] = []
    round_begin, longest = elapsed(), 0.0
    while not tables or elapsed() + longest < 1:
        first = FRESH_SEED + SEEDS * len(tables)
        tables.append(train(arms, tuple(range(first, first + SEEDS)), directory))
        longest = max(longest, elapsed() - round_begin)
        round_begin = elapsed()
    return plan, compare(pl.concat(tables), directory, {plan: "none"})


def choose(base: Config, plans: list[str], directory: Path, elapsed: Elapsed) -> str:
    """Halve the plans seed by seed until the time is up, and return the best plan.

    Plans that were not trained at the first seed are left out. A later seed counts only
    if all plans were trained at it.
    """
    left, tables = [arm_of(base, plan) for plan in plans], []
    while len(left) > 1 and elapsed() < CHOICE_SHARE:
        seeds = (len(tables),)
        rows = train(left, seeds, directory, lambda: elapsed() >= CHOICE_SHARE)
        whole = rows["arm"].n_unique() == len(left)
        if tables and not whole:
            break
        tables.append(rows)
        losses = pl.concat(tables).group_by("arm").agg(pl.col("validation_loss").mean())
        mean = dict(losses.iter_rows())
        left = sorted(
            (arm for arm in left if arm.name in mean), key=lambda arm: mean[arm.name]
        )
        left = left[: (len(left) + 1) // 2]
    return left[0].name


def train(
    arms: list[Arm],
    seeds: tuple[int, ...],
    directory: Path,
    enough: Callable[[], bool] = lambda: False,
) -> pl.DataFrame:
    """Train arms at some seeds until `enough`; return the rows of the trained ones."""
    rows = []
    found = trials(arms, seeds)
    for task in group(found, len(found)):
        if rows and enough():
            break
        run_tasks([task], directory)
        rows += [outcome(trial, directory, 0.0) for trial in task.trials]
    return pl.DataFrame(rows, infer_schema_length=None)


def arm_of(base: Config, plan: str) -> Arm:
    """Return the arm of a plan, with the other flags of `base`."""
    return Arm(plan, replace(canonical(replace(base, dropout=plan)), workdir=""))


def sentence(plan: str, lines: list[TableLine]) -> str:
    """Return the result of the comparison in one sentence."""
    (line,) = [x for x in lines if x.test and x.quantity.column == "test_error"]
    assert line.test
    mean, low, high = line.test.difference
    text = (
        f"test error {mean:+.2f} points against none, 95 % [{low:+.2f}, {high:+.2f}], "
        f"{line.seeds} seeds, p {p_text(line.test.p)}"
    )
    if line.test.p >= 0.05:
        return f"no difference in test error found between {plan!r} and none: {text}"
    return f"{'use' if mean < 0 else 'no dropout is better than'} {plan!r}: {text}"


def _fits(plan: str, sites: tuple[str, ...]) -> bool:
    try:
        return bool(resolve(parse(plan), sites))
    except ValueError:
        return False
