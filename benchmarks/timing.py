"""Timing of contestants in interleaved rounds, with medians and quartiles."""

import random
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.tables import Measured, Results

# Such a function makes a number of calls, or steps, and waits for the last one.
Calls = Callable[[int], None]


def measure(
    title: str, contestants: dict[str, Calls], rounds: int, seconds: float
) -> Results:
    """Time all contestants in turn, each for about `seconds` in every round."""
    counts = {name: calls_to_time(run, seconds) for name, run in contestants.items()}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    order = random.Random(0)
    for _ in track(range(rounds), title, console=Console(stderr=True)):
        for name in shuffled(list(contestants), order):
            seconds_taken = elapsed(contestants[name], counts[name])
            times[name].append(1e3 * seconds_taken / counts[name])
    return compared(times)


def shuffled(names: list[str], order: random.Random) -> list[str]:
    """Return the names in the order of the next round.

    The order changes from round to round, so that no contestant always finds the
    processor's caches as the same other one has left them.
    """
    return order.sample(names, len(names))


def compared(times: dict[str, list[float]]) -> Results:
    """Return the quartiles of each contestant's times, and its ratio to the first."""
    quartiles = {
        n: np.quantile(t, [0.25, 0.5, 0.75]).tolist() for n, t in times.items()
    }
    first = next(iter(quartiles.values()))[1]
    return {
        name: Measured(lower, median, upper, median / first)
        for name, (lower, median, upper) in quartiles.items()
    }


def calls_to_time(run: Calls, seconds: float) -> int:
    """Return how many calls take about `seconds`, once everything is compiled."""
    run(2)
    return max(2, round(seconds / (elapsed(run, 10) / 10)))


def elapsed(run: Calls, calls: int) -> float:
    """Return the seconds that a number of calls takes."""
    begin = time.perf_counter()
    run(calls)
    return time.perf_counter() - begin
