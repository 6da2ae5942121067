"""Contestants timed in turn: interleaved, medians with their quartiles."""

import random
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.tables import Measured, Results

Calls = Callable[[int], None]  # So many calls or steps, and waiting for the last.


def measure(
    title: str, contestants: dict[str, Calls], rounds: int, seconds: float
) -> Results:
    """Times all contestants in turn, each for about so many seconds a round.

    In another order every round, so that none always follows the same one.
    """
    counts = {name: calls_to_time(run, seconds) for name, run in contestants.items()}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    order = random.Random(0)
    for _ in track(range(rounds), title, console=Console(stderr=True)):
        for name in order.sample(list(contestants), len(contestants)):
            seconds_taken = elapsed(contestants[name], counts[name])
            times[name].append(1e3 * seconds_taken / counts[name])
    quartiles = {
        n: np.quantile(t, [0.25, 0.5, 0.75]).tolist() for n, t in times.items()
    }
    first = next(iter(quartiles.values()))[1]
    return {
        name: Measured(q[0], q[1], q[2], q[1] / first) for name, q in quartiles.items()
    }


def calls_to_time(run: Calls, seconds: float) -> int:
    """So many calls that they take about so long, after some that compile."""
    run(2)
    return max(2, round(seconds / (elapsed(run, 10) / 10)))


def elapsed(run: Calls, calls: int) -> float:
    """Seconds of so many calls."""
    begin = time.perf_counter()
    run(calls)
    return time.perf_counter() - begin
