"""The tables of the reference study, from the rows of its runs."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy import stats

from pages.evidence import STUDIES
from pages.generated import table
from studies.comparison import paired
from studies.evidence import study_arms
from studies.reproduction import GATES
from studies.selection import POINTS
from studies.statistics import CONFIDENCE, Test, holm, interval, paired_t, seeds_needed
from studies.study import RESULTS
from studies.verdicts import estimate

SOURCES = ("all", "subset", "initialisation", "order", "masks")
NOISE = {"noise_mnist": "1,000 of MNIST", "noise_fashion": "5,000 of Fashion-MNIST"}
WHERE = {
    "where_mnist": "1,000 of MNIST",
    "where_fashion": "1,000 of Fashion-MNIST",
    "where_digits": "500 digits",
}
MUCH = ("how_much", "how_much_all")
WHEN = {
    "when_mnist": "1,000 of MNIST, 20 epochs",
    "when_long": "1,000 of MNIST, 100 epochs",
    "when_fashion": "1,000 of Fashion-MNIST, 20 epochs",
}
PLACES = {
    "none": "no dropout",
    "input:bernoulli:{rate}": "input",
    "conv*:bernoulli:{rate}": "convolutions",
    "pool*:bernoulli:{rate}": "after the pools",
    "fc:bernoulli:{rate}": "dense layer",
    "conv*:bernoulli:{rate} fc:bernoulli:{rate}": "convolutions and dense layer",
    "pool*:bernoulli:{rate} fc:bernoulli:{rate}": "after the pools and dense layer",
    "conv*:spatial:{rate}": "channels of convolutions",
    "conv*:dropblock(block_size=3):{rate}": "blocks of convolutions (DropBlock)",
    "pool*/window:max_pool:{rate}": "in the pools (max-pooling dropout)",
    "fc/kernel:bernoulli:{rate}": "dense weights (DropConnect)",
}
ERROR = "test_error"


def results(name: str) -> pl.DataFrame | None:
    """Return the rows of a study with its arms named as in its gates; None if not run.

    Errors are in percent.
    """
    path = STUDIES / f"{name}.{RESULTS}"
    if not path.exists():
        return None
    names = study_arms(STUDIES / f"{name}.{POINTS}")
    rows = pl.read_parquet(path).with_columns(pl.col(ERROR) * 100)
    return rows.with_columns(pl.col("arm").replace(names)) if names else rows


def present(names: Mapping[str, str]) -> dict[str, pl.DataFrame]:
    """Return the rows of those studies that have run, by their titles."""
    found = {title: results(name) for name, title in names.items()}
    return {title: rows for title, rows in found.items() if rows is not None}


def errors(rows: pl.DataFrame, arm: str) -> Float[np.ndarray, " seeds"]:
    """Return the test errors of an arm, in percent."""
    return rows.filter(arm=arm)[ERROR].to_numpy()


def deviation(
    values: Float[np.ndarray, " seeds"],
) -> tuple[float, float, float]:
    """Return a standard deviation with the ends of its 95 % interval (chi-squared)."""
    freedom, found = len(values) - 1, float(values.std(ddof=1))
    tails = stats.chi2.ppf([(1 + CONFIDENCE) / 2, (1 - CONFIDENCE) / 2], freedom)
    low, high = found * np.sqrt(freedom / tails)
    return found, float(low), float(high)


def noise_table() -> str:
    """Return the standard deviation of the test error from each source alone."""
    lines = []
    for title, rows in present(NOISE).items():
        for rate in ("0", "0.25", "0.5"):
            arms = {source: f"{source} {rate}" for source in SOURCES}
            found = {s: errors(rows, arm) for s, arm in arms.items()}
            cells = [
                _deviation(values) if len(values) else "-" for values in found.values()
            ]
            mean = f"{found['all'].mean():.2f}"
            lines.append((title, rate, mean, *cells))
    header = ("data", "rate", "error, %", *SOURCES)
    return table(header, lines)


def _deviation(values: Float[np.ndarray, " seeds"]) -> str:
    found, low, high = deviation(values)
    return f"{found:.2f} ({low:.2f} to {high:.2f})"


def seeds_table() -> str:
    """Return how many seeds find a difference between no dropout and a rate of 0.5."""
    lines = []
    for title, rows in present(NOISE).items():
        both = paired(rows, "all 0", "all 0.5", ERROR)
        spread = float((both[:, 1] - both[:, 0]).std(ddof=1))
        counts = [str(seeds_needed(spread, points)) for points in (0.1, 0.2, 0.5, 1.0)]
        lines.append((title, f"{spread:.2f}", *counts))
    header = ("data", "paired deviation", "0.1 points", "0.2", "0.5", "1")
    return table(header, lines)


def gains(rows: pl.DataFrame, baseline: str = "none") -> dict[str, Test]:
    """Return by how much each arm errs less than the baseline, paired by seed."""
    arms = rows["arm"].unique(maintain_order=True).to_list()
    found = {}
    for arm in arms:
        if arm != baseline:
            both = paired(rows, baseline, arm, ERROR)
            found[arm] = paired_t(both[:, 0] - both[:, 1])
    return found


def where_table() -> str:
    """Return error and gain of each place, tuned alike, for each data set."""
    found = present(WHERE)
    by_data = {title: _place_cells(rows) for title, rows in found.items()}
    lines = [
        (label, *(cell for cells in by_data.values() for cell in cells[arm]))
        for arm, label in PLACES.items()
    ]
    header = [f"{title}: {x}" for title in found for x in ("gain", "rate")]
    return table(("dropout", *header), lines)


def _place_cells(rows: pl.DataFrame) -> dict[str, tuple[str, str]]:
    """Return the error of no dropout, and the gain and the rate of each place."""
    tests = gains(rows)
    corrected = dict(zip(tests, holm([test.p for test in tests.values()])))
    cells = {"none": (f"error {estimate(interval(errors(rows, 'none')), 2, '')}", "")}
    for arm, test in tests.items():
        star = " *" if corrected[arm] < 0.05 else ""
        cells[arm] = (f"{estimate(test.difference, 2, '+')}{star}", _rate(rows, arm))
    return cells


def _rate(rows: pl.DataFrame, arm: str) -> str:
    """Return the rate that was chosen for a place, the first one in its plan."""
    plan = str(rows.filter(arm=arm)["dropout"][0])
    return plan.split()[0].rpartition(":")[2]


def much_rows() -> pl.DataFrame | None:
    """Return the rows of all sizes, with columns for the rate and the size."""
    found = [rows for rows in map(results, MUCH) if rows is not None]
    if not found:
        return None
    rate = pl.col("dropout").str.extract(r":([\d.]+)$").fill_null("0")
    size = pl.col("arm").str.extract(r"\| (\d+)$").cast(pl.Int64)
    rows = pl.concat(found, how="diagonal_relaxed")
    return rows.with_columns(rate.cast(pl.Float64).alias("rate"), size.alias("size"))


def much_table() -> str:
    """Return the error at each rate and number of examples."""
    rows = much_rows()
    if rows is None:
        return ""
    sizes, rates = (sorted(rows[name].unique()) for name in ("size", "rate"))
    best = {size: _best(rows.filter(size=size)) for size in sizes}
    lines = [
        (f"{rate:g}", *(_error(rows, size, rate, best[size]) for size in sizes))
        for rate in rates
    ]
    return table(("rate", *(f"{size:,} examples" for size in sizes)), lines)


def _best(rows: pl.DataFrame) -> float:
    return rows.group_by("rate").agg(pl.col(ERROR).mean()).sort(ERROR)["rate"][0]


def _error(rows: pl.DataFrame, size: int, rate: float, best: float) -> str:
    values = rows.filter(size=size, rate=rate)[ERROR].to_numpy()
    text = estimate(interval(values), 2, "")
    return f"**{text}**" if rate == best else text


def when_table() -> str:
    """Return the difference of each schedule to a constant rate, for each data set."""
    found = {title: gains(rows, "constant") for title, rows in present(WHEN).items()}
    if not found:
        return ""
    arms = list(next(iter(found.values())))
    lines = [
        (arm, *(estimate(tests[arm].difference, 2, "+") for tests in found.values()))
        for arm in arms
    ]
    return table(("schedule", *found), lines)


def gate_paths() -> dict[str, Path]:
    """Return the files of gates of the reference study, by name, in its order."""
    names = (*NOISE, *WHERE, "where_long", "where_path", *MUCH, *WHEN)
    return {name: STUDIES / f"{name}{GATES}" for name in names}
